// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func (f *fleet) count(opts Options, by By) Tally {
	f.Helper()
	tally, err := Count(f.Context(), clickhousetest.Open(f, f.db.Reader), opts, by)
	if err != nil {
		f.Fatal(err)
	}
	return tally
}

// entry is a row of the ledger.
type entry struct {
	at                         time.Time
	table, node                string
	epoch                      uint64
	seq                        uint64
	state, unit, fromCollector string
}

// enter writes entries, each insert with some of them.
func (f *fleet) enter(entries []entry, atOnce int) {
	f.Helper()
	for some := range slices.Chunk(entries, atOnce) {
		rows := make([]string, len(some))
		for i, e := range some {
			rows[i] = fmt.Sprintf("(%d, '%s', %d, %d, %d, 3, '%s', '%s', '%s')", e.at.UnixMilli(), e.table, wire.NodeID(e.node), e.epoch, e.seq, e.state, e.unit, e.fromCollector)
		}
		f.exec("INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, unit, collector) VALUES %s", strings.Join(rows, ", "))
	}
}

// history makes up what collectors recorded of a life: mostly in order, some late, some twice, some quarantined and some of
// those stored later, some never, and some by a second collector.
func history(random *rand.Rand, table, node string, began time.Time, batches int) []entry {
	var entries []entry
	at := began
	for seq := range uint64(batches) {
		at = at.Add(time.Duration(random.IntN(240)) * time.Second)
		e := entry{at: at, table: table, node: node, epoch: uint64(began.UnixMilli()), seq: seq + 1, state: schema.LedgerStored, unit: "u", fromCollector: "one"}
		later := func(change func(e *entry)) {
			again := e
			again.at = at.Add(time.Duration(random.IntN(3*3600)) * time.Second)
			change(&again)
			entries = append(entries, again)
		}
		switch random.IntN(40) {
		case 0, 1:
			continue // lost
		case 2:
			e.at = at.Add(time.Duration(random.IntN(5*3600)) * time.Second)
		case 3:
			later(func(*entry) {})
		case 4:
			e.state = schema.LedgerQuarantined
		case 5:
			e.state = schema.LedgerQuarantined
			later(func(e *entry) { e.state = schema.LedgerStored })
		case 6:
			later(func(e *entry) { e.fromCollector = "two" })
		case 7: // found by a collector that started meanwhile: of one insert
			later(func(e *entry) { e.fromCollector, e.unit = "two", schema.ReconciledUnit })
		}
		entries = append(entries, e)
	}
	return entries
}

// model counts entries by the words of Tally and Group, one after the other.
func model(entries []entry, since, until time.Time, key func(e entry) string) map[string]Group {
	type batch struct {
		entry  // the first
		stored bool
		by     map[string]time.Time // collectors, and when they recorded it first
	}
	lives := make(map[string]map[uint64]*batch)
	for _, e := range entries {
		life := fmt.Sprint(e.table, e.node, e.epoch)
		if lives[life] == nil {
			lives[life] = make(map[uint64]*batch)
		}
		b := lives[life][e.seq]
		if b == nil {
			b = &batch{entry: e, by: make(map[string]time.Time)}
			lives[life][e.seq] = b
		}
		if e.at.Before(b.at) {
			b.entry = e
		}
		b.stored = b.stored || e.state == schema.LedgerStored
		if first, ok := b.by[e.fromCollector]; e.state == schema.LedgerStored && e.unit != schema.ReconciledUnit && (!ok || e.at.Before(first)) {
			b.by[e.fromCollector] = e.at
		}
	}
	groups := make(map[string]Group)
	within := func(at time.Time) bool { return !at.Before(since) && at.Before(until) }
	count := func(e entry, at time.Time, change func(g *Group)) {
		if within(at) {
			e.at = at
			g := groups[key(e)]
			change(&g)
			groups[key(e)] = g
		}
	}
	for _, life := range lives {
		for _, b := range life {
			count(b.entry, b.at, func(g *Group) {
				g.Sent++
				if b.stored {
					g.Stored++
				} else {
					g.Quarantined++
				}
			})
			if len(b.by) == 2 {
				count(b.entry, slices.MaxFunc([]time.Time{b.by["one"], b.by["two"]}, time.Time.Compare), func(g *Group) { g.Duplicated++ })
			}
		}
		// A number that is missing counts in the first hour in which a higher one was recorded.
		inOrder := slices.SortedFunc(func(yield func(*batch) bool) {
			for _, b := range life {
				if !yield(b) {
					return
				}
			}
		}, func(a, b *batch) int { return a.at.Compare(b.at) })
		high := uint64(0)
		for _, b := range inOrder {
			for seq := high + 1; seq < b.seq; seq++ {
				if life[seq] == nil {
					count(b.entry, b.at, func(g *Group) { g.Sent, g.Lost = g.Sent+1, g.Lost+1 })
				}
			}
			high = max(high, b.seq)
		}
	}
	return groups
}

