// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

var (
	chaosFor  = flag.Duration("chaos-for", 0, "how long TestChaos goes on with all faults; else those that no other test has come once")
	chaosSeed = flag.Uint64("chaos-seed", 1, "what TestChaos draws its moments from")
)

// chaos is agents, the real collector program and a ClickHouse of their own, with gates on both of the collector's
// sides; faults happen to all of it.
type chaos struct {
	t         *testing.T
	random    *rand.Rand
	program   string
	server    *embedded.Server
	stores    []embedded.Endpoint // databases with rows: the server's, or those of the shards
	collector *process
	dir       string   // of the collector's log
	near      *gate    // between agents and collector
	far       *gate    // between collector and ClickHouse, or the last shard of it
	cable     *cable   // nil: agents reach the collector without one
	places    []*place // nil: there is one collector
	fleet     *fleet
}

// chaosFault is something that goes wrong for a while.
type chaosFault struct {
	name   string
	short  bool // it has no test of its own: it comes also without -chaos-for
	shards int  // of ClickHouse; 0: there is no cluster
	// way makes the way to the collector before there are agents; nil: it is near.
	way func(c *chaos) (address string)
	// happen has it happen, and heals it. It must be seen to have happened, else it fails the test.
	happen func(c *chaos)
}

// outcome is what became of one fault, over all times that it happened.
type outcome struct {
	times                                int
	batches, resent, rows, lost, doubled uint64
	compared, different                  uint64 // rows of rollups
}

// TestChaos has each fault happen to agents, collector and ClickHouse at moments drawn from a seed while rows flow, and
// counts what was lost, what was doubled, and the rollups that are not what the samples make. With -chaos-for it goes on with other seeds: that is `make chaos`.
func TestChaos(t *testing.T) {
	program := buildCollector(t)
	outcomes := map[string]*outcome{}
	for _, f := range chaosFaults {
		outcomes[f.name] = &outcome{}
	}
	began := time.Now()
	for round := uint64(0); round == 0 || time.Since(began) < *chaosFor; round++ {
		for i, f := range chaosFaults {
			if *chaosFor == 0 && !f.short || round > 0 && time.Since(began) >= *chaosFor {
				continue
			}
			seed := *chaosSeed + round
			t.Run(fmt.Sprintf("%s/seed %d", f.name, seed), func(t *testing.T) {
				suffer(t, program, f, rand.New(rand.NewPCG(seed, uint64(i))), outcomes[f.name])
			})
		}
	}
	t.Log("\n" + chaosTable(outcomes))
}

// suffer has one fault happen once.
func suffer(t *testing.T, program string, f chaosFault, random *rand.Rand, o *outcome) {
	t.Helper()
	c := &chaos{t: t, random: random, program: program, dir: t.TempDir()}
	c.startStore(f.shards)
	c.near = newGate(t, c.collector.address)
	address := c.near.address
	if f.way != nil {
		address = f.way(c)
	}
	c.collector.start()
	c.fleet = startFleet(t, fleetConfig{nodes: 12, gpus: 2, seed: random.Uint64(), collector: address, interval: 250 * time.Millisecond, flush: 500 * time.Millisecond})
	c.fleet.awaitStored(40)
	c.rollUp()
	f.happen(c)
	c.fleet.awaitStored(60)
	c.fleet.wantExactlyOnce(c.server.Writer())
	c.count(o)
	c.wantRollups(o)
	o.times++
}

// startStore starts ClickHouse, or the shards of one, and has a collector for it.
func (c *chaos) startStore(shards int) {
	c.t.Helper()
	if shards == 0 {
		c.server = clickhousetest.Dedicated(c.t)
		c.stores = []embedded.Endpoint{c.server.Writer()}
		c.far = newGate(c.t, c.server.Writer().HTTPAddress())
		c.collector = newProcess(c.t, c.program, c.server.Writer())
		c.collector.args = append(c.collector.args, "--data", c.dir, "--clickhouse", c.far.address)
		return
	}
	cluster, servers := clickhousetest.DedicatedCluster(c.t, shards)
	c.server = servers.First()
	c.collector = newProcess(c.t, c.program, c.server.Writer())
	c.collector.args = append(c.collector.args, "--data", c.dir, "--clickhouse-cluster", cluster.Named)
	for i, s := range servers.Servers() {
		own := s.Writer()
		own.Database = schema.LocalDatabase(own.Database)
		c.stores = append(c.stores, own)
		address := own.HTTPAddress()
		if i == shards-1 {
			c.far = newGate(c.t, address)
			address = c.far.address
		}
		c.collector.args = append(c.collector.args, "--clickhouse-shard", address)
	}
}

// shardAway has the second of two shards away for a while, in which the first goes on, and all else may happen.
func (c *chaos) shardAway(meanwhile func()) {
	c.t.Helper()
	c.letPass(0, 600*time.Millisecond)
	c.far.close()
	c.fleet.awaitStoredOf(0, 24) // what was answered before may still arrive
	away := c.fleet.storedOf(1)
	meanwhile()
	c.fleet.awaitStoredOf(0, 48)
	if got := c.fleet.storedOf(1); got != away {
		c.t.Errorf("%d batches were stored on a shard that is away", got-away)
	}
	c.far.open()
	c.fleet.awaitStoredOf(1, 24)
}

