// SPDX-License-Identifier: Apache-2.0

package up

import (
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