// TestTallyAgreesWithItsWords holds made-up histories against a plain count: by hour and by node, from their beginning on
// and from the middle, inserted in pieces, some of them twice.
func TestTallyAgreesWithItsWords(t *testing.T) {
	f := newFleet(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	began := f.now.Add(-20 * hour).Truncate(hour)
	var entries []entry
	for i, node := range []string{"anna", "ben", "chris"} {
		for _, table := range []string{"gpu_samples", "gpu_events"} {
			entries = append(entries, history(random, table, node, began.Add(time.Duration(i)*time.Minute), 10+random.IntN(250))...)
		}
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.at.After(f.now.Add(-hour)) })
	random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	f.enter(entries, 50)
	f.enter(entries[:100], 30)
	for _, period := range []time.Duration{25 * hour, 9 * hour} {
		for _, until := range []time.Duration{0, 4 * hour} {
			since, last := f.now.Add(-period).Truncate(hour), f.now
			opts := Options{Since: f.now.Add(-period), All: true}
			if until > 0 {
				opts.Until = f.now.Add(-until)
				last = opts.Until.Truncate(hour).Add(hour)
			}
			for by, key := range map[By]func(e entry) string{
				ByHour: func(e entry) string { return e.at.Truncate(hour).Format(time.RFC3339) }, ByNode: func(e entry) string { return e.node },
			} {
				got := make(map[string]Group)
				tally := f.count(opts, by)
				for _, g := range tally.Groups {
					if g.Sent+g.Duplicated == 0 {
						continue // what was recorded in the hour was of batches of another one
					}
					name := g.Hour.Format(time.RFC3339)
					if by == ByNode {
						name = map[string]string{fmt.Sprintf("%016x", wire.NodeID("anna")): "anna", fmt.Sprintf("%016x", wire.NodeID("ben")): "ben", fmt.Sprintf("%016x", wire.NodeID("chris")): "chris"}[g.Node]
					}
					got[name] = g
				}
				want := model(entries, since, last, key)
				ignored := cmpopts.IgnoreFields(Group{}, "Hour", "Node", "Agents")
				if since.After(began) { // see Group
					ignored = cmpopts.IgnoreFields(Group{}, "Hour", "Node", "Agents", "Sent", "Stored", "Quarantined")
				}
				if diff := cmp.Diff(want, got, ignored, cmpopts.IgnoreMapEntries(func(_ string, g Group) bool { return g.Lost+g.Duplicated == 0 && since.After(began) }), cmpopts.IgnoreUnexported(Group{})); diff != "" {
					t.Errorf("seed %d, of %s until %s ago, by %s (-want +got):\n%s", seed, period, until, by, diff)
				}
				var lost uint64
				for _, g := range tally.Gaps {
					lost += g.To - g.From + 1
				}
				if lost != tally.Lost {
					t.Errorf("seed %d: gaps of %d batches, %d lost", seed, lost, tally.Lost)
				}
			}
		}
	}
}

