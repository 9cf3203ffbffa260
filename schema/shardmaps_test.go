// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestJoinShardMaps(t *testing.T) {
	at := func(number uint32, second int64) schema.ShardMap {
		return schema.ShardMap{Number: number, AppliedAt: time.Unix(second, 0), Weights: []int{int(number)}}
	}
	for name, tt := range map[string]struct {
		a, b, want []schema.ShardMap
		missing    uint32
	}{
		"none":                    {},
		"one shard alone":         {b: []schema.ShardMap{at(1, 9)}, want: []schema.ShardMap{at(1, 9)}},
		"a new shard":             {a: []schema.ShardMap{at(1, 5), at(2, 9)}, b: []schema.ShardMap{at(2, 9)}, want: []schema.ShardMap{at(1, 5), at(2, 9)}},
		"the new shard first":     {a: []schema.ShardMap{at(2, 9)}, b: []schema.ShardMap{at(1, 5)}, want: []schema.ShardMap{at(1, 5), at(2, 9)}},
		"one was told later":      {a: []schema.ShardMap{at(1, 5), at(2, 9)}, b: []schema.ShardMap{at(1, 5), at(2, 20)}, want: []schema.ShardMap{at(1, 5), at(2, 20)}},
		"the new shard alone":     {a: []schema.ShardMap{at(2, 9)}, want: []schema.ShardMap{at(2, 9)}, missing: 1},
		"one between is missing":  {a: []schema.ShardMap{at(1, 9)}, b: []schema.ShardMap{at(3, 9)}, want: []schema.ShardMap{at(1, 9), at(3, 9)}, missing: 2},
		"two shards that know it": {a: []schema.ShardMap{at(1, 5)}, b: []schema.ShardMap{at(1, 5)}, want: []schema.ShardMap{at(1, 5)}},
	} {
		got, err := schema.JoinShardMaps(tt.a, tt.b)
		same := func(a, b schema.ShardMap) bool { return a.String() == b.String() && a.AppliedAt.Equal(b.AppliedAt) }
		if err != nil || !slices.EqualFunc(got, tt.want, same) || schema.MissingShardMap(got) != tt.missing {
			t.Errorf("%s: %v, of which %d is missing, want %v and %d: %v", name, got, schema.MissingShardMap(got), tt.want, tt.missing, err)
		}
	}
	if got, err := schema.JoinShardMaps([]schema.ShardMap{at(1, 5)}, []schema.ShardMap{{Number: 1, Weights: []int{2, 2}}}); err == nil || !strings.Contains(err.Error(), "delete the wrong one") {
		t.Errorf("two maps of one number: %v, %v", got, err)
	}
}

// deafTo is a server that fails the statements which have a text in them.
type deafTo struct {
	schema.Execer
	text string
}

var errDeaf = errors.New("not now")

// Exec implements schema.Execer.
func (d deafTo) Exec(ctx context.Context, query string, args ...any) error {
	if strings.Contains(query, d.text) {
		return errDeaf
	}
	return d.Execer.Exec(ctx, query, args...)
}

// TestANewShardIsToldAllMaps: the cluster was one shard, and gets another one, which knows nothing.
func TestANewShardIsToldAllMaps(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	shards := executors(t, c)
	if err := schema.OfShard(c.Name, false).Migrate(t.Context(), shards[0], "test"); err != nil {
		t.Fatal(err)
	}
	began := time.Now().UTC().Add(-40 * 24 * time.Hour).Truncate(time.Millisecond)
	if err := schema.NoteShardMap(t.Context(), shards[0], c.Name, schema.ShardMap{Number: 1, AppliedAt: began, Weights: []int{1}}, 1, "test"); err != nil {
		t.Fatal(err)
	}
	m := schema.ClusterMigration{Cluster: c.Named, Database: c.Name, By: "test"}
	cutShort := []schema.Execer{shards[0], deafTo{shards[1], "shard_maps (number"}}
	_, changed, err := m.Migrate(t.Context(), cutShort)
	if !errors.Is(err, errDeaf) || !changed || !strings.Contains(err.Error(), "map 2, weights 1,1 holds already, and shard 2 was not told of it") || !strings.Contains(err.Error(), "once more") {
		t.Errorf("cut short: changed %t, %v", changed, err)
	}
	if holds, changed, err := m.Migrate(t.Context(), shards); err != nil || !changed || holds.Number != 2 {
		t.Errorf("once more: %s, changed %t: %v", holds, changed, err)
	}
	if holds, changed, err := m.Migrate(t.Context(), shards); err != nil || changed || holds.Number != 2 {
		t.Errorf("a third time: %s, changed %t: %v", holds, changed, err)
	}
	for i, db := range shards {
		maps, own, err := schema.ShardMaps(t.Context(), db, c.Name)
		if err != nil || own != i+1 || len(maps) != 2 || !maps[0].AppliedAt.Equal(began) || time.Since(maps[1].AppliedAt).Abs() > time.Minute {
			t.Errorf("shard %d knows %v, and that it is shard %d: %v", i+1, maps, own, err)
		}
		engine := clickhousetest.Query(t, c.Shards[i].Writer, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'gpu_samples'")
		if strings.Contains(engine, "node_id") {
			t.Errorf("asked on shard %d about a node that has moved, ClickHouse looks on one shard alone: %s", i+1, engine)
		}
	}
	wantToldLate(t, c, shards)
}

// wantToldLate has a shard be told late of a map: until then it went by the one before. What is older than what it knows it
// is told with its time.
func wantToldLate(t *testing.T, c clickhousetest.Cluster, shards []schema.Execer) {
	t.Helper()
	nineDaysAgo := time.Now().UTC().Add(-9 * 24 * time.Hour).Truncate(time.Millisecond)
	known, _, err := schema.ShardMaps(t.Context(), shards[0], c.Name)
	if err != nil {
		t.Fatal(err)
	}
	all, err := schema.JoinShardMaps(known, []schema.ShardMap{{Number: 3, AppliedAt: nineDaysAgo, Weights: []int{2, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, told := range []bool{true, false} {
		maps, changed, err := schema.TellShard(t.Context(), shards[0], c.Name, all, 1, "test")
		if err != nil || changed != told || len(maps) != 3 || time.Since(maps[2].AppliedAt).Abs() > time.Minute {
			t.Errorf("told %t of %v: %v", changed, maps, err)
		}
	}
	clickhousetest.Exec(t, c.Shards[1].Writer, "TRUNCATE TABLE "+c.Name+"_local.shard_maps")
	if err := schema.NoteShardMap(t.Context(), shards[1], c.Name, all[2], 2, "test"); err != nil {
		t.Fatal(err)
	}
	maps, changed, err := schema.TellShard(t.Context(), shards[1], c.Name, all, 2, "test")
	if err != nil || changed || len(maps) != 3 || !maps[0].AppliedAt.Equal(all[0].AppliedAt) || !maps[2].AppliedAt.Equal(all[2].AppliedAt) {
		t.Errorf("told %t of %v: %v", changed, maps, err)
	}
	if _, _, err := schema.TellShard(t.Context(), shards[1], c.Name, all, 1, "test"); err == nil || !strings.Contains(err.Error(), "it is shard 2") {
		t.Errorf("as another shard: %v", err)
	}
}
