// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Layout tells where tables lie: all on one server, or over the shards of a cluster. On a cluster each shard has a
// database of its own (LocalDatabase) with the tables and the feeds, as a server that stands alone has them; and every
// server has the database that people ask, in which each table is a Distributed one over those of the shards. All names
// are the same, so that what is asked of one server can be asked of a cluster.
//
//	gpufleet.fleet_now ─▶ gpufleet.gpu_samples ─┬─▶ gpufleet_local.gpu_samples on shard 1
//	view                  Distributed           └─▶ gpufleet_local.gpu_samples on shard 2
//
// A node's rows are all on one shard, and so is what the ledger says of them.
type Layout struct {
	Database string
	// Cluster is the name under which system.clusters has the shards, and Local the database that they have; empty: the
	// tables are in Database itself.
	Cluster, Local string
	// Scattered are the tables of a cluster that have rows where an earlier map of nodes to shards has put them. They are
	// read from all shards.
	Scattered map[string]bool
	// Shard says that Database is that of one shard: there are no views in it.
	Shard bool
	// Replicated says that several replicas of the shard keep the same rows, by ClickHouse Keeper. Its macros {shard} and
	// {replica} tell which one a server is.
	Replicated bool
}

// Single is a server that has everything.
func Single(database string) Layout { return Layout{Database: database} }

// OfShard is the part of one shard in a cluster whose database has this name.
func OfShard(database string, replicated bool) Layout {
	return Layout{Database: LocalDatabase(database), Shard: true, Replicated: replicated}
}

// OverShards is what people ask on every server of a cluster.
func OverShards(cluster, database string, scattered map[string]bool) Layout {
	return Layout{Database: database, Cluster: cluster, Local: LocalDatabase(database), Scattered: scattered}
}

// LocalDatabase is where a shard has its part of a database.
func LocalDatabase(database string) string { return database + "_local" }

// Tables lists the tables that are in the database.
func (l Layout) Tables() []Table {
	if l.Shard {
		return append(StoredTables(), ShardMapTable())
	}
	return StoredTables()
}

// feeds write on the shard on which their rows come in.
func (l Layout) feeds() []Feed {
	if l.Cluster != "" {
		return nil
	}
	return Feeds()
}

func (l Layout) views() []View {
	if l.Shard {
		return nil
	}
	return Views()
}

// Statements are what makes the database on an empty server.
func (l Layout) Statements() []string {
	var statements []string
	for _, t := range l.Tables() {
		if l.isOver(t) {
			statements = append(statements, l.createOver(t))
		} else {
			statements = append(statements, t.create(l))
		}
	}
	for _, f := range l.feeds() {
		statements = append(statements, f.CreateFeed(l.Database))
	}
	for _, v := range l.views() {
		statements = append(statements, v.create(l))
	}
	return statements
}

// ClusterStatements are what makes the tables of a database over the shards of a cluster with Keeper, for review. Its views
// are those of one server, but for how they read what is replaced (from), and for their settings.
func ClusterStatements(cluster, database string) []string {
	var statements []string
	for _, l := range []Layout{OfShard(database, true), OverShards(cluster, database, nil)} {
		for _, s := range l.Statements() {
			if !strings.HasPrefix(s, "CREATE OR REPLACE VIEW") {
				statements = append(statements, s)
			}
		}
	}
	return statements
}

// isOwn tells of a table that says what this server is, and that no other shard needs to know.
func isOwn(t Table) bool { return ofReplica(t) || t.Name == ShardMapTable().Name }

// ofReplica tells of a table that says what this server is, and that not even its replicas need to know.
func ofReplica(t Table) bool { return t.Name == versionTable().Name }

// isOver tells that the table is a Distributed one.
func (l Layout) isOver(t Table) bool { return l.Cluster != "" && !isOwn(t) }

