// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// sharded is a cluster of two shards, and one server that is given all that they are given.
type sharded struct {
	*testing.T
	one    *fleet
	shards [2]*fleet
	conn   driver.Conn   // with the database over the shards
	own    []driver.Conn // with those of the shards
}

func newSharded(t *testing.T) *sharded {
	t.Helper()
	c := clickhousetest.StartCluster(t)
	var writers []schema.Execer
	for _, s := range c.Shards {
		writers = append(writers, clickhousetest.Open(t, s.Writer))
	}
	if _, _, err := (schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}).Migrate(t.Context(), writers); err != nil {
		t.Fatal(err)
	}
	s := &sharded{T: t, one: newFleet(t), conn: clickhousetest.Open(t, c.Shards[0].Reader)}
	for i, db := range c.Shards {
		db.Writer.Database, db.Reader.Database = schema.LocalDatabase(c.Name), schema.LocalDatabase(c.Name)
		s.shards[i] = &fleet{TB: t, db: db, now: s.one.now}
		s.own = append(s.own, clickhousetest.Open(t, db.Reader))
	}
	return s
}

// put writes into a shard, and into the one server.
func (s *sharded) put(shard int, write func(f *fleet)) {
	s.Helper()
	write(s.one)
	write(s.shards[shard])
}

// agree compares the audit of the cluster with that of the one server.
func (s *sharded) agree(opts Options) Report {
	s.Helper()
	want := s.one.audit(opts)
	opts.Shards = s.own
	got, err := Run(s.Context(), s.conn, opts)
	if err != nil {
		s.Fatal(err)
	}
	ignore := []cmp.Option{
		cmpopts.IgnoreFields(Report{}, "Since", "Until"), cmpopts.IgnoreFields(Table{}, "Since"), cmpopts.IgnoreUnexported(Report{}, Gap{}, Line{}),
	}
	if diff := cmp.Diff(want, got, ignore...); diff != "" {
		s.Errorf("one server and two shards (-one +two):\n%s", diff)
	}
	return got
}

// TestShardsAreAuditedTogether: what is found is what is found of one server that has it all.
func TestShardsAreAuditedTogether(t *testing.T) {
	s := newSharded(t)
	put := func(shard int, node string, began time.Duration, write func(l testLife)) {
		t.Helper()
		s.put(shard, func(f *fleet) { write(f.life("gpu_samples", node, began)) })
	}
	store := func(from, to int) func(l testLife) {
		return func(l testLife) { l.store(from, to) }
	}
	put(0, "anna", 2*hour, store(1, 50))
	put(1, "ben", 2*hour, store(1, 60))
	s.put(1, func(f *fleet) { f.life("gpu_events", "ben", hour).store(1, 5) })
	if got := s.agree(Options{All: true}); got.Verdict != Clean || got.Batches != 115 || got.Agents != 2 {
		t.Errorf("%s of %d batches of %d agents", got.Verdict, got.Batches, got.Agents)
	}
	put(1, "chris", hour, func(l testLife) {
		l.store(1, 40)
		l.exec("DELETE FROM gpu_samples WHERE seq = 7 AND node_id = %d", l.node)
	})
	lost := s.agree(Options{All: true})
	if lost.Verdict != Found || lost.Lost != 1 || lost.LostRows != 3 || len(lost.Gaps) != 1 || lost.Gaps[0].From != 7 {
		t.Errorf("a loss on one shard: %+v", lost)
	}
	put(0, "dora", hour, store(1, 20)) // moves at 20, between two batches
	put(1, "dora", hour, store(21, 30))
	put(0, "emil", hour, store(1, 20)) // 21 is lost on the way
	put(1, "emil", hour, store(22, 30))
	put(0, "fred", hour, store(1, 20)) // 20 is on both
	put(1, "fred", hour, store(20, 30))
	put(0, "gina", hour, store(1, 20)) // of 25 the ledger has nothing
	put(1, "gina", hour, store(21, 24))
	put(1, "gina", hour, func(l testLife) { l.rows(25, 25, rowsPerBatch) })
	moved := s.agree(Options{All: true})
	if moved.Lost != 2 || moved.Duplicated != 1 || moved.Unrecorded != 1 {
		t.Errorf("with nodes that have moved: %+v", moved)
	}
	for _, settle := range []time.Duration{0, time.Minute} {
		s.agree(Options{Settle: settle})
		s.agree(Options{Settle: settle, Since: s.one.now.Add(-hour + 15*time.Second)}) // amid the lives
		s.agree(Options{Settle: settle, Nodes: []string{"fred", "anna"}, All: true})
	}
}

// TestAShardIsMissing: half of a fleet proves nothing.
func TestAShardIsMissing(t *testing.T) {
	s := newSharded(t)
	s.put(0, func(f *fleet) { f.life("gpu_samples", "anna", hour).store(1, 5) })
	if err := s.own[1].Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Run(t.Context(), s.conn, Options{Shards: s.own}); err == nil || !strings.Contains(err.Error(), "shard 2") {
		t.Errorf("%s: %v", r.Verdict, err)
	}
	if r, err := Count(t.Context(), s.conn, Options{Shards: s.own}, ByHour); err == nil || !strings.Contains(err.Error(), "shard 2") {
		t.Errorf("%s: %v", r.Verdict, err)
	}
}

// TestTallyOfShards: nodes are on the first shard, on the second, or move from the one to the other.
func TestTallyOfShards(t *testing.T) {
	s := newSharded(t)
	random := rand.New(rand.NewPCG(7, 7))
	began := s.one.now.Add(-20 * hour)
	for n := range 6 {
		all := history(random, "gpu_samples", fmt.Sprintf("node-%d", n), began.Add(time.Duration(n)*time.Minute), 150)
		move := random.Uint64N(100) + 20 // the batch with which it moves, but for some that are late
		late := make(map[uint64]bool)
		var on [2][]entry
		for _, e := range all {
			if _, known := late[e.seq]; !known {
				late[e.seq] = random.IntN(20) == 0
			}
			shard := n % 3
			if shard == 2 {
				shard = 0
				if e.seq >= move && !late[e.seq] {
					shard = 1
				}
			}
			on[shard] = append(on[shard], e)
		}
		for shard, entries := range on {
			s.put(shard, func(f *fleet) { f.enter(entries, 80) })
		}
	}
	for shard, collector := range []string{"one", "two"} { // and one that both have stored, each on another shard
		e := entry{at: s.one.now.Add(-2 * hour), table: "gpu_samples", node: "both", epoch: 1, seq: 1, state: schema.LedgerStored, unit: "u", fromCollector: collector}
		s.put(shard, func(f *fleet) { f.enter([]entry{e}, 1) })
	}
	for _, opts := range []Options{{}, {All: true}, {Since: s.one.now.Add(-19 * hour), Until: s.one.now.Add(-16 * hour), All: true}, {Nodes: []string{"node-1", "node-2"}}} {
		for _, by := range []By{ByHour, ByNode} {
			want := s.one.count(opts, by)
			sharded := opts
			sharded.Shards = s.own
			got, err := Count(t.Context(), s.conn, sharded, by)
			if err != nil {
				t.Fatal(err)
			}
			if want.Lost == 0 || want.Duplicated == 0 {
				t.Errorf("nothing is to be found: %+v", want)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Tally{}, "Since", "Until"), cmpopts.IgnoreUnexported(Gap{}, Group{})); diff != "" {
				t.Errorf("one server and two shards by %s (-one +two):\n%s", by, diff)
			}
		}
	}
}
