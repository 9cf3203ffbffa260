// SPDX-License-Identifier: Apache-2.0

// Package readers makes what lets a person or a panel read the database and no more: users, rights, row filters, quotas and
// limits, as SQL for a server that keeps its users itself, and as XML for one whose users are configured, such as the
// embedded one. It promises that a reader of some tenants or zones sees no row of another, in no table, view or rollup: a
// table is only readable for it if each of its rows says whose it is, and one that this version does not know is not. On a
// cluster it can promise that only if the cluster has a secret. docs/security.md lists the ways around that were
// tried. It starts nothing and asks nobody.
package readers

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Reader is a user who may read.
type Reader struct {
	Name           string
	PasswordSHA256 string   // in hexadecimal
	Tenants        []string // whose rows it sees; empty: those of all
	Residencies    []string // zones whose rows it sees; empty: those of all
	Networks       []string // addresses, as 10.0.0.0/8, from which it may come; empty: any
	// Cluster says that the tables lie on the shards of a cluster. Each of its servers has to know the reader, and the
	// cluster must have a secret: else one server asks another as somebody else, to whom the row filters do not apply.
	Cluster bool
	Limits  Limits
}

// Limits are what a reader may take. A query may ask for a shorter or somewhat longer time and a smaller or larger result;
// all else is fixed. On a cluster a query may ask for a result without a limit.
type Limits struct {
	Time, LongestTime            time.Duration // of a query; what it may ask for at most
	ResultRows, MostResultRows   int64
	ResultBytes, MostResultBytes int64
	ReadRows                     int64 // of a query, from disk
	MemoryBytes, UserMemoryBytes int64 // of a query; of all of the user's together
	ConcurrentQueries            int
	QueriesPerMinute             int64
	ReadRowsPerHour              int64
	ExecutionTimePerHour         time.Duration // of all queries together
}

// DefaultLimits suit a Grafana with some dozens of panels.
func DefaultLimits() Limits {
	return Limits{
		Time: time.Minute, LongestTime: 10 * time.Minute, ResultRows: 1_000_000, MostResultRows: 10_000_000, ResultBytes: 256 << 20, MostResultBytes: 1 << 30,
		ReadRows: 20_000_000_000, MemoryBytes: 4 << 30, UserMemoryBytes: 8 << 30, ConcurrentQueries: 32,
		QueriesPerMinute: 3000, ReadRowsPerHour: 2_000_000_000_000, ExecutionTimePerHour: 8 * time.Hour,
	}
}

// Scoped tells that the reader sees some rows only.
func (r Reader) Scoped() bool { return len(r.Tenants)+len(r.Residencies) > 0 }

var (
	userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	digest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	network  = regexp.MustCompile(`^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$`)
)

// Validate tells what cannot be honoured.
func (r Reader) Validate() error {
	var problems []error
	if !userName.MatchString(r.Name) {
		problems = append(problems, fmt.Errorf("reader %.80q: want a letter or underscore, and then letters, digits and underscores, at most 63 in all", r.Name))
	}
	if !digest.MatchString(r.PasswordSHA256) {
		problems = append(problems, fmt.Errorf("reader %.80s: the SHA-256 of its password must be 64 hexadecimal digits", r.Name))
	}
	for _, name := range slices.Concat(r.Tenants, r.Residencies) {
		if err := wire.CheckScopeName(name); err != nil {
			problems = append(problems, fmt.Errorf("reader %.80s: tenant or zone: %w", r.Name, err))
		}
	}
	for _, n := range r.Networks {
		if !network.MatchString(n) {
			problems = append(problems, fmt.Errorf("reader %.80s: network %.80q: want an address as 10.0.0.0/8", r.Name, n))
		}
	}
	return errors.Join(append(problems, r.Limits.validate())...)
}

