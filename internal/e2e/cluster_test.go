// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/audit"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// clusterConfig is a collector of a cluster. The ways to the shards may be others than their own addresses.
func clusterConfig(t *testing.T, c clickhousetest.Cluster, ways ...string) collector.Config {
	t.Helper()
	first := c.Shards[0].Writer
	first.Database = c.Name
	cfg := collectorConfig(t, first)
	cfg.Cluster.Name = c.Named
	for i, s := range c.Shards {
		way := s.Writer.HTTPAddress()
		if i < len(ways) {
			way = ways[i]
		}
		cfg.Cluster.Shards = append(cfg.Cluster.Shards, way)
	}
	return cfg
}

// TestCluster: the rows of a node are all on its shard, and what is asked of the cluster has them all.
func TestCluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	address, stop := startCollector(t, clusterConfig(t, c))
	f := startFleet(t, fleetConfig{nodes: 20, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond})
	f.await("3,000 rows", func(s agent.Stats) bool { return s.Rows >= 3000 })
	for _, s := range c.Shards {
		f.wantExactlyOnce(s.Reader)
	}
	var audited uint64
	for i, s := range c.Shards {
		answer := clickhousetest.Query(t, s.Writer, fmt.Sprintf("SELECT count() > 0, uniqExact(node_id %% 2), any(node_id %% 2) FROM %s_local.gpu_samples", c.Name))
		if want := fmt.Sprintf("1\t1\t%d", i); answer != want {
			t.Errorf("shard %d has rows, kinds of nodes, which: %q, want %q", i+1, answer, want)
		}
		own := s.Writer
		own.Database = schema.LocalDatabase(c.Name)
		report, err := audit.Run(t.Context(), clickhousetest.Open(t, own), audit.Options{})
		if err != nil || report.Verdict != audit.Clean {
			t.Errorf("audit of shard %d: %s of %d agents: %v", i+1, report.Verdict, report.Agents, err)
		}
		audited += report.Agents
	}
	if audited != 20 {
		t.Errorf("%d agents were audited, want 20", audited)
	}
	stop()
}

// storedOf adds up the stored batches of the nodes of one of two shards.
func (f *fleet) storedOf(shard int) (sum uint64) {
	for i, name := range f.names {
		if int(wire.NodeID(name)%2) == shard {
			sum += f.agents[i].Stats().BatchesStored
		}
	}
	return sum
}

func (f *fleet) awaitStoredOf(shard int, more uint64) {
	f.t.Helper()
	goal := f.storedOf(shard) + more
	f.await(fmt.Sprintf("%d stored batches of shard %d", goal, shard+1), func(agent.Stats) bool { return f.storedOf(shard) >= goal })
}

// TestAShardIsAway for a while: nodes of the other one are stored as if nothing were. Meanwhile the collector is started
// anew, and the shard is killed when it is back.
func TestAShardIsAway(t *testing.T) {
	c, servers := clickhousetest.DedicatedCluster(t, 2)
	way := newGate(t, c.Shards[1].Writer.HTTPAddress())
	cfg := clusterConfig(t, c, c.Shards[0].Writer.HTTPAddress(), way.address)
	checks := make(chan func(context.Context) []health.Check, 2)
	cfg.OnReady = func(f func(context.Context) []health.Check) { checks <- f }
	address, stop := startCollector(t, cfg)
	f := startFleet(t, fleetConfig{nodes: 20, gpus: 1, seed: 3, collector: address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond})
	f.awaitStored(60)
	way.close()
	began := time.Now()
	f.awaitStoredOf(0, 100)
	away := f.storedOf(1)
	f.awaitStoredOf(0, 100)
	if got := f.storedOf(1); got != away {
		t.Errorf("%d batches were stored on a shard that is away", got-away)
	}
	wantShardAway(t, <-checks)
	stop()
	cfg.Listen = address
	_, stop = startCollector(t, cfg)
	f.awaitStoredOf(0, 100)
	wantShardAway(t, <-checks)
	wantFresh(t, c, began)
	way.open()
	f.awaitStoredOf(1, 60)
	random := rand.New(rand.NewPCG(4, 1))
	for kill := range 2 {
		pause(time.Duration(random.IntN(300)) * time.Millisecond)
		killClickHouse(t, servers.Servers()[1])
		f.await("a restart", func(agent.Stats) bool { return servers.Servers()[1].Restarts() > kill })
		f.awaitStoredOf(1, 60)
	}
	f.wantExactlyOnce(c.Shards[0].Writer)
	stop()
}

