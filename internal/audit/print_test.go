// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"strings"
	"testing"
	"time"
)

func sampleReport() Report {
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return Report{
		Verdict: Found, Lost: 3, Duplicated: 1, Quarantined: 2, LostRows: 3, DuplicatedRows: 6, Batches: 1234567, Rows: 99, Agents: 100, GapsLeftOut: 1, settle: time.Minute,
		Since: since, Until: since.Add(2 * time.Hour), OnTheirWay: OnTheWay{Batches: 4321, Agents: 12}, Tables: []Table{{Name: "gpu_samples", Since: since}, {Name: "gpu_subsecond", Since: since.Add(time.Hour)}},
		Lines: []Line{{Node: "anna", Table: "gpu_samples", Sent: 20, Stored: 15, Quarantined: 2, Lost: 3, Duplicated: 1}},
		Gaps: []Gap{
			{Table: "gpu_samples", Node: "anna", Epoch: 1772366400000, From: 4, To: 5},
			{Table: "gpu_samples", Node: "anna", Epoch: 1772366400000, From: 9, To: 9},
		},
	}
}

func TestText(t *testing.T) {
	var got strings.Builder
	if err := sampleReport().WriteText(&got); err != nil {
		t.Fatal(err)
	}
	want := `        sent       stored  quarantined       lost  duplicated  unrecorded  table           agent
          20           15            2          3           1           0  gpu_samples     anna
gap: anna gpu_samples: batches 4 to 5 of the agent's life from 2026-03-01 12:00:00 UTC
gap: anna gpu_samples: batch 9 of the agent's life from 2026-03-01 12:00:00 UTC
and 1 gaps more
gpu_subsecond is audited since 2026-03-01 13:00:00 UTC: older rows go by age
3 lost, 1 duplicated in 1,234,567 batches of 100 agents, recorded from 2026-03-01 12:00:00 UTC to 2026-03-01 14:00:00 UTC; 4,321 batches of the last 1m0s left out: more may be on its way; 2 in quarantine
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestJSON(t *testing.T) {
	var got strings.Builder
	if err := sampleReport().WriteJSON(&got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"verdict":"found","lost":3,"duplicated":1,"quarantined":2,"unrecorded":0,"lost_rows":3,"duplicated_rows":6,"batches":1234567,"rows":99,"agents":100,`,
		`"gaps":[{"table":"gpu_samples","node":"anna","epoch":1772366400000,"from":4,"to":5},`, `"since":"2026-03-01T12:00:00Z","until":"2026-03-01T14:00:00Z","on_their_way":{"batches":4321,"agents":12}`,
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%s\nlacks %s", got.String(), want)
		}
	}
	if strings.Count(got.String(), "\n") != 1 {
		t.Error("not one line")
	}
}

// TestNothingToAudit: what was not looked at must not read like a pass.
func TestNothingToAudit(t *testing.T) {
	const from = "nothing to audit yet: no agent has a batch that was recorded from 2026-03-01 12:00:00 UTC to 2026-03-01 14:00:00 UTC; "
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	empty := Report{Verdict: Nothing, Since: since, Until: since.Add(2 * time.Hour), settle: time.Minute}
	young, old := empty, empty
	young.OnTheirWay = OnTheWay{Batches: 1234, Agents: 1}
	old.newest = since.Add(-time.Hour)
	for _, tt := range []struct {
		report Report
		want   string
	}{
		{empty, "the ledger is empty: no collector has stored anything here. Do agents and a collector run?"},
		{young, "1,234 batches of 1 agent of the last 1m0s left out, as more may be on its way: ask again in a minute"},
		{old, "the newest entry of the ledger is of 2026-03-01 11:00:00 UTC: --since looks further back"},
	} {
		var got strings.Builder
		if err := tt.report.WriteText(&got); err != nil || got.String() != from+tt.want+"\n" {
			t.Errorf("%v: %s\nwant %s", err, got.String(), from+tt.want)
		}
	}
}
