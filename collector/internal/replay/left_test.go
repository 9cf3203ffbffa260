// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func (w *world) leave(patience time.Duration, keys ...wire.Key) *Left {
	l := NewLeft(LeftConfig{Config: w.config(index.New(w)), Look: time.Hour, Patience: patience})
	for _, k := range keys {
		l.Add(k)
	}
	return l
}

// TestReplayLeaves to another collector what that one has.
func TestReplayLeaves(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Token: "unit", Keys: []wire.Key{key(1), key(2)}}, batchlog.Unit{Keys: []wire.Key{key(3)}})
	w.held = map[uint64]bool{key(1).Node: true}
	w.run(t.Context(), t)
	if len(w.took)+len(w.settled) > 0 || !slices.Equal(w.left, []wire.Key{key(1), key(2), key(3)}) {
		t.Errorf("took %v, settled %v, left %v", w.took, w.settled, w.left)
	}
}

// TestLeft: what the ledger has, as stored or as quarantined, leaves the log, what it does not have waits, and is stored once it has waited long enough.
func TestLeft(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Keys: []wire.Key{key(1), key(2), key(3)}})
	w.stored, w.spoilt = []uint64{2}, []uint64{3}
	l := w.leave(time.Hour, key(1), key(2), key(3))
	l.look(t.Context())
	slices.SortFunc(w.settled, func(a, b wire.Key) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if !slices.Equal(w.settled, []wire.Key{key(2), key(3)}) || len(w.took) > 0 || len(l.waiting) != 1 {
		t.Errorf("settled %v, took %v, %d wait", w.settled, w.took, len(l.waiting))
	}
	l.cfg.Patience = 0
	l.look(t.Context())
	if !slices.Equal(w.settled, []wire.Key{key(2), key(3), key(1)}) || len(w.took) != 1 || len(l.waiting) != 0 {
		t.Errorf("settled %v, took %v, %d wait", w.settled, w.took, len(l.waiting))
	}
}

// TestLeftIsLeftAgain: its agent has gone once more while it was being stored.
func TestLeftIsLeftAgain(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Keys: []wire.Key{key(1)}})
	w.refuse = store.Moved{Key: key(1)}
	l := w.leave(0, key(1))
	l.look(t.Context())
	if len(w.settled)+len(w.damaged)+len(w.kept) > 0 || len(w.took) != 1 || len(l.waiting) != 1 {
		t.Errorf("settled %v, kept %v, took %v, %d wait", w.settled, w.kept, w.took, len(l.waiting))
	}
	w.refuse = nil
	l.look(t.Context())
	if !slices.Equal(w.settled, []wire.Key{key(1)}) || len(l.waiting) != 0 {
		t.Errorf("settled %v, %d wait", w.settled, len(l.waiting))
	}
}
