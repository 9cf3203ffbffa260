// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is everything around a replay: a log, a ledger and a store.
type world struct {
	batches map[wire.Key]*wire.Batch
	units   []batchlog.Unit
	settled []wire.Key
	damaged []wire.Key
	columns map[wire.Key][]string // that a batch has
	unread  map[wire.Key]error    // what Read answers
	stored  []uint64              // sequences that the ledger has
	spoilt  []uint64              // and those that it has as quarantined
	away    int                   // questions that it does not answer
	asked   chan struct{}         // not nil: the ledger answers once it is asked of each unit's life
	held    map[uint64]bool       // nodes whose agents another collector has
	former  map[uint64]bool       // nodes which a shard had before that does not answer
	left    []wire.Key
	refuse  error
	scopes  []wire.Scope    // of what the store took
	took    []batchlog.Unit // by the store, as units
	full    error           // what the quarantine answers
	deaf    error           // what the ledger answers to an entry
	kept    []quarantine.Entry
	entered []wire.Key // in the ledger, as quarantined
}

func key(sequence uint64) wire.Key {
	return wire.Key{Table: schema.EventsID, Node: 7, Epoch: 9, Sequence: sequence}
}

func newWorld(t *testing.T, units ...batchlog.Unit) *world {
	t.Helper()
	w := &world{batches: map[wire.Key]*wire.Batch{}, units: units, unread: map[wire.Key]error{}, columns: map[wire.Key][]string{}}
	table := batchtest.Table(t, schema.EventsID)
	for _, u := range units {
		for _, k := range u.Keys {
			w.batches[k] = batchtest.Encode(t, batchtest.Record(table, k.Sequence, 3, noon), k)
		}
	}
	return w
}

// age makes a batch one of an earlier version, whose table had not the last column yet.
func (w *world) age(t *testing.T, k wire.Key) {
	t.Helper()
	table := batchtest.Table(t, k.Table)
	older := schema.Table{ID: table.ID, Name: table.Name, Columns: table.Columns[:len(table.Columns)-1]}
	for _, c := range older.WireColumns() {
		w.columns[k] = append(w.columns[k], c.Name)
	}
	w.batches[k] = batchtest.Encode(t, batchtest.Record(older, k.Sequence, 3, noon), k)
}

func (w *world) Pending() []batchlog.Unit { return w.units }

func (w *world) Read(k wire.Key) (batchlog.Kept, error) {
	if err := w.unread[k]; err != nil {
		return batchlog.Kept{}, fmt.Errorf("read batch %v: %w", k, err)
	}
	return batchlog.Kept{Batch: w.batches[k], Columns: w.columns[k]}, nil
}

func (w *world) Damaged(k wire.Key) {
	w.damaged = append(w.damaged, k)
	w.Settle(k)
}

func (w *world) Settle(keys ...wire.Key) { w.settled = append(w.settled, keys...) }

func (w *world) Claim(ctx context.Context, _ uint8, node, _, _ uint64, gently bool) (store.Grant, error) {
	if w.asked != nil {
		return store.Grant{Tenure: 1}, w.gather(ctx)
	}
	if w.away > 0 {
		w.away--
		return store.Grant{}, errors.New("ClickHouse is away")
	}
	if w.former[node] {
		return store.Grant{}, store.ErrFormerAway
	}
	if gently && w.held[node] {
		return store.Grant{}, store.ErrHeld
	}
	return store.Grant{Tenure: 1, Doubtful: true, Stored: w.stored}, nil
}

func (w *world) Ended(_ context.Context, _ uint8, node, _, _ uint64) ([]uint64, error) {
	if w.former[node] {
		return nil, store.ErrFormerAway
	}
	return slices.Concat(w.stored, w.spoilt), nil
}

// gather waits until as many questions are asked as there are units.
func (w *world) gather(ctx context.Context) error {
	w.asked <- struct{}{}
	for len(w.asked) < len(w.units) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *world) Submit(ctx context.Context, i store.Item) error {
	return w.Resume(ctx, "", []store.Item{i})
}

func (w *world) Resume(ctx context.Context, token string, items []store.Item) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	u := batchlog.Unit{Token: token}
	for _, i := range items {
		u.Keys = append(u.Keys, i.Key)
		w.scopes = append(w.scopes, i.Scope)
		if i.Columns.Rows() != 3 || !i.From.Equal(noon) || !i.To.Equal(noon.Add(2*time.Second)) {
			return errors.New("the batch is another")
		}
		i.Columns.Release()
		i.Done(w.refuse)
	}
	w.took = append(w.took, u)
	return nil
}

func (w *world) Quarantined(_ context.Context, k wire.Key, rows int64, reason string) error {
	if rows != 3 || reason != "never" {
		return fmt.Errorf("%d rows, refused because of %q", rows, reason)
	}
	w.entered = append(w.entered, k)
	return w.deaf
}

