// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// ShardMapTable says, on each server of a cluster, which nodes were whose from when on. A node's number, divided by the
// sum of all weights, leaves a slot, and each shard has as many slots as its weight says, in the order of the shards: as
// ClickHouse itself has it for a Distributed table.
func ShardMapTable() Table {
	return Table{
		Name: "shard_maps",
		Columns: []Column{
			{Name: "number", Type: Uint32, Meaning: "Number of the map: the highest one holds."},
			{Name: "applied_at", Type: TimeMilliseconds, Meaning: "From when on batches go by it."},
			{Name: "weights", Type: Text, Meaning: "Weights of the shards, in their order, with commas between."},
			{Name: "shard", Type: Uint32, Meaning: "Which of the shards this one is, from 1 on."},
			{Name: "applied_by", Type: Name, Meaning: "Program and version that applied it."},
		},
		Meaning: "Which shard of the cluster has which nodes, since when.",
		OrderBy: "(number, applied_at)", PartitionBy: "tuple()", Granularity: 1024,
	}
}

var overShards = regexp.MustCompile(`^Distributed\('([^']+)', '([^']+)', '[^']+'(, .+)?\)$`)

// Find tells what layout a database has. One without tables counts as that of one server.
func Find(ctx context.Context, db Execer, database string) (Layout, error) {
	var tables []struct {
		Name string `ch:"name"`
		Full string `ch:"engine_full"`
	}
	if err := db.Select(ctx, &tables, "SELECT name, engine_full FROM system.tables WHERE database = "+quoteText(database)); err != nil {
		return Layout{}, fmt.Errorf("ask where the tables of %s lie: %w", database, err)
	}
	ours := map[string]bool{ShardMapTable().Name: true}
	for _, t := range StoredTables() {
		ours[t.Name] = true
	}
	l := Single(database)
	for _, t := range tables {
		if ours[t.Name] {
			l.learn(t.Name, t.Full)
		}
	}
	return l, nil
}

// learn takes what one table tells of the layout.
func (l *Layout) learn(name, engine string) {
	if name == ShardMapTable().Name {
		l.Shard = true
	}
	if name == LedgerTable().Name && strings.HasPrefix(engine, "Replicated") {
		l.Replicated = true
	}
	match := overShards.FindStringSubmatch(engine)
	if match == nil {
		return
	}
	l.Cluster, l.Local = match[1], match[2]
	if match[3] == "" {
		if l.Scattered == nil {
			l.Scattered = make(map[string]bool)
		}
		l.Scattered[name] = true
	}
}
