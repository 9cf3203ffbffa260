// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"cmp"
	"flag"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

var modelSeeds = flag.Int("spool-seeds", 60, "random histories that TestModel plays")

// model is what a spool owes: the batches that were durable at some time, and are not settled.
type model struct {
	pushed  map[uint64]uint64              // by epoch: the last sequence
	durable map[uint64]map[uint64]struct{} // by epoch
	settled map[uint64]map[uint64]struct{}
}

func (m *model) note(into map[uint64]map[uint64]struct{}, epoch, sequence uint64) {
	if into[epoch] == nil {
		into[epoch] = map[uint64]struct{}{}
	}
	into[epoch][sequence] = struct{}{}
}

// TestModel plays random histories: batches are pushed and settled, the disk fails in every way and recovers, the power
// fails. After each of them what was durable and is not settled is given out, in order.
func TestModel(t *testing.T) {
	for seed := range uint64(*modelSeeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			disk := newFakeDisk()
			disk.keeps = random.IntN(2) == 0
			m := &model{map[uint64]uint64{}, map[uint64]map[uint64]struct{}{}, map[uint64]map[uint64]struct{}{}}
			f := open(t, disk, nil)
			for range 120 {
				switch n := random.IntN(20); {
				case n < 9:
					m.push(f, random)
				case n < 13:
					f.work()
					m.learn(f)
				case n < 16:
					m.settle(f, random)
				case n < 18:
					disk.set(failures(random))
				case n < 19:
					disk.set(nil)
				default:
					disk.crash(random)
					f = open(t, disk, nil)
					m.check(t, f)
				}
			}
			disk.crash(random)
			m.check(t, open(t, disk, nil))
		})
	}
}

func (m *model) push(f *fixture, random *rand.Rand) {
	from := m.pushed[f.Epoch()] + 1
	to := from + random.Uint64N(4)
	f.put(schema.SamplesID, from, to, 20+random.IntN(900))
	m.pushed[f.Epoch()] = to
}

// learn notes what is durable: all that is not in memory.
func (m *model) learn(f *fixture) {
	q := f.Queue(schema.SamplesID)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range q.segments {
		for i := range g.places {
			m.note(m.durable, g.epoch, g.sequence(i))
		}
	}
}

// settle settles some of what waits, as a collector answers: more or less in order.
func (m *model) settle(f *fixture, random *rand.Rand) {
	f.disk.set(nil) // it has to be read first
	for _, k := range f.given(schema.SamplesID) {
		if random.IntN(3) == 0 {
			f.Queue(schema.SamplesID).Stored(k.Epoch, k.Sequence)
			m.note(m.settled, k.Epoch, k.Sequence)
		}
	}
}

// failures makes operations fail by chance.
func failures(random *rand.Rand) func(operation, name string) error {
	chance := 1 + random.IntN(4)
	return func(operation, _ string) error {
		if operation == "read" || operation == "list" || random.IntN(5) >= chance {
			return nil
		}
		return []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS}[random.IntN(3)]
	}
}

func (m *model) check(t *testing.T, f *fixture) {
	t.Helper()
	f.work() // tells what was found
	keys := f.given(schema.SamplesID)
	if !slices.IsSortedFunc(keys, wireOrder) {
		t.Fatalf("out of order: %v", keys)
	}
	given := map[uint64]map[uint64]struct{}{}
	for _, k := range keys {
		if _, twice := given[k.Epoch][k.Sequence]; twice {
			t.Fatalf("batch %v is given out twice", k)
		}
		m.note(given, k.Epoch, k.Sequence)
	}
	for epoch, durable := range m.durable {
		for sequence := range durable {
			_, settled := m.settled[epoch][sequence]
			if _, ok := given[epoch][sequence]; !ok && !settled {
				t.Fatalf("batch %d of life %d was durable and is gone; told of %+v", sequence, epoch, f.losses)
			}
		}
	}
	for _, l := range f.losses { // a write that was under way may look like damage; nothing that was durable does
		name, stretch, _ := strings.Cut(l.Reason, ": bytes ")
		from, err := strconv.Atoi(strings.Fields(stretch)[0])
		if l.Kind != Damaged || err != nil || from < f.disk.durableBytes[name] {
			t.Fatalf("loss %+v of %d durable bytes: a power cut loses nothing that was durable", l, f.disk.durableBytes[name])
		}
	}
}

// wireOrder is the order in which batches are to be sent: life by life.
func wireOrder(a, b wire.Key) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence))
}
