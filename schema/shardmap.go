// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
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

// ShardMap is one row of it, without whose it is.
type ShardMap struct {
	Number    uint32
	AppliedAt time.Time
	Weights   []int // of the shards, in their order
}

// Shard is the index of the shard that has a node.
func (m ShardMap) Shard(node uint64) int {
	sum := 0
	for _, w := range m.Weights {
		sum += w
	}
	if sum == 0 {
		return 0
	}
	slot := int(node % uint64(sum))
	for i, w := range m.Weights {
		if slot < w {
			return i
		}
		slot -= w
	}
	return 0 // cannot be: the slots are as many as the sum
}

// Validate tells whether nodes can be shared out by the map.
func (m ShardMap) Validate() error {
	sum := 0
	for i, w := range m.Weights {
		if w < 0 || w > maxWeight {
			return fmt.Errorf("map %d: shard %d has the weight %d: 0 to %d", m.Number, i+1, w, maxWeight)
		}
		sum += w
	}
	if sum == 0 {
		return fmt.Errorf("map %d: no shard has a weight", m.Number)
	}
	return nil
}

const maxWeight = 1 << 20

func (m ShardMap) weights() string {
	texts := make([]string, len(m.Weights))
	for i, w := range m.Weights {
		texts[i] = strconv.Itoa(w)
	}
	return strings.Join(texts, ",")
}

// String is the map in a line.
func (m ShardMap) String() string { return fmt.Sprintf("map %d, weights %s", m.Number, m.weights()) }

// ShardMaps reads from a server of a cluster which maps it was told of, by number, and which of the shards it is, from 1 on;
// 0 if it was told of none.
func ShardMaps(ctx context.Context, db Execer, database string) (maps []ShardMap, shard int, err error) {
	local := LocalDatabase(database)
	var there []struct {
		N uint64 `ch:"n"`
	}
	err = db.Select(ctx, &there, fmt.Sprintf("SELECT count() AS n FROM system.tables WHERE database = %s AND name = '%s'", QuoteText(local), ShardMapTable().Name))
	if err != nil || len(there) == 0 || there[0].N == 0 {
		return nil, 0, wrapMaps(err)
	}
	var rows []struct {
		Number  uint32    `ch:"number"`
		Weights string    `ch:"weights"`
		Shard   uint32    `ch:"shard"`
		Applied time.Time `ch:"applied"`
	}
	err = db.Select(ctx, &rows, fmt.Sprintf("SELECT number, weights, shard, min(applied_at) AS applied FROM %s.%s GROUP BY number, weights, shard ORDER BY number",
		QuoteName(local), ShardMapTable().Name))
	if err != nil {
		return nil, 0, wrapMaps(err)
	}
	for _, r := range rows {
		m := ShardMap{Number: r.Number, AppliedAt: r.Applied.UTC()}
		if m.Weights, err = parseWeights(r.Weights); err == nil {
			err = m.Validate()
		}
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("%s.%s: %w", local, ShardMapTable().Name, err)
		case shard != 0 && shard != int(r.Shard):
			return nil, 0, fmt.Errorf("%s.%s says that this server is shard %d, and that it is shard %d: it has the data directory of another one", local, ShardMapTable().Name, shard, r.Shard)
		case len(maps) > 0 && maps[len(maps)-1].Number == m.Number:
			return nil, 0, fmt.Errorf("%s.%s has two maps of the number %d, with weights %s and %s: delete the wrong one on every shard", local, ShardMapTable().Name, m.Number, maps[len(maps)-1].weights(), m.weights())
		}
		shard, maps = int(r.Shard), append(maps, m)
	}
	return maps, shard, nil
}

func wrapMaps(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ask which nodes are whose: %w", err)
}

func parseWeights(text string) ([]int, error) {
	parts := strings.Split(text, ",")
	weights := make([]int, len(parts))
	for i, p := range parts {
		w, err := strconv.Atoi(p)
		if err != nil {
			return nil, fmt.Errorf("weights %q: want numbers with commas between", text)
		}
		weights[i] = w
	}
	return weights, nil
}

// NoteShardMap tells a server, which is the shard of that number, of a map. To be told twice is harmless. A map without a time
// holds from now on.
func NoteShardMap(ctx context.Context, db Execer, database string, m ShardMap, shard int, by string) error {
	local := LocalDatabase(database)
	token, applied := fmt.Sprintf("%s, shard %d", m, shard), "now64(3)"
	if !m.AppliedAt.IsZero() {
		applied = fmt.Sprintf("fromUnixTimestamp64Milli(%d, 'UTC')", m.AppliedAt.UnixMilli())
	}
	err := db.Exec(ctx, fmt.Sprintf("INSERT INTO %s.%s (number, applied_at, weights, shard, applied_by) SETTINGS async_insert = 0, insert_deduplication_token = %s VALUES (%d, %s, %s, %d, %s)",
		QuoteName(local), ShardMapTable().Name, QuoteText(token), m.Number, applied, QuoteText(m.weights()), shard, QuoteText(by)))
	if err != nil {
		return fmt.Errorf("note %s on shard %d: %w", m, shard, err)
	}
	return nil
}

