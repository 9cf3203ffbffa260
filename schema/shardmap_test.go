// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestShardOfANode(t *testing.T) {
	tests := []struct {
		weights []int
		want    []int // of the nodes 0, 1, 2, …
	}{
		{[]int{1}, []int{0, 0, 0}},
		{[]int{1, 1}, []int{0, 1, 0, 1}},
		{[]int{2, 1}, []int{0, 0, 1, 0, 0, 1}},
		{[]int{1, 0, 2}, []int{0, 2, 2, 0}},
		{[]int{0, 1}, []int{1, 1}},
	}
	for _, tt := range tests {
		for node, want := range tt.want {
			if got := (schema.ShardMap{Weights: tt.weights}).Shard(uint64(node)); got != want {
				t.Errorf("weights %v: node %d is on shard %d, want %d", tt.weights, node, got, want)
			}
		}
	}
	for _, weights := range [][]int{nil, {}, {0, 0}, {1, -1}, {1 << 21}} {
		if err := (schema.ShardMap{Weights: weights}).Validate(); err == nil {
			t.Errorf("weights %v are valid", weights)
		}
	}
}

// executors connects with all shards.
func executors(t *testing.T, c clickhousetest.Cluster) (shards []schema.Execer) {
	t.Helper()
	for _, s := range c.Shards {
		shards = append(shards, clickhousetest.Open(t, s.Writer))
	}
	return shards
}

// TestNodesAreWhereClickHouseLooksForThem holds the map against ClickHouse's own rule, by which it leaves shards out.
func TestNodesAreWhereClickHouseLooksForThem(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	holds, _, err := m.Migrate(t.Context(), executors(t, c))
	if err != nil {
		t.Fatal(err)
	}
	nodes := []uint64{0, 1, 2, 3, 1<<63 + 1, 1<<64 - 1, 1<<64 - 2, 0x9e3779b97f4a7c15}
	for _, node := range nodes {
		home := holds.Shard(node)
		clickhousetest.Exec(t, c.Shards[home].Writer, fmt.Sprintf("INSERT INTO %s_local.gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 1, %d, 1, 1)", c.Name, node))
		for _, s := range c.Shards {
			if got := clickhousetest.Query(t, s.Reader, fmt.Sprintf("SELECT count() FROM gpu_samples WHERE node_id = %d", node)); got != "1" {
				t.Errorf("of node %d, on shard %d, %s rows are found", node, home+1, got)
			}
		}
	}
}

func TestMigrateAllShards(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	shards := executors(t, c)
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	for step, want := range []struct {
		scatter bool
		number  uint32
		changed bool
	}{{false, 1, true}, {false, 1, false}, {true, 2, true}, {false, 2, false}} {
		m.Scatter = want.scatter
		holds, changed, err := m.Migrate(t.Context(), shards)
		if err != nil || holds.Number != want.number || changed != want.changed || !slices.Equal(holds.Weights, []int{1, 1}) {
			t.Errorf("step %d: %s, changed %t, %v", step, holds, changed, err)
		}
		for i, s := range c.Shards {
			maps, own, err := schema.ShardMaps(t.Context(), shards[i], c.Name)
			if err != nil || own != i+1 || len(maps) != int(want.number) || time.Since(maps[0].AppliedAt).Abs() > time.Minute {
				t.Errorf("step %d: shard %d was told of %v, and that it is shard %d: %v", step, i+1, maps, own, err)
			}
			pruned := strings.Contains(clickhousetest.Query(t, s.Writer, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'gpu_samples'"), "node_id")
			if pruned != (want.number == 1) {
				t.Errorf("step %d: shards are left out: %t", step, pruned)
			}
		}
	}
}

func TestMigrateRefusesOtherShards(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	shards := executors(t, c)
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	wants := func(name, want string, m schema.ClusterMigration, shards []schema.Execer) {
		t.Helper()
		if _, _, err := m.Migrate(t.Context(), shards); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	wants("another order", "shard 2 was given as shard 1", m, []schema.Execer{shards[1], shards[0]})
	wants("too few", "has 2 shards, and 1 are given", m, shards[:1])
	wants("no such cluster", `knows no cluster "elsewhere"`, schema.ClusterMigration{Cluster: "elsewhere", Database: c.Name}, shards)
	for _, s := range c.Shards {
		if got := clickhousetest.Query(t, s.Writer, "SELECT count() FROM system.tables WHERE database LIKE '"+c.Name+"%'"); got != "0" {
			t.Fatalf("%s tables were made", got)
		}
	}
	if _, _, err := m.Migrate(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
	if err := schema.NoteShardMap(t.Context(), shards[0], c.Name, schema.ShardMap{Number: 2, Weights: []int{1, 1, 1}}, 1, "test"); err != nil {
		t.Fatal(err)
	}
	wants("a shard less", "given the weight 0", m, shards)
	if err := schema.NoteShardMap(t.Context(), shards[0], c.Name, schema.ShardMap{Number: 2, Weights: []int{2, 1, 1}}, 1, "test"); err != nil {
		t.Fatal(err)
	}
	wants("two maps of one number", "two maps of the number 2", m, shards)
}

// TestScatteredAsLongAsRowsAreKept: once no table has a row that an earlier map has put elsewhere, shards are left out again.
func TestScatteredAsLongAsRowsAreKept(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	shards := executors(t, c)
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	if _, _, err := m.Migrate(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
	clickhousetest.Exec(t, c.Shards[0].Writer, "ALTER TABLE "+c.Name+"_local.gpu_samples MODIFY TTL toDateTime(ts) + toIntervalDay(90)")
	for days, want := range map[int][2]bool{1: {true, true}, 40: {true, false}, 100: {false, false}} {
		maps := []schema.ShardMap{{Number: 1}, {Number: 2, AppliedAt: time.Now().AddDate(0, 0, -days)}}
		scattered, err := schema.Scattered(t.Context(), shards[0], c.Name, maps)
		if got := [2]bool{scattered["gpu_samples"], scattered["ingest_ledger"]}; err != nil || got != want || scattered["gpu_prices"] {
			t.Errorf("%d days after a map: %v, want %v; %v", days, got, want, err)
		}
	}
	if scattered, err := schema.Scattered(t.Context(), shards[0], c.Name, []schema.ShardMap{{Number: 1}}); err != nil || len(scattered) > 0 {
		t.Errorf("by the first map %v; %v", scattered, err)
	}
}