// count adds up what the agents sent, and what of it is there.
func (c *chaos) count(o *outcome) {
	c.t.Helper()
	sum := c.fleet.sum()
	o.batches, o.resent, o.rows = o.batches+sum.BatchesQueued, o.resent+sum.BatchesResent, o.rows+sum.Rows
	var stored, different uint64
	answer := clickhousetest.Query(c.t, c.server.Writer(), "SELECT count(), uniqExact(gpu_id, epoch, ts) FROM gpu_samples WHERE node_id IN ("+c.fleet.ids()+")")
	if _, err := fmt.Sscan(answer, &stored, &different); err != nil {
		c.t.Fatal(err)
	}
	o.lost += sum.Rows - min(different, sum.Rows)
	o.doubled += stored - different
}

// chaosTable is the outcomes as Markdown.
func chaosTable(outcomes map[string]*outcome) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| fault | times | batches | sent again | rows | rows lost | rows doubled | rollups compared | different |")
	fmt.Fprintln(&b, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, f := range chaosFaults {
		o := outcomes[f.name]
		if o.times == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d |\n", f.name, o.times, o.batches, o.resent, o.rows, o.lost, o.doubled, o.compared, o.different)
	}
	return b.String()
}

// letPass waits for a time drawn from the seed.
func (c *chaos) letPass(atLeast, atMost time.Duration) {
	letRun(c.t, atLeast+time.Duration(c.random.Int64N(int64(atMost-atLeast))))
}

// freeze stops a process for a while, as a machine without memory or a hypervisor does.
func (c *chaos) freeze(pid int, atMost time.Duration) {
	c.t.Helper()
	c.letPass(0, 500*time.Millisecond)
	for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, s); err != nil {
			c.t.Fatal(err)
		}
		if s == syscall.SIGSTOP {
			c.letPass(atMost/2, atMost)
		}
	}
}

// overCable has agents reach the collector over a cable. Before it is a gate on this host: to another host agents do not speak
// without TLS.
func overCable(c *chaos) (address string) {
	c.cable = newCable(c.t, c.collector.address)
	return newGate(c.t, c.cable.address).address
}

// cutOneWay cuts one direction of the cable.
func (c *chaos) cutOneWay(d *direction) {
	c.t.Helper()
	d.cut.Store(true)
	c.letPass(3*time.Second, 6*time.Second)
	c.cable.heal()
	if d.lost.Load() == 0 {
		c.t.Error("no packet was lost")
	}
}

// damageLog kills the collector, damages the newest file of its log, and starts it again. What was only there the agents
// still have.
func (c *chaos) damageLog(damage func(random *rand.Rand, file []byte) []byte) {
	c.t.Helper()
	for range 2 {
		c.far.close() // so that something is in the log alone
		c.letPass(600*time.Millisecond, 1200*time.Millisecond)
		c.collector.kill()
		files, err := filepath.Glob(filepath.Join(c.dir, "log", "gpu_samples", "*.gfl"))
		if err != nil || len(files) == 0 {
			c.t.Fatalf("the log has the files %v, %v", files, err)
		}
		newest := files[len(files)-1]
		text, err := os.ReadFile(newest)
		if err != nil || len(text) == 0 {
			c.t.Fatalf("%d bytes in %s: %v", len(text), newest, err)
		}
		if err := os.WriteFile(newest, damage(c.random, text), 0o600); err != nil {
			c.t.Fatal(err)
		}
		c.far.open()
		c.collector.start()
		c.fleet.awaitStored(24)
	}
}

func flipBit(random *rand.Rand, file []byte) []byte {
	file[random.IntN(len(file))] ^= 1 << random.IntN(8)
	return file
}

func tear(random *rand.Rand, file []byte) []byte {
	return file[:len(file)-1-random.IntN(min(len(file)-1, 4000))]
}

