// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		budget, held, open, came, became int64
		want                             uint32
	}{
		{64 << 20, 0, 1, 0, 0, maxWindowBytes},
		{64 << 20, 0, 0, 0, 0, maxWindowBytes},
		{64 << 20, 0, 64, 0, 0, 1 << 20},
		{64 << 20, 0, 64, 1000, 4100, 256 << 10},
		{64 << 20, 0, 64, 1000, 900, 1 << 20},
		{64 << 20, 32 << 20, 64, 0, 0, 512 << 10},
		{64 << 20, 64 << 20, 1, 0, 0, minWindowBytes},
		{64 << 20, 65 << 20, 1, 0, 0, minWindowBytes},
		{64 << 20, 0, 100_000, 0, 0, minWindowBytes},
	} {
		s := share{budget: c.budget}
		s.held.Store(c.held)
		s.open.Store(c.open)
		s.came.Store(c.came)
		s.became.Store(c.became)
		if got := s.window(); got != c.want {
			t.Errorf("window of %d open streams with %d of %d bytes held, %d became %d: %d, want %d", c.open, c.held, c.budget, c.came, c.became, got, c.want)
		}
	}
}

func TestShares(t *testing.T) {
	var sum int64
	shares := newShares(256 << 20)
	for _, s := range shares {
		sum += s.budget
	}
	if sum > 256<<20 || sum < 255<<20 {
		t.Errorf("%d bytes are shared out", sum)
	}
	if samples, events := shares[schema.SamplesID].budget, shares[schema.EventsID].budget; samples < 100<<20 || events < 14<<20 {
		t.Errorf("shares of %d bytes for samples, %d for events", samples, events)
	}
}

// TestFullTableStopsNoOther: samples that cannot be stored fill their memory. Events go on.
func TestFullTableStopsNoOther(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = 64 << 10 })
	f.set(func() { f.hold = true })
	for epoch := range uint64(4) {
		a := f.agent(t, func(a *agent) { a.table, a.epoch = batchtest.Table(t, schema.SamplesID), 1+epoch })
		a.send(data(a.large(1, 300))) // takes the table's whole share
	}
	f.await(t, "samples", func() bool { return len(f.held) == 1 })
	events := f.agent(t, nil)
	events.send(events.batch(1))
	f.await(t, "events", func() bool { return len(f.held) == 2 })
	held := 0
	for held < 5 {
		f.await(t, "more", func() bool { return len(f.held) > 0 })
		held += f.settle()
	}
	events.want(wire.Stored, 1)
}

// large makes a batch of many rows.
func (a *agent) large(sequence uint64, rows int) *wire.Batch {
	a.t.Helper()
	times := make([]time.Time, rows)
	for i := range times {
		times[i] = noon.Add(-time.Duration(i) * time.Millisecond)
	}
	return batchtest.Encode(a.t, batchtest.RecordAt(a.table, sequence, times...), a.key(sequence))
}

