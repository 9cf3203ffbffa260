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

var modelSeeds = flag.Int("spool-seeds", 90, "random histories that TestModel plays")

// modelTables are one of readings and one of facts.
var modelTables = []uint8{schema.SamplesID, schema.EventsID}

// model is what a spool owes: the batches that were durable at some time, and are neither settled nor told to be dropped.
type model struct {
	*fixture
	random  *rand.Rand
	room    int64 // for files
	failing bool  // the disk may fail: then a file that was dropped may come back, and with it the oldest batches
	pushed  map[oneLife]uint64
	durable map[wire.Key]bool
	settled map[wire.Key]bool
	dropped map[uint8]uint64 // batches that were told to be, by table
}

// oneLife is one life in one table.
type oneLife struct {
	table uint8
	epoch uint64
}

// TestModel plays random histories: batches are pushed and settled, the room runs out, the disk fails in every way and
// recovers, the power fails. After each of them what was durable and is not settled is given out, in order, but for
// what was told to be dropped: the oldest, and no fact while there is a reading.
func TestModel(t *testing.T) {
	for seed := range uint64(*modelSeeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			m := newModel(t, seed)
			for range 120 {
				switch n := m.random.IntN(20); {
				case n < 9:
					m.push()
				case n < 13:
					m.work()
					m.learn()
				case n < 16:
					m.settle()
				case n < 18 && m.failing:
					m.disk.set(failures(m.random))
				case n < 19:
					m.disk.set(nil)
				default:
					m.crash()
				}
				m.checkCounts()
			}
			m.crash()
			m.checkEnd()
		})
	}
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	m := &model{
		random: rand.New(rand.NewPCG(seed, 7)), room: 1 << 20, failing: seed%4 != 0,
		pushed: map[oneLife]uint64{}, durable: map[wire.Key]bool{}, settled: map[wire.Key]bool{}, dropped: map[uint8]uint64{},
	}
	disk := newFakeDisk()
	disk.keeps = m.random.IntN(2) == 0
	if seed%3 == 0 {
		m.room = 40 << 10
	}
	m.start(t, disk)
	return m
}

func (m *model) start(t *testing.T, disk *fakeDisk) {
	t.Helper()
	m.fixture = open(t, disk, func(c *Config) {
		c.MaxBytes = m.room
		tell := c.OnLoss
		c.OnLoss = func(l Loss) {
			tell(l)
			if l.Kind != Dropped {
				return
			}
			m.dropped[l.Last.Table] += l.Batches
			if l.Last.Table == schema.EventsID && m.Queue(schema.SamplesID).oldest() != nil {
				t.Errorf("facts are dropped, and there are readings: %+v", l)
			}
		}
	})
}

func (m *model) push() {
	table := modelTables[m.random.IntN(len(modelTables))]
	life := oneLife{table, m.Epoch()}
	from := m.pushed[life] + 1
	to := from + m.random.Uint64N(4)
	m.put(table, from, to, 20+m.random.IntN(900))
	m.pushed[life] = to
}

// learn notes what is durable: all that is not in memory.
func (m *model) learn() {
	for _, table := range modelTables {
		q := m.Queue(table)
		q.mu.Lock()
		for _, g := range q.segments {
			for i := range g.places {
				m.durable[q.key(g.epoch, g.sequence(i))] = true
			}
		}
		q.mu.Unlock()
	}
}

// settle settles some of what waits, as a collector answers: more or less in order.
func (m *model) settle() {
	m.disk.set(nil) // it has to be read first
	for _, table := range modelTables {
		for _, k := range m.given(table) {
			if m.random.IntN(3) == 0 {
				m.Queue(table).Stored(k.Epoch, k.Sequence)
				m.settled[k] = true
			}
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

// crash cuts the power, and looks at what a later life finds.
func (m *model) crash() {
	m.t.Helper()
	m.disk.crash(m.random)
	m.start(m.t, m.disk)
	m.work() // tells what was found
	var files int64
	for _, n := range m.disk.now {
		files += blocks(int64(len(n.content)))
	}
	files -= blocks(int64(len(m.disk.now[lifeName].content)))
	if got := m.Stats().DiskBytes; got != files {
		m.t.Errorf("%d bytes are counted of %d", got, files)
	}
	for _, table := range modelTables {
		m.checkTable(table)
	}
	for _, l := range m.losses { // a write that was under way may look like damage; nothing that was durable does
		if l.Kind == Dropped {
			continue
		}
		name, stretch, _ := strings.Cut(l.Reason, ": bytes ")
		from, err := strconv.Atoi(strings.Fields(stretch)[0])
		if l.Kind != Damaged || err != nil || from < m.disk.durableBytes[name] {
			m.t.Fatalf("loss %+v of %d durable bytes: a power cut loses nothing that was durable", l, m.disk.durableBytes[name])
		}
	}
}

// checkTable compares what a table gives out with what it owes.
func (m *model) checkTable(table uint8) {
	m.t.Helper()
	given := m.given(table)
	if !slices.IsSortedFunc(given, wireOrder) {
		m.t.Fatalf("out of order: %v", given)
	}
	if twice := slices.Compact(slices.Clone(given)); len(twice) != len(given) {
		m.t.Fatalf("given out twice: %v", given)
	}
	var missing []wire.Key
	for k := range m.durable {
		if _, ok := slices.BinarySearchFunc(given, k, wireOrder); k.Table == table && !ok && !m.settled[k] {
			missing = append(missing, k)
		}
	}
	if uint64(len(missing)) > m.dropped[table] {
		m.t.Fatalf("%d batches were durable and are gone, %d were told to be dropped: %v; told of %+v", len(missing), m.dropped[table], missing, m.losses)
	}
	for _, k := range missing {
		if !m.failing && len(given) > 0 && wireOrder(k, given[0]) > 0 {
			m.t.Fatalf("batch %v was dropped before %v", k, given[0])
		}
	}
}

// checkCounts: every batch of a life is somewhere.
func (m *model) checkCounts() {
	m.t.Helper()
	s := m.Stats()
	if s.Queued+s.Recovered != s.Stored+s.Rejected+s.Dropped+uint64(s.WaitingBatches) {
		m.t.Fatalf("stats do not add up: %+v", s)
	}
}

// checkEnd settles all, and looks for what is left behind.
func (m *model) checkEnd() {
	m.t.Helper()
	for _, table := range modelTables {
		m.storeAll(table)
	}
	m.work()
	if err := m.Close(); err != nil {
		m.t.Fatal(err)
	}
	if left := m.disk.segments(); len(left) > 0 {
		m.t.Errorf("segments %v are left", left)
	}
	if s := m.Stats(); s.WaitingBatches != 0 || s.SetAside != int64(len(m.disk.aside())) || s.SetAside == 0 && s.DiskBytes != 0 {
		m.t.Errorf("aside %v, %+v", m.disk.aside(), s)
	}
}

// wireOrder is the order in which batches are to be sent: life by life.
func wireOrder(a, b wire.Key) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence))
}