func (l Limits) validate() error {
	for name, n := range map[string]int64{
		"time": int64(l.Time / time.Second), "longest time": int64(l.LongestTime / time.Second), "rows of a result": l.ResultRows, "most rows of a result": l.MostResultRows,
		"bytes of a result": l.ResultBytes, "most bytes of a result": l.MostResultBytes, "rows to read": l.ReadRows, "memory": l.MemoryBytes, "memory of the user": l.UserMemoryBytes,
		"concurrent queries": int64(l.ConcurrentQueries), "queries a minute": l.QueriesPerMinute, "rows to read an hour": l.ReadRowsPerHour, "execution time an hour": int64(l.ExecutionTimePerHour / time.Second),
	} {
		if n < 1 { // to ClickHouse 0 is no limit
			return fmt.Errorf("limit of %s: at least 1, and 1s of a time", name)
		}
	}
	if l.LongestTime < l.Time || l.MostResultRows < l.ResultRows || l.MostResultBytes < l.ResultBytes {
		return errors.New("limits: what a query may ask for is less than what it gets")
	}
	return nil
}

// filter is the condition that each row must hold.
func (r Reader) filter() string {
	var conditions []string
	for _, one := range []struct {
		column string
		names  []string
	}{{schema.ColumnTenant, r.Tenants}, {schema.ColumnResidency, r.Residencies}} {
		if len(one.names) > 0 { // the names hold no quotes
			conditions = append(conditions, fmt.Sprintf("%s IN ('%s')", one.column, strings.Join(one.names, "', '")))
		}
	}
	return strings.Join(conditions, " AND ")
}

// scopedTables are the tables of which each row says whose it is.
func scopedTables() []string {
	var names []string
	for _, t := range schema.StoredTables() {
		if hasScope(t.Columns) {
			names = append(names, t.Name)
		}
	}
	return names
}

func hasScope(columns []schema.Column) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c schema.Column) bool { return c.Name == name && c.Type == schema.Name && !c.Nullable })
	}
	return has(schema.ColumnTenant) && has(schema.ColumnResidency)
}

var inBraces = regexp.MustCompile(`\{(\w+)\}`)

// withoutHints is what a view reads, less what tells of no tenant's rows: until when rollups are made, and which versions of
// the account count.
func withoutHints(v schema.View) string {
	return strings.NewReplacer(schema.RollupBoundary, "", schema.AccountVersions, "").Replace(v.Select("{}") + v.From)
}

// scopedViews are the views that read nothing but scopedTables, such views, and until when rollups are made.
func scopedViews() []string {
	readable := scopedTables()
	var views []string
	for _, v := range schema.Views() {
		all := true
		for _, named := range inBraces.FindAllStringSubmatch(withoutHints(v), -1) {
			all = all && slices.Contains(readable, named[1])
		}
		for _, c := range v.Columns {
			for _, named := range inBraces.FindAllStringSubmatch(c.Expression, -1) {
				all = all && slices.Contains(readable, named[1])
			}
		}
		if all {
			readable, views = append(readable, v.Name), append(views, v.Name)
		}
	}
	return views
}

// databases are where the tables lie: on a cluster each shard has its own beside the one that people ask, and a query goes
// there as the user who asks.
func (r Reader) databases(database string) []string {
	if r.Cluster {
		return []string{database, schema.LocalDatabase(database)}
	}
	return []string{database}
}