// checkEngine tells whether what is there can be used.
func (l Layout) checkEngine(t Table, live liveTable) error {
	family := strings.HasSuffix(live.engine, "MergeTree")
	replicated := strings.HasPrefix(live.engine, "Replicated")
	switch {
	case l.isOver(t) && family:
		return fmt.Errorf("%s is a %s, want a Distributed table: this database is of one server; move its tables to %s on the first shard, or name another database", t.Name, live.engine, l.Local)
	case l.isOver(t) && live.engine != "Distributed":
		return fmt.Errorf("%s is a %s, want a Distributed table", t.Name, live.engine)
	case l.isOver(t):
		return nil
	case live.engine == "Distributed":
		return fmt.Errorf("%s is a Distributed table, want one of the MergeTree family: this database is of a cluster; name the database %s of one shard, or another one", t.Name, LocalDatabase(l.Database))
	case !family:
		return fmt.Errorf("%s is a %s, want a table of the MergeTree family", t.Name, live.engine)
	case l.Shard && !ofReplica(t) && l.Replicated != replicated:
		return fmt.Errorf("%s is a %s, and replication is %s: a table that holds rows keeps its engine; name another database", t.Name, live.engine, onOff(l.Replicated))
	default:
		return nil
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// createOver is the statement that makes a table of a cluster, or puts it in the place of an earlier one: it holds no rows.
func (l Layout) createOver(t Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE TABLE %s.%s\n(\n", QuoteName(l.Database), QuoteName(t.Name))
	for i, c := range t.Columns {
		fmt.Fprintf(&b, "    %s %s COMMENT %s", QuoteName(c.Name), c.ClickHouseType(), QuoteText(c.Comment()))
		if i < len(t.Columns)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, ")\nENGINE = %s\nCOMMENT %s", l.over(t), QuoteText(t.Meaning))
	return b.String()
}

// over is the engine of a table of a cluster, as ClickHouse writes it.
func (l Layout) over(t Table) string {
	arguments := []string{QuoteText(l.Cluster), QuoteText(l.Local), QuoteText(t.Name)}
	if key := l.shardKey(t); key != "" {
		arguments = append(arguments, key)
	}
	return "Distributed(" + strings.Join(arguments, ", ") + ")"
}

// shardKey is by what ClickHouse tells which shards a condition leaves. It is the node wherever a row names it: all
// rows of a node are on one shard. What operators write is on the first shard. All else, as a
// rollup by GPU, is read from all shards.
func (l Layout) shardKey(t Table) string {
	node := hasNode(t)
	switch {
	case node && l.Scattered[t.Name]:
		return ""
	case node:
		return ColumnNode
	case isFed(t):
		return ""
	case t.Name == RollupProgressTable().Name, t.Name == AccountBuildsTable().Name: // each shard has written of its own
		return "rand()"
	default:
		return "0"
	}
}

func isFed(t Table) bool {
	for _, f := range Feeds() {
		if f.To.Name == t.Name {
			return true
		}
	}
	return false
}

// agrees tells whether a table of a cluster is as it should be.
func (l Layout) agrees(t Table, live liveTable) bool {
	if live.full != l.over(t) || live.comment != t.Meaning || len(live.columns) != len(t.Columns) {
		return false
	}
	for _, c := range t.Columns {
		if got, ok := live.columns[c.Name]; !ok || got.Type != c.ClickHouseType() || got.Comment != c.Comment() {
			return false
		}
	}
	return true
}

// engine is that of a table that holds rows.
func (l Layout) engine(t Table) string {
	engine := cmp.Or(t.Engine, "MergeTree")
	if !l.Replicated || ofReplica(t) {
		return engine
	}
	family, rest, _ := strings.Cut(strings.TrimSuffix(engine, ")"), "(")
	arguments := fmt.Sprintf("'/clickhouse/tables/{shard}/%s/%s', '{replica}'", l.Database, t.Name)
	if rest != "" {
		arguments += ", " + rest
	}
	return "Replicated" + family + "(" + arguments + ")"
}

// replicatedWindowSeconds is for how long replicas remember a token: the ledger settles what is older. The default is an
// hour, which an outage outlasts.
const replicatedWindowSeconds = 2 * 24 * 3600

// windows are how many insert tokens a table remembers.
func (l Layout) windows(t Table) string {
	alone := fmt.Sprintf("non_replicated_deduplication_window = %d", deduplicationWindow)
	if !l.Replicated || ofReplica(t) {
		return alone
	}
	return fmt.Sprintf("%s, replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d", alone, deduplicationWindow, replicatedWindowSeconds)
}

var finalInBraces = regexp.MustCompile(`\{(\w+)\}( AS \w+)? FINAL`)

// shardedSettings are those of every view of a cluster: a join or an IN of two tables is over all shards, and a question
// about one node goes to its shard alone, whatever the reader's own settings are.
const shardedSettings = "\nSETTINGS distributed_product_mode = 'global', optimize_skip_unused_shards = 1"

// from is what a view reads. FINAL leaves a row of each tenant and zone that had a GPU, and is each shard's own: of a GPU that
// was in nodes of two shards both have a last row. The latest counts of those that the reader may see. Ordered by the key first
// it takes no longer than FINAL alone; by time first, four times as long.
// The rollups of a GPU that was in several in one window are made of different samples, and all count.
func (l Layout) from(v View) string {
	settings := ""
	if l.Cluster != "" {
		settings = shardedSettings
	}
	return finalInBraces.ReplaceAllStringFunc(v.From, func(read string) string {
		parts := finalInBraces.FindStringSubmatch(read)
		if isRollup(parts[1]) {
			return read
		}
		key, version, ok := replacing(parts[1])
		if !ok {
			panic("schema: view " + v.Name + " reads " + parts[1] + " FINAL, which is no table of the Replacing family with a version")
		}
		return fmt.Sprintf("(SELECT * FROM {%[1]s} FINAL ORDER BY %[2]s, %[3]s DESC LIMIT 1 BY %[2]s)%[4]s", parts[1], key, version, parts[2])
	}) + settings
}

func isRollup(name string) bool {
	return slices.ContainsFunc(Rollups(), func(r Rollup) bool { return r.Name == name })
}

// replacing tells of what a table has the last row, and which that is.
func replacing(name string) (key, version string, ok bool) {
	for _, t := range StoredTables() {
		if t.Name == name {
			version, ok = strings.CutPrefix(strings.TrimSuffix(t.Engine, ")"), "ReplacingMergeTree(")
			return t.PrimaryKey, version, ok && version != ""
		}
	}
	return "", "", false
}
