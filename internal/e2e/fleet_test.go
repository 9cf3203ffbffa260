// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// limitless is how long a test waits for what must come: it fails by this only if it hangs.
const limitless = 2 * time.Minute

// fleetConfig describes a fleet of agents in this process.
type fleetConfig struct {
	nodes     int
	gpus      int // of each node; 0: all that it has
	seed      uint64
	collector string // address
	interval  time.Duration
	flush     time.Duration
	few       bool       // each table but gpu_samples gets what an agent says at its start, and no more
	key       *token.Key // agents prove who they are with a token under it
	change    func(*agent.Config)
	lossy     bool // an agent may end with batches that are not stored
}

// fleet is agents that run.
type fleet struct {
	t      *testing.T
	agents []*agent.Agent
	names  []string
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// fewGPUs is a driver of which only the first devices are seen.
type fewGPUs struct {
	gpu.Driver
	count int
}

// Devices implements gpu.Driver.
func (f fewGPUs) Devices() ([]gpu.Device, gpu.Return) {
	devices, ret := f.Driver.Devices()
	return devices[:min(f.count, len(devices))], ret
}

// startFleet starts agents, which stop at the latest with the test.
func startFleet(t *testing.T, cfg fleetConfig) *fleet {
	t.Helper()
	nodes, err := sim.NewFleet(sim.FleetConfig{Nodes: cfg.nodes, Seed: cfg.seed})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{t: t, cancel: cancel}
	t.Cleanup(f.stop)
	for _, n := range nodes.Nodes() {
		a, err := agent.New(agentConfig(cfg, n))
		if err != nil {
			t.Fatal(err)
		}
		f.agents, f.names = append(f.agents, a), append(f.names, n.Name())
	}
	for i, a := range f.agents {
		f.ended.Go(func() {
			if err := a.Run(ctx); err != nil && !cfg.lossy {
				t.Errorf("agent %s: %v", f.names[i], err)
			}
		})
	}
	return f
}

func agentConfig(cfg fleetConfig, n *sim.Node) agent.Config {
	c := agent.DefaultConfig()
	c.Node = agent.Node{Name: n.Name(), ReadingSource: "simulator", Provider: n.Place().Provider, Region: n.Place().Region}
	c.Open = func() (gpu.Driver, error) { return n.Driver(), nil }
	if cfg.gpus > 0 {
		c.Open = func() (gpu.Driver, error) { return fewGPUs{n.Driver(), cfg.gpus}, nil }
	}
	c.Collector, c.Interval, c.Flush, c.DrainWait = cfg.collector, cfg.interval, cfg.flush, limitless
	c.HealthInterval, c.InventoryInterval = 5*cfg.interval, 10*cfg.interval
	if cfg.few {
		c.Subsecond, c.HealthInterval, c.InventoryInterval = false, time.Hour, time.Hour
	}
	if cfg.key != nil {
		c.Token = cfg.key.For(n.Name())
	}
	if cfg.change != nil {
		cfg.change(&c)
	}
	return c
}

// stop ends the agents, which send what they have first.
func (f *fleet) stop() {
	f.cancel()
	f.ended.Wait()
}

func (f *fleet) sum() agent.Stats {
	var sum agent.Stats
	for _, a := range f.agents {
		sum.Add(a.Stats())
	}
	return sum
}

// await waits until the fleet has come so far.
func (f *fleet) await(what string, ok func(agent.Stats) bool) {
	f.t.Helper()
	timeout := time.NewTimer(limitless)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok(f.sum()) {
		select {
		case <-timeout.C:
			f.t.Fatalf("%s did not come about: %+v", what, f.sum())
		case <-tick.C:
		}
	}
}

// awaitStored waits until so many more batches are stored than are now.
func (f *fleet) awaitStored(more uint64) {
	f.t.Helper()
	goal := f.sum().BatchesStored + more
	f.await(fmt.Sprintf("%d stored batches", goal), func(s agent.Stats) bool { return s.BatchesStored >= goal })
}

// wantExactlyOnce stops the fleet and compares what its agents say with what the database holds: every row once, every
// batch in the ledger, and no gap.
func (f *fleet) wantExactlyOnce(db embedded.Endpoint) {
	f.t.Helper()
	f.stop()
	for i, a := range f.agents {
		s := a.Stats()
		if s.BatchesDropped+s.BatchesRejected != 0 || s.BatchesWaiting != 0 || s.BatchesStored != s.BatchesQueued {
			f.t.Errorf("agent %s: %+v", f.names[i], s)
		}
	}
	f.wantRows(db)
	f.wantBatches(db)
	for _, table := range schema.Tables() {
		wantTableMatchesLedger(f.t, db, table.Name)
	}
}

// wantRows compares the rows of gpu_samples, agent by agent.
func (f *fleet) wantRows(db embedded.Endpoint) {
	f.t.Helper()
	stored := counts(f.t, db, "SELECT node_id, epoch, count() FROM gpu_samples GROUP BY node_id, epoch")
	different := counts(f.t, db, "SELECT node_id, epoch, uniqExact(gpu_id, ts) FROM gpu_samples GROUP BY node_id, epoch")
	var rows uint64
	for i, a := range f.agents {
		life := [2]uint64{wire.NodeID(f.names[i]), a.Epoch()}
		sent := a.Stats().Rows
		rows += sent
		if stored[life] != sent || different[life] != sent {
			f.t.Errorf("agent %s sent %d rows; %d are stored, of which %d differ", f.names[i], sent, stored[life], different[life])
		}
	}
	if rows == 0 {
		f.t.Error("no agent sent a row")
	}
	f.t.Logf("%d rows of %d agents, %+v", rows, len(f.agents), f.sum())
}

// wantBatches compares the ledger with what agents have made.
func (f *fleet) wantBatches(db embedded.Endpoint) {
	f.t.Helper()
	stored := counts(f.t, db, "SELECT node_id, epoch, uniqExact(table_name, seq) FROM ingest_ledger WHERE state = 'stored' GROUP BY node_id, epoch")
	for i, a := range f.agents {
		if got, want := stored[[2]uint64{wire.NodeID(f.names[i]), a.Epoch()}], a.Stats().BatchesQueued; got != want {
			f.t.Errorf("agent %s made %d batches, the ledger has %d", f.names[i], want, got)
		}
	}
	const gaps = `SELECT table_name, node_id, epoch, min(seq), max(seq), uniqExact(seq) AS batches FROM ingest_ledger
		WHERE state = 'stored' GROUP BY table_name, node_id, epoch HAVING min(seq) != 1 OR max(seq) != batches`
	for _, a := range []string{gaps, "SELECT * FROM ingest_ledger WHERE state != 'stored' AND node_id IN (" + f.ids() + ")"} {
		if got := clickhousetest.Query(f.t, db, a); got != "" {
			f.t.Errorf("%s:\n%s", a, got)
		}
	}
}

func (f *fleet) ids() string {
	list := []string{"0"}
	for _, name := range f.names {
		list = append(list, strconv.FormatUint(wire.NodeID(name), 10))
	}
	return strings.Join(list, ", ")
}

// wantTableMatchesLedger: every batch in the table is in the ledger with as many rows as are there, and the reverse.
func wantTableMatchesLedger(t *testing.T, db embedded.Endpoint, table string) {
	t.Helper()
	sql := fmt.Sprintf(`SELECT node_id, epoch, seq, in_table, in_ledger FROM
		(SELECT node_id, epoch, seq, count() AS in_table FROM %[1]s GROUP BY node_id, epoch, seq) AS t
		FULL OUTER JOIN
		(SELECT node_id, epoch, seq, max(rows) AS in_ledger, min(rows) AS least FROM ingest_ledger WHERE table_name = '%[1]s' AND state = 'stored' GROUP BY node_id, epoch, seq) AS l
		USING (node_id, epoch, seq) WHERE in_table != in_ledger OR least != in_ledger LIMIT 10`, table)
	if got := clickhousetest.Query(t, db, sql); got != "" {
		t.Errorf("%s and the ledger differ (node, epoch, sequence, rows here, rows there):\n%s", table, got)
	}
}

// counts reads a number for each node and epoch.
func counts(t *testing.T, db embedded.Endpoint, sql string) map[[2]uint64]uint64 {
	t.Helper()
	rows, err := clickhousetest.Open(t, db).Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[[2]uint64]uint64{}
	for rows.Next() {
		var life [2]uint64
		var count uint64
		if err := rows.Scan(&life[0], &life[1], &count); err != nil {
			t.Fatal(err)
		}
		found[life] = count
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