// grants are what the reader may select from, as what stands behind GRANT and before TO. All of gpufleet's own database for
// one that sees all; for others table by table, so that a new one is closed until this version knows it.
func (r Reader) grants(database string) []string {
	var grants []string
	if r.Scoped() {
		for _, of := range r.databases(database) {
			for _, name := range scopedTables() {
				grants = append(grants, fmt.Sprintf("SELECT ON %s.%s", schema.QuoteName(of), schema.QuoteName(name)))
			}
			grants = append(grants,
				fmt.Sprintf("SELECT(%s) ON %s.%s", schema.QuoteName(schema.ColumnBuiltUntil), schema.QuoteName(of), schema.QuoteName(schema.RollupProgressTable().Name)),
				fmt.Sprintf("SELECT(%s, %s) ON %s.%s", schema.QuoteName(schema.ColumnTime), schema.QuoteName(schema.ColumnVersion), schema.QuoteName(of), schema.QuoteName(schema.AccountBuildsTable().Name)))
		}
		for _, name := range scopedViews() {
			grants = append(grants, fmt.Sprintf("SELECT ON %s.%s", schema.QuoteName(database), schema.QuoteName(name)))
		}
	} else {
		for _, of := range r.databases(database) {
			grants = append(grants, fmt.Sprintf("SELECT, dictGet ON %s.*", schema.QuoteName(of)))
		}
		grants = append(grants, "SELECT ON system.parts", "SELECT ON system.dictionaries")
	}
	// What completion and checks need; of databases, tables and columns a user sees those that it may read.
	return append(grants,
		"SELECT ON system.databases", "SELECT ON system.tables", "SELECT ON system.columns", "SELECT ON system.functions", "SELECT ON system.settings",
	)
}

// closing keeps a reader of some rows from what ClickHouse tells of all rows of a table that it may read.
type closing struct{ database, table, filter string }

// closed lists them. The functions show primary keys as they lie in the index, row filters notwithstanding: ClickHouse
// looks for filters of the function under the name that it gives its table. The system tables show sizes and numbers of
// rows, and are always granted: of them views are left, which have none.
func closed() []closing {
	var closed []closing
	for _, f := range []string{"mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID"} {
		closed = append(closed, closing{"_table_function", f, "0"})
	}
	views := "('" + strings.Join(scopedViews(), "', '") + "')"
	return append(closed,
		closing{"system", "tables", "database = 'system' OR name IN " + views},
		closing{"system", "columns", "database = 'system' OR table IN " + views})
}

// setting is one line of a profile.
type setting struct {
	name, value string
	min, max    string // a query may set it between these; "": not at all
	free        bool   // a query may set it
}

// settings are the profile: readonly, so that a query sets nothing but what is let free here.
func (r Reader) settings() []setting {
	l := r.Limits
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	least := "1"
	if r.Cluster {
		least = "0" // no limit: so one server asks another for its part of an answer
	}
	settings := []setting{
		{name: "readonly", value: "1"},
		{name: "allow_ddl", value: "0"},
		{name: "allow_introspection_functions", value: "0"},
		{name: "max_execution_time", value: seconds(l.Time), min: "1", max: seconds(l.LongestTime)},
		{name: "timeout_overflow_mode", value: "throw"},
		{name: "max_result_rows", value: number(l.ResultRows), min: least, max: number(l.MostResultRows)},
		{name: "max_result_bytes", value: number(l.ResultBytes), min: least, max: number(l.MostResultBytes)},
		{name: "result_overflow_mode", value: "throw"},
		{name: "max_rows_to_read", value: number(l.ReadRows)},
		{name: "read_overflow_mode", value: "throw"},
		{name: "max_memory_usage", value: number(l.MemoryBytes)},
		{name: "max_memory_usage_for_user", value: number(l.UserMemoryBytes)},
		{name: "max_bytes_before_external_group_by", value: number(l.MemoryBytes / 2)},
		{name: "max_bytes_before_external_sort", value: number(l.MemoryBytes / 2)},
		{name: "max_concurrent_queries_for_user", value: strconv.Itoa(l.ConcurrentQueries)},
		{name: "cancel_http_readonly_queries_on_client_close", value: "1"},
		// What clients set that changes nothing but the answer's form, and who asked.
		{name: "log_comment", free: true},
		{name: "session_timezone", free: true},
		{name: "max_block_size", value: "65409", min: "1", max: "1048576"},
		{name: "output_format_json_quote_64bit_integers", free: true},
	}
	if r.Cluster { // a question about a node goes to its shard alone, and joins of tables over the shards are allowed
		settings = append(settings, setting{name: "optimize_skip_unused_shards", value: "1"}, setting{name: "distributed_product_mode", value: "global"})
	}
	return settings
}
