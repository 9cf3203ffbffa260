// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"slices"
)

// ClusterMigration is how a cluster is brought to the state of this version.
type ClusterMigration struct {
	Cluster    string // as system.clusters calls it
	Database   string // that people ask, on every server
	Replicated bool
	// Scatter has all tables read from all shards from now on, as if nodes had moved: before they do, because the cluster gets
	// another shard or other weights.
	Scatter bool
	By      string // program and version
}

// Migrate does what a collector does on its own at its start, and what it never does: it has the map of nodes to shards
// follow the shards and weights of the cluster. shards are a server of each, in their order; all must answer. It returns the
// map that holds, and whether it is new.
func (m ClusterMigration) Migrate(ctx context.Context, shards []Execer) (holds ShardMap, changed bool, err error) {
	known, weights, err := m.look(ctx, shards)
	if err != nil {
		return holds, false, err
	}
	holds = ShardMap{Number: 1, Weights: weights}
	if len(known) > 0 {
		holds = known[len(known)-1]
	}
	if len(weights) < len(holds.Weights) {
		return holds, false, fmt.Errorf("%s has %d shards, and by %s there are %d: a shard is not taken away, but given the weight 0", m.Cluster, len(weights), holds, len(holds.Weights))
	}
	if len(known) > 0 && (m.Scatter || !slices.Equal(weights, holds.Weights)) {
		holds = ShardMap{Number: holds.Number + 1, Weights: weights}
	}
	if err := holds.Validate(); err != nil {
		return holds, false, err
	}
	for i, db := range shards {
		if err := OfShard(m.Database, m.Replicated).Migrate(ctx, db, m.By); err != nil {
			return holds, false, fmt.Errorf("shard %d: %w", i+1, err)
		}
	}
	if known, err = JoinShardMaps(known, []ShardMap{holds}); err != nil {
		return holds, false, err
	}
	changed, err = m.tell(ctx, shards, known)
	if err != nil {
		return holds, changed, err
	}
	for i, db := range shards {
		if err := m.over(ctx, db); err != nil {
			return holds, changed, fmt.Errorf("shard %d: %w; run it once more", i+1, err)
		}
	}
	return holds, changed, nil
}

// tell tells all shards of all maps: from the first one that is told of the last map on collectors go by it. It returns
// whether that was new to one of them.
func (m ClusterMigration) tell(ctx context.Context, shards []Execer, known []ShardMap) (changed bool, err error) {
	for i, db := range shards {
		_, told, err := TellShard(ctx, db, m.Database, known, i+1, m.By)
		changed = changed || told
		switch {
		case err != nil && changed:
			return true, fmt.Errorf("%s holds already, and shard %d was not told of it: %w; run it once more", known[len(known)-1], i+1, err)
		case err != nil:
			return false, fmt.Errorf("shard %d: %w", i+1, err)
		}
	}
	return changed, nil
}

// look asks all shards for their maps, and the first for the weights.
func (m ClusterMigration) look(ctx context.Context, shards []Execer) (known []ShardMap, weights []int, err error) {
	for i, db := range shards {
		in, err := FindCluster(ctx, db, m.Cluster)
		if err != nil {
			return nil, nil, fmt.Errorf("shard %d: %w", i+1, err)
		}
		maps, own, err := ShardMaps(ctx, db, m.Database)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("shard %d: %w", i+1, err)
		case own != 0 && own != i+1, in.Own != 0 && in.Own != i+1:
			return nil, nil, fmt.Errorf("shard %d was given as shard %d: give the shards in their order", max(own, in.Own), i+1)
		case len(in.Shards) != len(shards):
			return nil, nil, fmt.Errorf("shard %d: its %s has %d shards, and %d are given: all servers must have the same remote_servers", i+1, m.Cluster, len(in.Shards), len(shards))
		case i > 0 && !slices.Equal(weights, in.Weights()):
			return nil, nil, fmt.Errorf("shard %d: its %s has the weights %v, and the first one's has %v: all servers must have the same remote_servers", i+1, m.Cluster, in.Weights(), weights)
		}
		weights = in.Weights()
		if known, err = JoinShardMaps(known, maps); err != nil {
			return nil, nil, fmt.Errorf("shard %d: %w", i+1, err)
		}
	}
	if n := MissingShardMap(known); n != 0 {
		return nil, nil, NoShardMap{Number: n, Newest: known[len(known)-1]}
	}
	return known, weights, nil
}

// over brings what people ask on one server up to date.
func (m ClusterMigration) over(ctx context.Context, db Execer) error {
	maps, _, err := ShardMaps(ctx, db, m.Database)
	if err != nil {
		return err
	}
	scattered, err := Scattered(ctx, db, m.Database, maps)
	if err != nil {
		return err
	}
	return OverShards(m.Cluster, m.Database, scattered).Migrate(ctx, db, m.By)
}