// InCluster is what a server's system.clusters says of a cluster.
type InCluster struct {
	Shards []ClusterShard
	Own    int // which of the shards the server itself is, from 1 on; 0: it does not know
}

// ClusterShard is one shard of it.
type ClusterShard struct {
	Weight int
	Hosts  []string // of the replicas
}

// Weights are those of the shards.
func (c InCluster) Weights() []int {
	weights := make([]int, len(c.Shards))
	for i, s := range c.Shards {
		weights[i] = s.Weight
	}
	return weights
}

// FindCluster asks a server for a cluster.
func FindCluster(ctx context.Context, db Execer, name string) (InCluster, error) {
	var rows []struct {
		Shard  uint32 `ch:"shard_num"`
		Weight uint32 `ch:"shard_weight"`
		Host   string `ch:"host_name"`
		Local  uint8  `ch:"is_local"`
	}
	var c InCluster
	err := db.Select(ctx, &rows, "SELECT shard_num, shard_weight, host_name, is_local FROM system.clusters WHERE cluster = "+QuoteText(name)+" ORDER BY shard_num, replica_num")
	if err != nil {
		return c, fmt.Errorf("ask for cluster %s: %w", name, err)
	}
	if len(rows) == 0 {
		return c, NoCluster{name}
	}
	for _, r := range rows {
		if int(r.Shard) > len(c.Shards) {
			c.Shards = append(c.Shards, ClusterShard{Weight: int(r.Weight)})
		}
		s := &c.Shards[len(c.Shards)-1]
		s.Hosts = append(s.Hosts, r.Host)
		if r.Local == 1 {
			c.Own = len(c.Shards)
		}
	}
	return c, nil
}

// NoCluster is the error of a cluster of which a server knows nothing.
type NoCluster struct{ Name string }

// Error implements error.
func (e NoCluster) Error() string {
	return fmt.Sprintf("the server knows no cluster %q: remote_servers in its configuration names clusters, and it may be read anew by SYSTEM RELOAD CONFIG", e.Name)
}

// Scattered lists the tables that have rows where another map than the last has put them.
func Scattered(ctx context.Context, db Execer, database string, maps []ShardMap) (map[string]bool, error) {
	if len(maps) < 2 {
		return nil, nil
	}
	return scatteredSince(ctx, db, database, maps[len(maps)-1].AppliedAt)
}

// scatteredSince lists the tables that may have rows of nodes where a map that ended at this time has put them: those whose
// rows, by the retention that the database of one shard really has, are kept for longer than that.
func scatteredSince(ctx context.Context, db Execer, database string, ended time.Time) (map[string]bool, error) {
	var tables []struct {
		Name string `ch:"name"`
		Days uint32 `ch:"days"`
	}
	err := db.Select(ctx, &tables, `SELECT name, toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)')) AS days FROM system.tables WHERE database = `+QuoteText(LocalDatabase(database)))
	if err != nil {
		return nil, fmt.Errorf("ask for how long tables keep rows: %w", err)
	}
	kept := make(map[string]uint32)
	for _, t := range tables {
		kept[t.Name] = t.Days
	}
	scattered := make(map[string]bool)
	for _, t := range StoredTables() {
		days := kept[t.Name] // 0: for good, or nobody knows
		if hasNode(t) && (days == 0 || time.Since(ended) < time.Duration(days+lateDays)*24*time.Hour) {
			scattered[t.Name] = true
		}
	}
	return scattered, nil
}

// lateDays is added to what a table keeps: rows may be a little in the future, and go by age some time after they may.
const lateDays = 2

func hasNode(t Table) bool {
	return slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == ColumnNode })
}

var overShards = regexp.MustCompile(`^Distributed\('([^']+)', '([^']+)', '[^']+'(, .+)?\)$`)

// Find tells what layout a database has. One without tables counts as that of one server.
func Find(ctx context.Context, db Execer, database string) (Layout, error) {
	var tables []struct {
		Name string `ch:"name"`
		Full string `ch:"engine_full"`
	}
	if err := db.Select(ctx, &tables, "SELECT name, engine_full FROM system.tables WHERE database = "+QuoteText(database)); err != nil {
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