// TestTallyOfACleanFleet: lives that agree are not looked at one by one, and by node nothing is listed of them.
func TestTallyOfACleanFleet(t *testing.T) {
	f := newFleet(t)
	began := f.now.Truncate(hour).Add(-5*hour + 10*time.Minute)
	var entries []entry
	for i, node := range []string{"anna", "ben", "chris"} {
		for seq := range uint64(40) {
			entries = append(entries, entry{at: began.Add(time.Duration(seq) * 5 * time.Minute), table: "gpu_samples", node: node, epoch: uint64(began.UnixMilli()), seq: seq + 1, state: schema.LedgerStored, unit: "u", fromCollector: strconv.Itoa(i)})
		}
	}
	f.enter(entries, 7)
	f.enter(entries, 11) // the same again
	f.exec("INSERT INTO node_inventory (ts, node_id, epoch, seq, node_name) VALUES (now64(3), %d, 1, 1, 'anna')", wire.NodeID("anna"))
	opts := Options{Since: f.now.Add(-6 * hour)}
	got := f.count(opts, ByHour)
	if got.Verdict != Clean || got.Batches != 120 || got.Agents != 3 || len(got.Groups) != 4 || got.Groups[0] != (Group{Hour: began.Truncate(hour), Agents: 3, Sent: 30, Stored: 30, key: uint64(began.Truncate(hour).UnixMilli())}) {
		t.Errorf("by hour: %+v", got)
	}
	if got := f.count(opts, ByNode); got.Verdict != Clean || got.Batches != 120 || len(got.Groups) != 0 {
		t.Errorf("by node: %+v", got)
	}
	opts.All, opts.Nodes = true, []string{"anna", fmt.Sprintf("%016x", wire.NodeID("ben"))}
	if got := f.count(opts, ByNode); len(got.Groups) != 2 || got.Agents != 2 || got.Batches != 80 || !slices.ContainsFunc(got.Groups, func(g Group) bool { return g.Node == "anna" }) {
		t.Errorf("of two nodes: %+v", got)
	}
	f.exec("OPTIMIZE TABLE ingest_sequences FINAL")
	c := &tally{audit: &audit{}, Tally: Tally{By: ByHour, Since: opts.Since.Truncate(hour), Until: f.now}, groups: make(map[uint64]*Group)}
	if suspects, err := c.countAll(t.Context(), part{conn: clickhousetest.Open(t, f.db.Reader), settings: settings}); err != nil || len(suspects) != 0 {
		t.Errorf("looks at %v one by one: %v", suspects, err)
	}
}

// TestTallyOfWhatIsOnItsWay: what is missing below a batch of the last minute is not lost yet.
func TestTallyOfWhatIsOnItsWay(t *testing.T) {
	f := newFleet(t)
	began := f.now.Add(-3 * hour)
	add := func(seq uint64, ago time.Duration) {
		f.enter([]entry{{at: f.now.Add(-ago), table: "gpu_samples", node: "anna", epoch: uint64(began.UnixMilli()), seq: seq, state: schema.LedgerStored, unit: "u", fromCollector: "one"}}, 1)
	}
	add(1, 2*hour)
	add(3, 2*hour) // 2 is lost
	add(4, 70*time.Second)
	add(9, 20*time.Second)
	if got := f.count(Options{Settle: time.Minute}, ByHour); got.Lost != 1 || len(got.Gaps) != 1 || got.Gaps[0].From != 2 || got.Gaps[0].To != 2 {
		t.Errorf("while it runs: %+v", got)
	}
	if got := f.count(Options{}, ByHour); got.Lost != 5 || len(got.Gaps) != 2 || got.Gaps[1].From != 5 || got.Gaps[1].To != 8 {
		t.Errorf("once it has stopped: %+v", got)
	}
	if got := f.count(Options{Until: f.now.Add(-90 * time.Minute), Settle: time.Minute}, ByHour); got.Lost != 1 || got.Batches > 5 {
		t.Errorf("up to an hour: %+v", got)
	}
}

