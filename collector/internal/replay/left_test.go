// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
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

// TestAnotherShardIsAway: what the log has of nodes that a shard had before which does not answer is left until it does, and
// keeps nothing else from being stored. Its agents have as long then as any other.
func TestAnotherShardIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := key(1)
		other.Node = 8
		w := newWorld(t, batchlog.Unit{Token: "unit", Keys: []wire.Key{key(1), other}})
		w.former = map[uint64]bool{key(1).Node: true}
		cfg, began := w.config(index.New(w)), time.Now()
		cfg.FormerWait = 5 * time.Second
		r, err := Claim(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < cfg.FormerWait || waited > cfg.FormerWait+time.Second {
			t.Errorf("agents of other nodes waited for %s", waited)
		}
		if err := r.Run(t.Context()); err != nil || len(w.took) != 1 || w.took[0].Token != "" || !slices.Equal(w.settled, []wire.Key{other}) || !slices.Equal(w.left, []wire.Key{key(1)}) {
			t.Errorf("took %v, settled %v, left %v: %v", w.took, w.settled, w.left, err)
		}
		l := w.leave(time.Minute, key(1))
		for _, away := range []bool{true, false, false} {
			w.former[key(1).Node] = away
			<-time.After(45 * time.Second)
			l.look(t.Context())
			if len(w.took) > 1 && time.Since(began) < 2*time.Minute {
				t.Error("its agent had no minute since the shard is back")
			}
		}
		if len(w.took) != 2 || len(l.waiting) != 0 {
			t.Errorf("took %v, %d wait", w.took, len(l.waiting))
		}
	})
}

// TestComesAgain: the store could not look on another shard for a batch, which is neither stored nor refused then.
func TestComesAgain(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Keys: []wire.Key{key(1)}})
	w.refuse = fmt.Errorf("batch: %w", store.ErrFormerAway)
	x := index.New(w)
	r, err := Claim(t.Context(), w.config(x))
	if err != nil {
		t.Fatal(err)
	}
	h, err := x.Open(t.Context(), index.LifeOf(key(1)), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	ends := []index.End{}
	h.Claim(1, func(e index.End, _ string) { ends = append(ends, e) })
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.settled)+len(w.kept) > 0 || !slices.Equal(w.left, []wire.Key{key(1)}) || !slices.Equal(ends, []index.End{index.Again}) {
		t.Errorf("settled %v, kept %v, left %v, ended with %v", w.settled, w.kept, w.left, ends)
	}
	if state := h.Claim(1, func(index.End, string) {}); state != index.Fresh {
		t.Errorf("sent again it is %v", state)
	}
}
