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
		Lost: 3, Duplicated: 1, Quarantined: 2, LostRows: 3, DuplicatedRows: 6, Batches: 1234567, Rows: 99, Agents: 100, GapsLeftOut: 1, settle: time.Minute,
		Since: since, Tables: []Table{{Name: "gpu_samples", Since: since}, {Name: "gpu_subsecond", Since: since.Add(time.Hour)}},
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
3 lost, 1 duplicated in 1,234,567 batches of 100 agents since 2026-03-01 12:00:00 UTC, without those of the last 1m0s; 2 in quarantine
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
		`{"lost":3,"duplicated":1,"quarantined":2,"unrecorded":0,"lost_rows":3,"duplicated_rows":6,"batches":1234567,"rows":99,"agents":100,`,
		`"gaps":[{"table":"gpu_samples","node":"anna","epoch":1772366400000,"from":4,"to":5},`, `"since":"2026-03-01T12:00:00Z"`,
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("%s\nlacks %s", got.String(), want)
		}
	}
	if strings.Count(got.String(), "\n") != 1 {
		t.Error("not one line")
	}
}