func TestTallyOfNothing(t *testing.T) {
	f := newFleet(t)
	if got := f.count(Options{}, ByNode); got.Verdict != Nothing || got.Agents != 0 {
		t.Errorf("an empty ledger: %+v", got)
	}
}

func TestTallyGapsAreBounded(t *testing.T) {
	f := newFleet(t)
	l := f.life("gpu_samples", "anna", hour)
	l.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state)
SELECT now64(3) - INTERVAL 10 MINUTE, 'gpu_samples', %d, %d, 2 * number, 3, 'quarantined' FROM numbers(1, 100)`, l.node, l.epoch)
	got := f.count(Options{MaxGaps: 30}, ByNode)
	if len(got.Gaps) != 30 || got.GapsLeftOut != 70 || got.Lost != 100 || got.Quarantined != 100 || got.Verdict != Found {
		t.Errorf("%d gaps listed, %d left out, %d lost, %d quarantined", len(got.Gaps), got.GapsLeftOut, got.Lost, got.Quarantined)
	}
}

// TestUntilAndNodes are of the whole audit, too: it holds rows against the ledger.
func TestUntilAndNodes(t *testing.T) {
	f := newFleet(t)
	f.life("gpu_samples", "anna", 3*hour).store(1, 7200)
	f.life("gpu_samples", "ben", 2*hour).store(2, 10)
	until := f.now.Add(-2 * hour)
	f.want(f.audit(Options{Until: until}), Report{Batches: 3600, Rows: 3600 * 3, Agents: 1})
	young := f.life("gpu_samples", "carla", 0)
	young.store(1, 10)
	left := OnTheWay{Batches: 10, Agents: 1}
	for name, until := range map[string]time.Time{"now": time.Now(), "not said": {}, "to come": f.now.Add(hour)} {
		got := f.audit(Options{Until: until, Settle: time.Minute, Nodes: []string{"anna", "carla"}})
		if got.OnTheirWay != left || got.Batches != 7200 {
			t.Errorf("until %s: %d batches, left out: %+v", name, got.Batches, got.OnTheirWay)
		}
	}
	if got := f.audit(Options{Since: f.now.Add(-6 * hour), Until: f.now.Add(-5 * hour)}); got.Verdict != Nothing || got.OnTheirWay != (OnTheWay{}) || got.newest.IsZero() {
		t.Errorf("of a time in which nothing was recorded: %+v", got)
	}
	f.want(f.audit(Options{Nodes: []string{"anna"}}), Report{Batches: 7200, Rows: 7200 * 3, Agents: 1})
	got := f.audit(Options{Nodes: []string{"ben"}})
	if got.Lost != 1 || got.Agents != 1 || got.Batches != 10 {
		t.Errorf("of ben: %+v", got)
	}
	if got := f.audit(Options{Nodes: []string{"nobody"}}); got.Verdict != Nothing {
		t.Errorf("of nobody: %+v", got)
	}
}

// TestTallyOfTwoCollectors: of a life in which nothing is missing, the collectors alone tell what both stored, once parts are
// merged.
func TestTallyOfTwoCollectors(t *testing.T) {
	f := newFleet(t)
	began := f.now.Truncate(hour).Add(-2 * hour)
	e := entry{at: began.Add(time.Minute), table: "gpu_samples", node: "anna", epoch: uint64(began.UnixMilli()), seq: 1, state: schema.LedgerStored, unit: "u", fromCollector: "one"}
	again := e
	again.fromCollector, again.unit = "two", "v"
	f.enter([]entry{e, again}, 1)
	f.exec("OPTIMIZE TABLE ingest_sequences FINAL")
	if got := f.count(Options{}, ByHour); got.Duplicated != 1 || got.Batches != 1 || got.Verdict != Found {
		t.Errorf("stored by two: %+v", got)
	}
	found := e
	found.node = "ben"
	again.node, again.unit = "ben", schema.ReconciledUnit
	f.enter([]entry{found, again}, 1)
	if got := f.count(Options{}, ByHour); got.Duplicated != 1 || got.Batches != 2 {
		t.Errorf("stored by one, and found by another: %+v", got)
	}
}
