// SPDX-License-Identifier: Apache-2.0

package up

import (
	"bytes"
	"testing"

	"github.com/gpufleet/gpufleet/agent"
)

// The store cannot know of batches that never reached it.
func TestWhatNeverReachedTheStoreIsLost(t *testing.T) {
	r := Result{Rows: 90, Lost: 1}
	r.hold(agent.Stats{Rows: 100, BatchesDropped: 2, BatchesWaiting: 3, MissedTicks: 4})
	if r.Lost != 5 || r.LostRows != 10 || r.MissedTicks != 4 || r.OK() {
		t.Errorf("lost %d batches, %d rows, missed %d ticks, ok %t", r.Lost, r.LostRows, r.MissedTicks, r.OK())
	}
	all := Result{Rows: 102, DuplicatedRows: 2}
	all.hold(agent.Stats{Rows: 100})
	if all.LostRows != 0 || all.OK() {
		t.Errorf("lost rows %d, ok %t: want the duplicates found and nothing lost", all.LostRows, all.OK())
	}
}

func TestResultInWords(t *testing.T) {
	for _, tt := range []struct {
		r    Result
		want string
	}{
		{
			Result{Rows: 1, GPUs: 1, Seconds: 9.6, MissedTicks: 1, FreshnessP50Millis: 1234, FreshnessP99Millis: 2345, Batches: 1},
			"stored 1 row of 1 GPU in 10 s; 1 tick missed\nthis machine was too slow for so many nodes: rows that were not read are missing, and are not counted as lost\nhalf of the rows were stored within 1.2 s of being read, 99 % within 2.3 s\n1 batch: 0 lost, 0 duplicated, 0 in quarantine\n",
		},
		{
			Result{Rows: 20, GPUs: 8, Clouds: 2, Seconds: 3, Batches: 4, Lost: 3, Duplicated: 2, Quarantined: 1},
			"stored 20 rows of 8 GPUs in 2 clouds in 3 s; 0 ticks missed\nhalf of the rows were stored within 0.0 s of being read, 99 % within 0.0 s\n4 batches: 3 lost, 2 duplicated, 1 in quarantine\n",
		},
		{Result{Seconds: 1}, "stored 0 rows of 0 GPUs in 1 s; 0 ticks missed\n0 batches: 0 lost, 0 duplicated, 0 in quarantine\n"},
	} {
		var out bytes.Buffer
		if err := tt.r.Print(&out, false); err != nil || out.String() != tt.want {
			t.Errorf("got  %swant %s%v", out.String(), tt.want, err)
		}
	}
}
