// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestShardsOfACluster looks at two shards, of which the second one lacks more and more.
func TestShardsOfACluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	var writers []schema.Execer
	cfg := Config{ClickHouse: address(c.Shards[0]), Password: c.Shards[0].Reader.Password}
	for _, s := range c.Shards {
		writers = append(writers, clickhousetest.Open(t, s.Writer))
		cfg.Shards = append(cfg.Shards, s.Reader.HTTPAddress())
	}
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	if _, _, err := m.Migrate(t.Context(), writers); err != nil {
		t.Fatal(err)
	}
	want := func(check string, level Level, what string) {
		t.Helper()
		f := find(examine(t, cfg), check)
		if f.Level != level || !strings.Contains(f.Says, what) || (f.Fix == "") != (level == OK) {
			t.Errorf("%+v, want %s: %s: %s", f, check, level, what)
		}
	}
	local := schema.LocalDatabase(c.Name)
	on := func(shard int, statement string) {
		clickhousetest.Exec(t, c.Shards[shard].Writer, strings.ReplaceAll(statement, "DB", local))
	}
	want("tables", OK, "schema version")
	want("shard 2", OK, "schema version")
	want("shard map", OK, "map 1, weights 1,1")
	want("shard 2 samples", Warn, "none")
	on(0, "INSERT INTO DB.gpu_samples (ts, gpu_id) VALUES (now64(3), 1)")
	want("shard 1 samples", OK, "the newest")
	want("shard 2 samples", Warn, "none") // its own
	on(0, "INSERT INTO DB.collectors (seen_at, collector, instance, started_at, host) VALUES (now64(3), 'a', 1, now64(3), 'x')")
	want("shard 1 collectors", OK, "1 run: a")
	want("shard 2 collectors", Warn, "none runs") // it does not reach this one
	if err := schema.NoteShardMap(t.Context(), writers[0], c.Name, schema.ShardMap{Number: 2, Weights: []int{1, 1}}, 1, "test"); err != nil {
		t.Fatal(err)
	}
	want("shard map", Fail, "shard 2 has map 1, weights 1,1, and another one map 2")
	if err := schema.NoteShardMap(t.Context(), writers[1], c.Name, schema.ShardMap{Number: 3, Weights: []int{1, 0}}, 2, "test"); err != nil {
		t.Fatal(err)
	}
	want("shard map", Fail, "shard 1 has map 2")
	if err := schema.NoteShardMap(t.Context(), writers[0], c.Name, schema.ShardMap{Number: 3, Weights: []int{1, 0}}, 1, "test"); err != nil {
		t.Fatal(err)
	}
	want("shard map", Fail, "shard 2 knows 2 of 3 maps") // it would not know where nodes were before
	if err := schema.NoteShardMap(t.Context(), writers[1], c.Name, schema.ShardMap{Number: 2, Weights: []int{1, 1}}, 2, "test"); err != nil {
		t.Fatal(err)
	}
	want("shard map", Warn, "has the weights [1 1], and nodes go by map 3, weights 1,0")
	if f := find(examine(t, cfg), "shard 2 samples"); f.Check != "" {
		t.Errorf("a shard without nodes: %+v", f)
	}
	on(1, "DROP TABLE DB.gpu_events")
	want("shard 2", Fail, "table gpu_events is missing")
	cfg.Shards[0], cfg.Shards[1] = cfg.Shards[1], cfg.Shards[0]
	want("shard 1", Fail, "is shard 2")
	cfg.Shards[0], cfg.Shards[1] = cfg.Shards[1], "127.0.0.1:1"
	want("shard 2", Fail, "refused")
	want("shard 1", OK, "schema version")
	cfg.Shards = cfg.Shards[:1]
	want("shards", Fail, "2 shards, and 1 addresses")
}
