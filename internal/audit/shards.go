// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"
)

func shardsOf(conn driver.Conn, opts Options) []driver.Conn {
	if len(opts.Shards) == 0 {
		return []driver.Conn{conn}
	}
	return opts.Shards
}

// overAll are the settings of a question about all shards: none is left out, whatever the map of nodes says.
var overAll = clickhouse.Settings{"optimize_skip_unused_shards": 0}

// onShards are those of a question that groups by node: if ClickHouse knows that a node is on one shard alone, as it does
// unless nodes have moved, that shard groups.
var onShards = clickhouse.Settings{"optimize_skip_unused_shards": 1, "optimize_distributed_group_by_sharding_key": 1}

// onEach asks all shards at the same time. An answer of one that is away is missing, and so there is none.
func onEach[T any](ctx context.Context, shards []driver.Conn, ask func(ctx context.Context, conn driver.Conn) (T, error)) ([]T, error) {
	answers := make([]T, len(shards))
	group, ctx := errgroup.WithContext(ctx)
	for i, conn := range shards {
		group.Go(func() (err error) {
			if answers[i], err = ask(ctx, conn); err != nil && len(shards) > 1 {
				return fmt.Errorf("shard %d: %w", i+1, err)
			}
			return err
		})
	}
	return answers, group.Wait()
}

func (a *audit) surveyAll(ctx context.Context, w window) ([][]life, error) {
	return onEach(ctx, a.shards, func(ctx context.Context, conn driver.Conn) ([]life, error) { return a.survey(ctx, conn, w) })
}

// onSeveral tells which nodes more than one shard has something of, and how much there is to look at.
func onSeveral(surveyed [][]life) map[uint64]uint64 {
	on := make(map[uint64]map[int]bool)
	weights := make(map[uint64]uint64)
	for shard, lives := range surveyed {
		for _, l := range lives {
			if on[l.node] == nil {
				on[l.node] = make(map[int]bool, 1)
			}
			on[l.node][shard] = true
			weights[l.node] += max(l.weight, 1)
		}
	}
	maps.DeleteFunc(weights, func(node, _ uint64) bool { return len(on[node]) < 2 })
	return weights
}

// inspectMoved looks at all lives of nodes that are on several shards.
func (a *audit) inspectMoved(ctx context.Context, w window, moved map[uint64]uint64, at int) error {
	if len(moved) == 0 {
		return nil
	}
	old, err := a.oldPartsOfAll(ctx, w)
	if err != nil {
		return err
	}
	ctx = clickhouse.Context(w.context(ctx, a.opts.MaxGaps), clickhouse.WithSettings(allOf(settings, overAll)))
	var nodes []life
	for _, node := range slices.Sorted(maps.Keys(moved)) {
		nodes = append(nodes, life{node: node, weight: moved[node]})
	}
	for _, some := range shares(nodes) {
		ids := make([]uint64, len(some))
		for i, l := range some {
			ids[i] = l.node
		}
		query := strings.NewReplacer("/*lives*/", "node_id IN ("+list(ids)+")", "/*old*/", old).Replace(inspectQuery)
		if err := a.inspectBy(ctx, a.conn, query, len(some), at); err != nil {
			return fmt.Errorf("nodes that have moved: %w", err)
		}
	}
	return nil
}

// oldPartsOfAll is oldParts for rows of all shards. Parts are the server's own, so that each is asked.
func (a *audit) oldPartsOfAll(ctx context.Context, w window) (condition string, err error) {
	named, err := onEach(ctx, a.shards, func(ctx context.Context, conn driver.Conn) ([]string, error) {
		var parts []struct {
			Name string `ch:"name"`
		}
		err := conn.Select(w.context(ctx, 0), &parts, `SELECT name FROM system.parts
WHERE database = currentDatabase() AND table = {table:String} AND active AND modification_time <= toDateTime({old:Int64})`)
		names := make([]string, len(parts))
		for i, p := range parts {
			names[i] = p.Name
		}
		return names, err
	})
	if err != nil {
		return "", fmt.Errorf("ask for parts: %w", err)
	}
	var old []string
	for i, names := range named {
		for _, name := range names {
			old = append(old, fmt.Sprintf("(%d, '%s')", i+1, name))
		}
	}
	if len(old) == 0 {
		return "0", nil
	}
	return "(_shard_num, _part) IN (" + strings.Join(old, ", ") + ")", nil
}

func list(ids []uint64) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatUint(id, 10)
	}
	return strings.Join(texts, ", ")
}

func allOf(all ...clickhouse.Settings) clickhouse.Settings {
	sum := make(clickhouse.Settings)
	for _, s := range all {
		maps.Copy(sum, s)
	}
	return sum
}

// movedNodes lists the nodes of which more than one shard has recorded something in the time of a tally.
func (t *tally) movedNodes(ctx context.Context) ([]uint64, error) {
	if len(t.shards) == 1 {
		return nil, nil
	}
	var nodes []struct {
		Node uint64 `ch:"node_id"`
	}
	err := t.conn.Select(clickhouse.Context(t.context(ctx), clickhouse.WithSettings(allOf(settings, overAll))), &nodes, t.ofNodes(`
SELECT node_id FROM ingest_sequences
WHERE hour >= fromUnixTimestamp64Milli({from:Int64}) AND hour <= fromUnixTimestamp64Milli({to:Int64}) /*nodes*/
GROUP BY node_id HAVING uniqExact(_shard_num) > 1`))
	if err != nil {
		return nil, fmt.Errorf("ask for nodes that have moved to another shard: %w", err)
	}
	ids := make([]uint64, len(nodes))
	for i, n := range nodes {
		ids[i] = n.Node
	}
	return ids, nil
}

// part is what of a tally is asked of whom.
type part struct {
	conn     driver.Conn
	nodes    string // which of the nodes, as a condition; "": all
	settings clickhouse.Settings
}

// parts are those of the shards, and one of the nodes that have moved.
func (t *tally) parts(ctx context.Context) ([]part, error) {
	moved, err := t.movedNodes(ctx)
	if err != nil {
		return nil, err
	}
	var parts []part
	for _, conn := range t.shards {
		p := part{conn: conn, settings: settings}
		if len(moved) > 0 {
			p.nodes = "AND node_id NOT IN (" + list(moved) + ")"
		}
		parts = append(parts, p)
	}
	if len(moved) > 0 {
		parts = append(parts, part{conn: t.conn, nodes: "AND node_id IN (" + list(moved) + ")", settings: allOf(settings, overAll)})
	}
	return parts, nil
}