func wantShardAway(t *testing.T, checks func(context.Context) []health.Check) {
	t.Helper()
	got := checks(t.Context())
	if health.AnyFailing(got) || got[1].State != health.OK || got[2].Name != "clickhouse shard 2" || got[2].State != health.Warning {
		t.Errorf("a shard is away, and the checks are %v", got)
	}
}

// wantFresh logs how soon rows of the first shard were stored since a time.
func wantFresh(t *testing.T, c clickhousetest.Cluster, since time.Time) {
	t.Helper()
	sql := fmt.Sprintf(`SELECT count(), quantiles(0.5, 0.99)(age)[1], quantiles(0.5, 0.99)(age)[2] FROM (
		SELECT (toUnixTimestamp64Milli(l.recorded_at) - toUnixTimestamp64Milli(r.newest)) / 1000 AS age FROM
		(SELECT node_id, epoch, seq, max(ts) AS newest FROM %[1]s_local.gpu_samples GROUP BY ALL) AS r
		INNER JOIN (SELECT * FROM %[1]s_local.ingest_ledger WHERE table_name = 'gpu_samples' AND recorded_at > fromUnixTimestamp64Milli(%[2]d)) AS l USING (node_id, epoch, seq))`, c.Name, since.UnixMilli())
	var batches uint64
	var half, most float64
	if _, err := fmt.Sscan(clickhousetest.Query(t, c.Shards[0].Writer, sql), &batches, &half, &most); err != nil || batches == 0 {
		t.Errorf("%d batches: %v", batches, err)
	}
	t.Logf("while the other shard was away, %d batches of this one were stored %.2f s after their last row, 99 %% of them within %.2f s", batches, half, most)
}

// TestNodesMoveToAnotherShard: at first all nodes are on the first of two shards. Then half of them move, while their agents
// send.
func TestNodesMoveToAnotherShard(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	shards := make([]schema.Execer, len(c.Shards))
	for i, s := range c.Shards {
		shards[i] = clickhousetest.Open(t, s.Writer)
		if err := schema.OfShard(c.Name, false).Migrate(t.Context(), shards[i], "test"); err != nil {
			t.Fatal(err)
		}
		if err := schema.NoteShardMap(t.Context(), shards[i], c.Name, schema.ShardMap{Number: 1, Weights: []int{1, 0}}, i+1, "test"); err != nil {
			t.Fatal(err)
		}
	}
	address, stop := startCollector(t, clusterConfig(t, c))
	f := startFleet(t, fleetConfig{nodes: 20, gpus: 1, seed: 5, collector: address, interval: 200 * time.Millisecond, flush: 200 * time.Millisecond})
	f.awaitStored(100)
	if got := clickhousetest.Query(t, c.Shards[1].Writer, "SELECT count() FROM "+c.Name+"_local.gpu_samples"); got != "0" {
		t.Errorf("the second shard has %s rows before nodes move", got)
	}
	holds, changed, err := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}.Migrate(t.Context(), shards)
	if err != nil || !changed || holds.Number != 2 {
		t.Fatalf("%s, changed %t: %v", holds, changed, err)
	}
	for deadline := time.Now().Add(limitless); clickhousetest.Query(t, c.Shards[1].Writer, "SELECT count() > 100 FROM "+c.Name+"_local.gpu_samples") != "1"; {
		if time.Now().After(deadline) {
			t.Fatal("no node has moved")
		}
		pause(100 * time.Millisecond)
	}
	f.awaitStored(60)
	for _, s := range c.Shards {
		f.wantExactlyOnce(s.Reader)
	}
	const moved = "SELECT count() > 0 FROM (SELECT node_id FROM gpu_samples GROUP BY node_id, epoch HAVING uniqExact(_shard_num) = 2)"
	if got := clickhousetest.Query(t, c.Shards[0].Reader, moved); got != "1" {
		t.Error("no life has rows on both shards")
	}
	stop()
}
