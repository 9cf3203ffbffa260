// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/schema"
)

// shardSeen is what was seen of one shard.
type shardSeen struct {
	findings []Finding
	maps     []schema.ShardMap // that it was told of, by number
	answers  bool
}

// holds is the newest map that it was told of.
func (s shardSeen) holds() schema.ShardMap {
	if len(s.maps) == 0 {
		return schema.ShardMap{}
	}
	return s.maps[len(s.maps)-1]
}

// shards looks at all shards of a cluster at the same time.
func shards(ctx context.Context, cfg Config, conn driver.Conn, e clickhouseclient.Endpoint, layout schema.Layout) []Finding {
	place := clickhouseclient.Place{URL: cfg.ClickHouse, DataDir: cfg.DataDir, Shards: cfg.Shards}
	endpoints, err := place.ShardEndpoints(ctx, conn, e, layout.Cluster)
	if err != nil {
		return []Finding{fail("shards", says(query.Explain(err, "")), "all servers need the same remote_servers, and this user SELECT on system.clusters; --clickhouse-shard names the shards' HTTP addresses")}
	}
	all := make([]shardSeen, len(endpoints))
	var looking sync.WaitGroup
	for i, one := range endpoints {
		one.Database = layout.Local
		looking.Go(func() { all[i] = lookAtShard(ctx, one, e.Database, i+1) })
	}
	looking.Wait()
	var findings []Finding
	for _, s := range all {
		findings = append(findings, s.findings...)
	}
	return append(findings, shardMap(ctx, conn, e, layout, all))
}

// lookAtShard looks at one shard's own database.
func lookAtShard(ctx context.Context, e clickhouseclient.Endpoint, over string, number int) (seen shardSeen) {
	check := fmt.Sprintf("shard %d", number)
	conn, err := clickhouseclient.Dial(ctx, e)
	if err != nil {
		f := unreachable(check, err)
		f.Fix += "; meanwhile agents of its nodes keep their batches, and questions that need it fail"
		return shardSeen{findings: []Finding{f}}
	}
	defer conn.Close() //nolint:errcheck // it was only read from
	maps, own, err := schema.ShardMaps(ctx, conn, over)
	switch {
	case err != nil:
		return shardSeen{findings: []Finding{fail(check, says(query.Explain(e.Explain(err), "")), fmt.Sprintf("GRANT SELECT ON %s.*, system.tables", e.Database))}}
	case own != 0 && own != number:
		return shardSeen{findings: []Finding{fail(check, fmt.Sprintf("%s is shard %d", e.Address, own), "give --clickhouse-shard in the shards' order; if it is so already, the server has the data directory of another one")}}
	}
	seen.maps, seen.answers = maps, true
	found := tables(ctx, conn, e, check)
	if found.Level == OK {
		found.Says = e.String() + ", " + found.Says
		seen.findings = append(seen.findings, found, running(ctx, conn, e, check+" collectors"))
		if holds := seen.holds(); number > len(holds.Weights) || holds.Weights[number-1] > 0 { // else it has no nodes
			seen.findings = append(seen.findings, samples(ctx, conn, e, check+" samples"))
		}
		return seen
	}
	seen.findings = append(seen.findings, found)
	return seen
}

// shardMap compares the maps of nodes to shards with each other, and with the cluster's configuration.
func shardMap(ctx context.Context, conn driver.Conn, e clickhouseclient.Endpoint, layout schema.Layout, all []shardSeen) Finding {
	const check = "shard map"
	const apply = "`gpufleet schema apply` tells all shards, once all answer"
	in, err := schema.FindCluster(ctx, conn, layout.Cluster)
	if err != nil {
		return fail(check, says(query.Explain(e.Explain(err), "")), "GRANT SELECT ON system.clusters")
	}
	var known []schema.ShardMap // to all of them together
	for i, s := range all {
		if known, err = schema.JoinShardMaps(known, s.maps); err != nil {
			return fail(check, fmt.Sprintf("shard %d: %v", i+1, err), "the right one is the one that the other shards have")
		}
	}
	newest := shardSeen{maps: known}.holds()
	for i, s := range all {
		if s.answers && s.holds().Number != newest.Number {
			return fail(check, fmt.Sprintf("shard %d has %s, and another one %s: its claims are granted by an old map", i+1, s.holds(), newest), apply)
		}
	}
	for i, s := range all {
		if s.answers && len(s.maps) < len(known) {
			return fail(check, fmt.Sprintf("shard %d knows %d of %d maps: asked there, or if it alone answers, where nodes were before is not known", i+1, len(s.maps), len(known)), apply+"; so does a collector at its start")
		}
	}
	if missing := schema.MissingShardMap(known); missing != 0 {
		return fail(check, schema.NoShardMap{Number: missing, Newest: newest}.Error(), "a shard that knows it must answer; collectors that are started wait for it")
	}
	switch {
	case newest.Number == 0:
		return warn(check, "no shard was told which nodes are whose", "a collector tells them at its start, or "+apply)
	case !slices.Equal(in.Weights(), newest.Weights):
		return warn(check, fmt.Sprintf("%s has the weights %v, and nodes go by %s", layout.Cluster, in.Weights(), newest), "to have nodes move, run `gpufleet schema apply`: docs/operations.md, a cluster")
	case len(layout.Scattered) > 0:
		return ok(check, "%s; %d tables are read from all shards, as nodes have moved", newest, len(layout.Scattered))
	default:
		return ok(check, "%s", newest)
	}
}
