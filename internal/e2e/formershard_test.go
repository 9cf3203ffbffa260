// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// queuedOf adds up the batches that nodes of one of two shards have made.
func (f *fleet) queuedOf(shard int) (sum uint64) {
	for i, name := range f.names {
		if int(wire.NodeID(name)%2) == shard {
			sum += f.agents[i].Stats().BatchesQueued
		}
	}
	return sum
}

// follow has all shards told of maps with these weights.
func follow(t *testing.T, c clickhousetest.Cluster, weights ...[]int) {
	t.Helper()
	var maps []schema.ShardMap
	for i, w := range weights {
		maps = append(maps, schema.ShardMap{Number: uint32(i + 1), Weights: w})
	}
	for i, s := range c.Shards {
		db := clickhousetest.Open(t, s.Writer)
		if err := schema.OfShard(c.Name, false).Migrate(t.Context(), db, "test"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := schema.TellShard(t.Context(), db, c.Name, maps, i+1, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFormerShardIsAway: the nodes of the second shard move to the first one. Then the collector is killed, with batches of
// them in its log that are not stored, and when it is started anew the second shard is away: the nodes that were on the first
// one all the time do not notice, and the others wait.
func TestAFormerShardIsAway(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	first, second := newGate(t, c.Shards[0].Writer.HTTPAddress()), newGate(t, c.Shards[1].Writer.HTTPAddress())
	follow(t, c, []int{1, 1})
	p := newProcess(t, buildCollector(t), c.Shards[0].Writer)
	p.args = append(p.args, "--clickhouse", first.address, "--clickhouse-cluster", c.Named, "--clickhouse-shard", first.address, "--clickhouse-shard", second.address)
	p.start()
	f := startFleet(t, fleetConfig{nodes: 20, gpus: 1, seed: 6, collector: p.address, interval: 200 * time.Millisecond, flush: 200 * time.Millisecond})
	f.awaitStored(60)
	follow(t, c, []int{1, 1}, []int{1, 0})
	odd := fmt.Sprintf("SELECT count() > 100 FROM %s.gpu_samples WHERE node_id %% 2 = 1", schema.LocalDatabase(c.Name))
	f.await("a move", func(agent.Stats) bool { return clickhousetest.Query(t, c.Shards[0].Writer, odd) == "1" })
	first.close()
	more := f.queuedOf(1) + 60
	f.await("batches that are accepted and not stored", func(agent.Stats) bool { return f.queuedOf(1) >= more })
	p.kill()
	second.close()
	first.open()
	away := f.storedOf(1)
	p.start()
	f.awaitStoredOf(0, 200)
	if got := f.storedOf(1); got != away {
		t.Errorf("%d batches were stored that may be on a shard which is away", got-away)
	}
	second.open()
	f.awaitStoredOf(1, 60)
	f.wantExactlyOnce(c.Shards[0].Reader)
}