func (w *world) Put(e quarantine.Entry, d quarantine.Data) (string, error) {
	k := key(e.Sequence)
	if b := w.batches[k]; e.Table != "gpu_events" || e.Node != k.Node || e.Epoch != k.Epoch || !bytes.Equal(d.Body, b.Body) || !bytes.Equal(d.Metadata, b.Metadata) {
		return "", fmt.Errorf("entry %+v is of another batch", e)
	}
	w.kept = append(w.kept, e)
	return "", w.full
}

// TestForeignZone: what an earlier life has accepted is not stored if it may not be any more, and is kept as whose it is.
func TestForeignZone(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Token: "unit", Keys: []wire.Key{key(1), key(2)}}, batchlog.Unit{Keys: []wire.Key{key(3)}})
	w.batches[key(1)].Scope = wire.Scope{Tenant: "acme", Residency: "eu"}
	for _, n := range []uint64{2, 3} {
		w.batches[key(n)].Scope = wire.Scope{Tenant: "acme", Residency: "us"}
	}
	cfg := w.config(index.New(w))
	cfg.MayStore = func(s wire.Scope) error {
		if s.Residency != "eu" {
			return errors.New("never")
		}
		return nil
	}
	r, err := Claim(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.took) != 1 || w.took[0].Token != "" || !slices.Equal(w.took[0].Keys, []wire.Key{key(1)}) || w.scopes[0].Residency != "eu" {
		t.Errorf("stored %v of %v", w.took, w.scopes)
	}
	if len(w.kept) != 2 || w.kept[0].Tenant != "acme" || w.kept[0].Residency != "us" || len(w.settled) != 3 {
		t.Errorf("kept %+v, settled %v", w.kept, w.settled)
	}
}

// TestRefused: what ClickHouse will never take leaves the log for the quarantine, once that is on record.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		end    index.End
	}{
		"kept":                   {func(*world) {}, index.Rejected},
		"the quarantine is full": {func(w *world) { w.full = quarantine.ErrFull }, index.Again},
		"the ledger is away":     {func(w *world) { w.deaf = errors.New("away") }, index.Again},
	} {
		w := newWorld(t, batchlog.Unit{Token: "unit", Keys: []wire.Key{key(1)}}, batchlog.Unit{Keys: []wire.Key{key(2)}})
		w.refuse = errors.New("never")
		c.change(w)
		x := index.New(w)
		r, err := Claim(t.Context(), w.config(x))
		if err != nil {
			t.Fatal(err)
		}
		var ends []index.End
		for _, k := range []wire.Key{key(1), key(2)} {
			h, err := x.Open(t.Context(), index.LifeOf(k), 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			h.Claim(k.Sequence, func(e index.End, _ string) {
				ends = append(ends, e)
				if e == index.Rejected && !slices.Contains(w.settled, k) {
					t.Errorf("%s: %v may come again before it is forgotten", name, k)
				}
			})
		}
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		wanted := map[index.End]int{index.Rejected: 2}[c.end]
		if !slices.Equal(ends, []index.End{c.end, c.end}) || len(w.settled) != wanted || len(w.kept) != 2 || len(w.entered) < wanted {
			t.Errorf("%s: ended with %v, settled %v, kept %v, on record %v", name, ends, w.settled, w.kept, w.entered)
		}
	}
}

func (w *world) config(x *index.Index) Config {
	return Config{Name: "test", Log: w, Index: x, Store: w, Quarantine: w, Logger: slog.New(slog.DiscardHandler), RetryWait: time.Millisecond, Left: func(k wire.Key) { w.left = append(w.left, k) }}
}

