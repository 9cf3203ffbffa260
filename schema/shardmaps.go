// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// JoinShardMaps puts together what two shards were told of, by number. One that was away when a map was noted was told of it
// later, and went by the one before until then: the later time counts.
func JoinShardMaps(a, b []ShardMap) ([]ShardMap, error) {
	joined := slices.Clone(a)
	for _, m := range b {
		i, found := slices.BinarySearchFunc(joined, m.Number, func(m ShardMap, number uint32) int { return cmp.Compare(m.Number, number) })
		switch {
		case !found:
			joined = slices.Insert(joined, i, m)
		case !slices.Equal(joined[i].Weights, m.Weights):
			return nil, fmt.Errorf("one shard knows %s, and another one %s: delete the wrong one from shard_maps on every shard", joined[i], m)
		case m.AppliedAt.After(joined[i].AppliedAt):
			joined[i].AppliedAt = m.AppliedAt
		}
	}
	return joined, nil
}

// MissingShardMap is the first number that is not among the maps, which begin at 1 and leave none out; 0: all are there.
func MissingShardMap(maps []ShardMap) uint32 {
	for i, m := range maps {
		if want := uint32(i + 1); m.Number != want {
			return want
		}
	}
	return 0
}

// TellShard tells a server, which is the shard of that number, of the maps that it does not know, so that it can tell all of
// them if it alone answers, and knows for itself where nodes were. It returns those that it knows then, and whether the last
// of all was new to it. A new shard takes the times as they are; one that has gone by an earlier map goes by
// the newer ones from now on.
func TellShard(ctx context.Context, db Execer, database string, all []ShardMap, shard int, by string) (known []ShardMap, told bool, err error) {
	known, own, err := ShardMaps(ctx, db, database)
	switch {
	case err != nil:
		return nil, false, err
	case own != 0 && own != shard:
		return nil, false, fmt.Errorf("it is shard %d by its shard_maps, and was given as shard %d: give the shards in their order", own, shard)
	}
	joined, err := JoinShardMaps(known, all)
	if err != nil || len(joined) == len(known) {
		return known, false, err
	}
	for _, m := range all {
		if slices.ContainsFunc(known, func(k ShardMap) bool { return k.Number == m.Number }) {
			continue
		}
		if n := len(known); n > 0 && m.Number > known[n-1].Number {
			m.AppliedAt = time.Time{}
		}
		if err := NoteShardMap(ctx, db, database, m, shard, by); err != nil {
			return nil, false, err
		}
		told = m.Number == joined[len(joined)-1].Number
	}
	known, _, err = ShardMaps(ctx, db, database)
	return known, told, err
}

// NoShardMap is the error of maps of which an earlier one is missing: where nodes were is not known, and what was stored there
// would be stored again.
type NoShardMap struct {
	Number uint32
	Newest ShardMap
}

// Error implements error.
func (e NoShardMap) Error() string {
	return fmt.Sprintf("%s holds, and no shard that answers knows map %d: where nodes were then is not known, and what was stored there would be stored once more", e.Newest, e.Number)
}
