// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Shard is one of a cluster. A store that has one writes into the shard's own database, on one of its servers.
type Shard struct {
	Cluster    string // as system.clusters calls it
	Number     int    // from 1 on
	Replicated bool
	// Maps say which nodes are whose, and were before, by number from 1 on. The last one holds; a store whose shard was told of
	// a newer one grants no claim any more.
	Maps []schema.ShardMap
	// Former had nodes of this shard before the map. What of their batches is doubtful is looked for there, too.
	Former func(node, epoch uint64) []*Store
}

// String is how people call it.
func (s *Shard) String() string { return fmt.Sprintf("shard %d of %s", s.Number, s.Cluster) }

// holds is the map that the store goes by.
func (s *Shard) holds() schema.ShardMap { return s.Maps[len(s.Maps)-1] }

// ErrMapChanged says that another map of nodes to shards holds from now on.
var ErrMapChanged = errors.New("the cluster has another map of nodes to shards now")

// mapLook is how often a shard is asked whether it was told of a newer map.
const mapLook = 5 * time.Second

// migrate brings the schema up to date: of the one server, or of a shard and of what is asked on it for all of them.
func (s *Store) migrate(ctx context.Context) error {
	shard, database := s.cfg.Shard, s.cfg.Endpoint.Database
	if shard == nil {
		return schema.Migrate(ctx, s.db, database, s.cfg.Program)
	}
	in, err := schema.FindCluster(ctx, s.db, shard.Cluster)
	switch {
	case err != nil:
		return err
	case in.Own != 0 && in.Own != shard.Number:
		return fmt.Errorf("%s is shard %d of %s by its own configuration, and was given as shard %d: give the shards in their order", s.cfg.Endpoint.Address, in.Own, shard.Cluster, shard.Number)
	}
	if err := schema.OfShard(database, shard.Replicated).Migrate(ctx, s.db, s.cfg.Program); err != nil {
		return err
	}
	maps, err := s.noteMap(ctx)
	if err != nil {
		return err
	}
	scattered, err := schema.Scattered(ctx, s.db, database, maps)
	if err != nil {
		return err
	}
	return schema.OverShards(shard.Cluster, database, scattered).Migrate(ctx, s.db, s.cfg.Program)
}

// noteMap sees to it that the shard knows of all maps. From then on no process of an older one is granted a claim there.
func (s *Store) noteMap(ctx context.Context) ([]schema.ShardMap, error) {
	shard := s.cfg.Shard
	maps, _, err := schema.TellShard(ctx, s.db, s.cfg.Endpoint.Database, shard.Maps, shard.Number, s.cfg.Program)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", s.cfg.Endpoint.Address, err)
	case maps[len(maps)-1].Number > shard.holds().Number:
		return nil, ErrMapChanged
	default:
		return maps, nil
	}
}

// checkMap is asked after a claim was written: if it finds no newer map, then whoever goes by a newer one and claims the
// same life finds this claim, and ends it.
func (s *Store) checkMap(ctx context.Context) error {
	shard := s.cfg.Shard
	if shard == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	var newest uint32
	if err := s.db.QueryRow(ctx, fmt.Sprintf("SELECT max(number) FROM `%s`.shard_maps", s.db.name)).Scan(&newest); err != nil {
		return fmt.Errorf("ask for the map of nodes to shards: %w", err)
	}
	if newest <= shard.holds().Number {
		return nil
	}
	s.mapChangedOnce.Do(func() { close(s.mapChanged) })
	return ErrMapChanged
}

// MapChanged is closed when the shard was told of another map: the collector is to go by that one.
func (s *Store) MapChanged() <-chan struct{} { return s.mapChanged }

// watchMap looks for another map until the context ends.
func (s *Store) watchMap(ctx context.Context) error {
	for s.cfg.Shard != nil && sleep(ctx, mapLook) {
		if err := s.checkMap(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("whether the map of nodes to shards has changed is not known", "shard", s.cfg.Shard.Number, "error", err)
		}
	}
	return nil
}