// run replays.
func (w *world) run(ctx context.Context, t *testing.T) {
	t.Helper()
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	r, err := Claim(claiming, w.config(index.New(w)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestReplay(t *testing.T) {
	unit := batchlog.Unit{Token: "unit", Keys: []wire.Key{key(2), key(1)}}
	loose := batchlog.Unit{Keys: []wire.Key{key(3)}}
	for name, c := range map[string]struct {
		change  func(*world)
		took    []batchlog.Unit
		settled []uint64
		damaged []wire.Key
	}{
		"a unit, and what is in none": {
			took: []batchlog.Unit{unit, loose}, settled: []uint64{1, 2, 3},
		},
		"the ledger does not answer at once": {
			change: func(w *world) { w.away = 3 },
			took:   []batchlog.Unit{unit, loose}, settled: []uint64{1, 2, 3},
		},
		"all of it is stored": {
			change:  func(w *world) { w.stored = []uint64{1, 2, 3} },
			settled: []uint64{1, 2, 3},
		},
		"part of the unit is stored": {
			change: func(w *world) { w.stored = []uint64{2} },
			took:   []batchlog.Unit{{Keys: []wire.Key{key(1)}}, loose}, settled: []uint64{1, 2, 3},
		},
		"a batch of the unit is damaged": {
			change: func(w *world) { w.unread[key(2)] = frames.ErrBad },
			took:   []batchlog.Unit{{Keys: []wire.Key{key(1)}}, loose}, settled: []uint64{1, 2, 3}, damaged: []wire.Key{key(2)},
		},
		"a batch in no unit is damaged": {
			change: func(w *world) { w.unread[key(3)] = frames.ErrBad },
			took:   []batchlog.Unit{unit}, settled: []uint64{1, 2, 3}, damaged: []wire.Key{key(3)},
		},
		"a batch cannot be decoded": {
			change: func(w *world) { w.batches[key(3)].Body = w.batches[key(3)].Body[:9] },
			took:   []batchlog.Unit{unit}, settled: []uint64{1, 2, 3}, damaged: []wire.Key{key(3)},
		},
		"an earlier version accepted a batch of the unit": {
			change: func(w *world) { w.age(t, key(2)) },
			took:   []batchlog.Unit{unit, loose}, settled: []uint64{1, 2, 3},
		},
		"the disk does not give a batch of the unit": {
			change: func(w *world) { w.unread[key(2)] = syscall.EIO },
			took:   []batchlog.Unit{{Keys: []wire.Key{key(1)}}, loose}, settled: []uint64{1, 3},
		},
		"too many files are open for a batch in no unit": {
			change: func(w *world) { w.unread[key(3)] = syscall.EMFILE },
			took:   []batchlog.Unit{unit}, settled: []uint64{1, 2},
		},
		"ClickHouse refuses": {
			change: func(w *world) { w.refuse = errors.New("never") },
			took:   []batchlog.Unit{unit, loose}, settled: []uint64{1, 2, 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, unit, loose)
			if c.change != nil {
				c.change(w)
			}
			w.run(t.Context(), t)
			same := func(a, b batchlog.Unit) bool { return a.Token == b.Token && slices.Equal(a.Keys, b.Keys) }
			if !slices.EqualFunc(w.took, c.took, same) {
				t.Errorf("stored %v, want %v", w.took, c.took)
			}
			var settled []uint64
			for _, k := range w.settled {
				settled = append(settled, k.Sequence)
			}
			slices.Sort(settled)
			if !slices.Equal(settled, c.settled) {
				t.Errorf("settled %v, want %v", settled, c.settled)
			}
			if !slices.Equal(w.damaged, c.damaged) {
				t.Errorf("damaged %v, want %v", w.damaged, c.damaged)
			}
		})
	}
}

// TestSentAgain: an agent that sends a batch of the log again waits for what becomes of it.
func TestSentAgain(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Keys: []wire.Key{key(5)}})
	x := index.New(w)
	r, err := Claim(t.Context(), w.config(x))
	if err != nil {
		t.Fatal(err)
	}
	h, err := x.Open(t.Context(), index.Life{Table: schema.EventsID, Node: 7, Epoch: 9}, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	var end index.End
	if state := h.Claim(5, func(e index.End, _ string) { end = e }); state != index.Flying {
		t.Errorf("state %v: it will be stored twice", state)
	}
	if err := r.Run(t.Context()); err != nil || end != index.Stored {
		t.Errorf("ended with %v: %v", end, err)
	}
}

// TestLivesAreAskedForAtOnce: after the crash of a fleet's collector there are thousands.
func TestLivesAreAskedForAtOnce(t *testing.T) {
	var units []batchlog.Unit
	for node := range uint64(100) {
		units = append(units, batchlog.Unit{Keys: []wire.Key{{Table: schema.EventsID, Node: node, Epoch: 9, Sequence: 1}}})
	}
	w := newWorld(t, units...)
	w.asked = make(chan struct{}, len(units))
	w.run(t.Context(), t)
	if len(w.took) != len(units) {
		t.Errorf("%d batches stored of %d", len(w.took), len(units))
	}
}

// TestStop leaves everything in the log.
func TestStop(t *testing.T) {
	w := newWorld(t, batchlog.Unit{Token: "unit", Keys: []wire.Key{key(1)}}, batchlog.Unit{Keys: []wire.Key{key(2)}})
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	w.run(stopped, t)
	if len(w.took)+len(w.settled) > 0 {
		t.Errorf("stored %v, settled %v", w.took, w.settled)
	}
	w.away = 1 << 30
	if _, err := Claim(stopped, Config{Log: w, Index: index.New(w), Store: w, Logger: slog.New(slog.DiscardHandler), RetryWait: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
