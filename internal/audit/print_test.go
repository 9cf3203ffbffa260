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

func TestTallyText(t *testing.T) {
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tally := Tally{
		Verdict: Found, By: ByHour, Lost: 2, Quarantined: 1, Batches: 1033, Agents: 2, GapsLeftOut: 4, Since: since, Until: since.Add(2 * time.Hour),
		Groups: []Group{{Hour: since, Agents: 1, Sent: 1000, Stored: 1000}, {Hour: since.Add(time.Hour), Agents: 2, Sent: 33, Stored: 30, Quarantined: 1, Lost: 2}},
		Gaps:   []Gap{{Table: "gpu_samples", Node: "anna", Epoch: 1772366400000, From: 4, To: 5, Hour: since.Add(time.Hour)}},
	}
	const head = "        sent       stored  quarantined       lost  duplicated   agents  "
	for _, tt := range []struct {
		change func(t *Tally)
		want   string
	}{
		{func(*Tally) {}, head + `hour
        1000         1000            0          0           0        1  2026-03-01 12:00:00 UTC
          33           30            1          2           0        2  2026-03-01 13:00:00 UTC
gap in the hour of 2026-03-01 13:00:00 UTC: anna gpu_samples: batches 4 to 5 of the agent's life from 2026-03-01 12:00:00 UTC
and 4 gaps more
2 lost, 0 duplicated in 1,033 batches of 2 agents, by the ledger from 2026-03-01 12:00:00 UTC to 2026-03-01 14:00:00 UTC; 1 in quarantine; the rows themselves are counted without --by
`},
		{func(t *Tally) {
			*t = Tally{Verdict: Clean, By: ByNode, Batches: 7, Agents: 1, Since: since, Until: since, Groups: []Group{{Node: "anna", Agents: 1, Sent: 7, Stored: 7}}}
		}, head + `agent
           7            7            0          0           0        1  anna
0 lost, 0 duplicated in 7 batches of 1 agent, by the ledger from 2026-03-01 12:00:00 UTC to 2026-03-01 12:00:00 UTC; the rows themselves are counted without --by
`},
		{
			func(t *Tally) { *t = Tally{Verdict: Nothing, By: ByNode, Since: since, Until: since} },
			"nothing to audit: no agent has a batch that was recorded from 2026-03-01 12:00:00 UTC to 2026-03-01 12:00:00 UTC\n",
		},
	} {
		changed := tally
		tt.change(&changed)
		var got strings.Builder
		if err := changed.WriteText(&got); err != nil || got.String() != tt.want {
			t.Errorf("%v, got:\n%s\nwant:\n%s", err, got.String(), tt.want)
		}
	}
	var got strings.Builder
	if err := tally.WriteJSON(&got); err != nil || !strings.Contains(got.String(), `"groups":[{"hour":"2026-03-01T12:00:00Z","agents":1,"sent":1000,"stored":1000,"quarantined":0,"lost":0,"duplicated":0},`) ||
		!strings.Contains(got.String(), `"from":4,"to":5,"hour":"2026-03-01T13:00:00Z"}`) {
		t.Errorf("%v: %s", err, got.String())
	}
}