// chaosFaults are what happens.
var chaosFaults = []chaosFault{
	{name: "collector killed", happen: func(c *chaos) {
		for range 3 {
			c.letPass(0, 600*time.Millisecond)
			c.collector.kill()
			c.letPass(0, 300*time.Millisecond)
			c.collector.start()
			c.fleet.awaitStored(12)
		}
	}},
	{name: "ClickHouse killed", happen: func(c *chaos) {
		for range 2 {
			restarts := c.server.Restarts()
			c.letPass(0, 600*time.Millisecond)
			killClickHouse(c.t, c.server)
			c.fleet.await("a restart", func(agent.Stats) bool { return c.server.Restarts() > restarts })
			c.fleet.awaitStored(12)
		}
	}},
	{name: "collector and ClickHouse killed", happen: func(c *chaos) {
		for range 2 {
			c.letPass(0, 600*time.Millisecond)
			killClickHouse(c.t, c.server)
			c.letPass(0, 100*time.Millisecond)
			c.collector.kill()
			c.collector.start()
			c.fleet.awaitStored(12)
		}
	}},
	{name: "collector frozen", short: true, happen: func(c *chaos) { c.freeze(c.collector.cmd.Process.Pid, 4*time.Second) }},
	{name: "agents move while the collector before is frozen amid an insert", short: true, way: toTwo, happen: func(c *chaos) { c.move(4) }},
	{name: "ClickHouse frozen", happen: func(c *chaos) { c.freeze(c.server.PID(), 4*time.Second) }},
	{name: "ClickHouse away", happen: func(c *chaos) {
		c.far.close()
		c.letPass(5*time.Second, 8*time.Second)
		c.far.open()
	}},
	{name: "one of two shards away", short: true, shards: 2, happen: func(c *chaos) { c.shardAway(func() { c.letPass(2*time.Second, 5*time.Second) }) }},
	{name: "one of two shards away, and the collector killed", shards: 2, happen: func(c *chaos) {
		c.shardAway(func() {
			c.collector.kill()
			c.collector.start()
		})
	}},
	{name: "collector away", happen: func(c *chaos) {
		c.near.close()
		c.letPass(2*time.Second, 4*time.Second)
		c.near.open()
	}},
	{name: "connections of agents cut", happen: func(c *chaos) {
		c.near.cutAfter(func() int64 { return 1 + c.random.Int64N(30_000) })
		c.near.breakAll()
		c.fleet.await("30 cuts", func(agent.Stats) bool { return c.near.cutCount() >= 30 })
		c.near.cutAfter(nil)
	}},
	{name: "connections to ClickHouse cut", happen: func(c *chaos) {
		c.far.cutAfter(func() int64 { return 1 + c.random.Int64N(60_000) })
		c.far.breakAll()
		c.fleet.await("10 cuts", func(agent.Stats) bool { return c.far.cutCount() >= 10 })
		c.far.cutAfter(nil)
	}},
	{name: "answers of ClickHouse lost", short: true, happen: func(c *chaos) {
		c.far.loseAnswers(true)
		c.fleet.await("6 lost answers", func(agent.Stats) bool { return c.far.unheardCount() >= 6 })
		c.far.loseAnswers(false)
	}},
	{name: "answers of the collector lost", happen: func(c *chaos) {
		c.near.loseAnswers(true)
		c.fleet.await("30 lost answers", func(agent.Stats) bool { return c.near.unheardCount() >= 30 })
		c.near.loseAnswers(false)
	}},
	{name: "200 ms delay, 1 % of packets lost", short: true, way: overCable, happen: func(c *chaos) {
		c.cable.delay.Store(int64(100 * time.Millisecond)) // each way
		c.cable.loss.Store(10_000)
		lost := func() int64 { return c.cable.up.lost.Load() + c.cable.down.lost.Load() }
		c.fleet.await("5 lost packets", func(agent.Stats) bool { return lost() >= 5 })
		c.fleet.awaitStored(24)
		c.cable.heal()
	}},
	{name: "what agents send does not come", way: overCable, happen: func(c *chaos) { c.cutOneWay(&c.cable.up) }},
	{name: "what the collector says does not come", short: true, way: overCable, happen: func(c *chaos) { c.cutOneWay(&c.cable.down) }},
	{name: "a view throws", happen: func(c *chaos) {
		for _, sql := range []string{
			"CREATE TABLE seen (ts DateTime64(3)) ENGINE = MergeTree ORDER BY ts",
			"CREATE MATERIALIZED VIEW watch TO seen AS SELECT ts FROM gpu_samples WHERE throwIf(1, 'chaos') = 0",
		} {
			clickhousetest.Exec(c.t, c.server.Writer(), sql)
		}
		c.letPass(2*time.Second, 4*time.Second)
		if n := clickhousetest.Query(c.t, c.server.Writer(), "SELECT value > 0 FROM system.errors WHERE name = 'FUNCTION_THROW_IF_VALUE_IS_NON_ZERO'"); n != "1" {
			c.t.Error("the view never threw")
		}
		clickhousetest.Exec(c.t, c.server.Writer(), "DROP VIEW watch SYNC")
	}},
	{name: "too many parts", happen: func(c *chaos) {
		clickhousetest.Exec(c.t, c.server.Writer(), "ALTER TABLE gpu_samples MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1")
		c.letPass(2*time.Second, 4*time.Second)
		if n := clickhousetest.Query(c.t, c.server.Writer(), "SELECT value > 0 FROM system.errors WHERE name = 'TOO_MANY_PARTS'"); n != "1" {
			c.t.Error("there were never too many parts")
		}
		clickhousetest.Exec(c.t, c.server.Writer(), "ALTER TABLE gpu_samples RESET SETTING parts_to_delay_insert, parts_to_throw_insert")
	}},
	{name: "a bit flipped in the collector's log", short: true, happen: func(c *chaos) { c.damageLog(flipBit) }},
	{name: "the collector's log torn", happen: func(c *chaos) { c.damageLog(tear) }},
}