// TestMemoryIsBounded has agents send far more than the collector may hold, while nothing is stored.
func TestMemoryIsBounded(t *testing.T) {
	const agents, batches, memory = 3, 20, 2 << 20
	bound := newShares(memory)[schema.SamplesID].budget
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = memory })
	var most int64
	sizes := map[wire.Key]int64{}
	var mu sync.Mutex
	f.set(func() {
		f.hold = true
		f.check = func(held []store.Item) {
			mu.Lock()
			defer mu.Unlock()
			var sum int64
			for _, i := range held {
				sum += sizes[i.Key]
			}
			most = max(most, sum)
		}
	})
	var all []*agent
	for n := range uint64(agents) {
		a := f.agent(t, func(a *agent) {
			a.table, a.epoch, a.name = batchtest.Table(t, schema.SamplesID), 1+n, fmt.Sprintf("node-%d", n)
		})
		all = append(all, a)
		var made []*wire.Batch
		for s := uint64(1); s <= batches; s++ {
			b := a.large(s, 300)
			mu.Lock()
			sizes[a.key(s)] = int64(b.Identity.Size)
			mu.Unlock()
			made = append(made, b)
		}
		go func() { // what is over waits in the network as soon as the collector is full
			for _, b := range made {
				a.send(data(b))
			}
		}()
	}
	late := f.agent(t, nil) // a full collector still says hello
	late.send(late.batch(1))
	stored := 0
	for stored < agents*batches+1 {
		f.await(t, "more batches", func() bool { return len(f.held) > 0 })
		stored += f.settle()
	}
	late.want(wire.Stored, 1)
	for _, a := range all {
		var got []uint64
		for range batches {
			got = append(got, a.answer().Sequence)
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != batches {
			t.Errorf("answers to %v", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most > bound || most < bound/2 {
		t.Errorf("%d bytes were held at once, of %d", most, bound)
	}
}

// TestLargestBatchPasses: a batch that is larger than all the memory goes through alone.
func TestLargestBatchPasses(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = 100_000 })
	a := f.agent(t, func(a *agent) { a.table = batchtest.Table(t, schema.SamplesID) })
	for s := uint64(1); s <= 3; s++ {
		a.send(data(a.large(s, 2000)))
		a.want(wire.Stored, s)
	}
}

// TestStalledLane: where one table cannot be stored, the others can.
func TestStalledLane(t *testing.T) {
	f := serve(t, nil)
	stalled := make(chan struct{})
	f.set(func() { f.stalled[schema.EventsID] = stalled })
	stuck := f.agent(t, nil)
	stuck.send(stuck.batch(1))
	f.await(t, "the stalled batch", func() bool { return f.waiting == 1 })
	free := f.agent(t, func(a *agent) { a.table = batchtest.Table(t, schema.HealthID) })
	for s := uint64(1); s <= 20; s++ {
		free.send(free.batch(s))
		free.want(wire.Stored, s)
	}
	close(stalled)
	stuck.want(wire.Stored, 1)
}

// TestRejectedGivesItsMemoryBack would hang if it did not.
func TestRejectedGivesItsMemoryBack(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = 100_000 })
	a := f.agent(t, nil)
	for s := uint64(1); s <= 50; s++ {
		switch s % 3 {
		case 0:
			a.send(a.batchAt(s, time.Unix(1, 0)))
		case 1:
			a.send(forge(a.identity(s), nil, make([]byte, 50_000)))
		default:
			times := slices.Repeat([]time.Time{noon}, 500)
			a.send(a.batchAt(s, append(times, noon.Add(-24*time.Hour))...))
		}
		a.want(wire.Rejected, s)
	}
	a.send(a.batch(51))
	a.want(wire.Stored, 51)
}

// TestStop ends streams in every state, and waits for none of them.
func TestStop(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.MaxMemoryBytes = 1000 })
	silent := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-1")
	idle := f.agent(t, func(a *agent) { a.epoch = 2 })
	f.set(func() { f.hold = true })
	flying := f.agent(t, func(a *agent) { a.epoch = 3 })
	flying.send(flying.batch(1))
	f.await(t, "a batch", func() bool { return len(f.held) == 1 })
	waiting := f.agent(t, func(a *agent) { a.epoch = 4 })
	waiting.send(waiting.batch(1)) // there is no memory for it
	f.stop()
	for _, a := range []*agent{silent, idle, flying, waiting} {
		a.wantEnd(codes.Unavailable)
	}
	f.settle() // the store goes on with what it has
	if keys := f.submitted(); !slices.Equal(keys, []wire.Key{flying.key(1)}) {
		t.Errorf("submitted %v", keys)
	}
}

// TestStopDoesNotWaitForReaders: an agent that does not read its answers cannot hold a stop up.
func TestStopDoesNotWaitForReaders(t *testing.T) {
	f := serve(t, func(cfg *Config) { cfg.limits.stopGrace = 10 * time.Millisecond })
	a := f.agent(t, nil)
	sent := a.batch(1)
	for range 10_000 { // more than the network holds
		a.send(sent)
	}
	f.stop()
}
