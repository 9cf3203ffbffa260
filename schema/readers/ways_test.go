// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
)

// way is a try to get around a reader's rules. Whoever has no rules must get what it is for, or it proves nothing.
type way struct {
	sql     string
	open    string // what the answer, or the error, of somebody without rules contains
	refused string // error of the reader; "": it gets an answer in which that is not
}

const (
	denied      = "(ACCESS_DENIED)"
	constrained = "(SETTING_CONSTRAINT_VIOLATION)"
	readonly    = "(READONLY)"
)

// ways are those that were thought of; {port} and {http} are the server's own, {file} is a file of this machine's.
var ways = []way{
	// The tables themselves.
	{"SELECT message FROM gpu_events", secret, ""},
	{"SELECT message FROM gpu_events WHERE tenant = 'globex' OR 1", secret, ""},
	{"SELECT message FROM gpu_events PREWHERE tenant = 'globex'", secret, ""},
	{"SELECT max(message) FROM gpu_events", secret, ""},
	{"SELECT concat('rows ', toString(count())) FROM gpu_events", "rows 2", ""},
	{"SELECT concat('rows ', toString(count())) FROM gpu_events WHERE gpu_id = 424242", "rows 1", ""},
	{"SELECT _part, concat('rows ', toString(count())) FROM gpu_events GROUP BY ALL", "rows 2", ""},
	{"SELECT groupArray(message) FROM gpu_events GROUP BY tenant WITH TOTALS", secret, ""},
	{"SELECT node_name FROM node_current", secret, ""},
	{"SELECT node_name FROM node_current FINAL", secret, ""},
	{"SELECT b.node_name FROM gpu_events AS a RIGHT JOIN node_inventory AS b ON a.node_id = b.node_id", secret, ""},
	{"SELECT message FROM gpu_events UNION ALL SELECT node_name FROM node_inventory", secret, ""},
	{"WITH (SELECT groupArray(message) FROM gpu_events) AS x SELECT x", secret, ""},
	{"SELECT concat('found ', toString(424242 IN (SELECT node_id FROM gpu_events)))", "found 1", ""},
	// Errors and times that depend on rows which are not seen.
	{"SELECT throwIf(message = '" + secret + "', 'seen it') FROM gpu_events", "seen it", ""},
	{"SELECT count() FROM gpu_events WHERE NOT throwIf(message = '" + secret + "', 'seen it')", "seen it", ""},
	{"SELECT count() FROM gpu_events PREWHERE NOT throwIf(message = '" + secret + "', 'seen it')", "seen it", ""},
	{"SELECT count() FROM gpu_events WHERE NOT throwIf(tenant = 'globex', 'seen it')", "seen it", ""},
	{"SELECT count() FROM gpu_events WHERE toUInt64(replaceOne(message, 'acme-own', '1')) = 1", secret, ""},
	// Our views, and other objects that show the rows of a table.
	{"SELECT message FROM fleet_events", secret, ""},
	{"SELECT node_name FROM fleet_nodes", secret, ""},
	{"SELECT gpu_uuid FROM fleet_gpus", secret, ""},
	{"SELECT node_name FROM node_intervals", secret, ""},
	{"SELECT message FROM definers", secret, denied},
	{"SELECT message FROM merged", secret, denied},
	{"SELECT node_name FROM node_current_feed", secret, denied},
	{"SELECT provider FROM prices", secret, denied},
	{"SELECT reason FROM ingest_ledger", secret, denied},
	{"SELECT table_name FROM ingest_sequences", secret, denied}, // its feed has filled it
	{"SELECT table_name FROM ingest_hours", secret, denied},
	{"SELECT table_name FROM ingest_audit", secret, denied},
	{"SELECT concat('database ', name) FROM system.databases WHERE name = 'default'", "database default", ""},
	// Dictionaries and their like.
	{"SELECT dictGet('gpufleet.names', 'node_name', toUInt64(424242))", secret, denied},
	{"SELECT dictHas('gpufleet.names', toUInt64(424242)) ? 'seen it' : ''", "seen it", denied},
	{"SELECT node_name FROM names", secret, denied},
	{"SELECT node_name FROM dictionary('gpufleet.names')", secret, denied},
	{"SELECT joinGet('gpufleet.copied', 'node_name', toUInt64(424242))", secret, denied},
	// Table functions.
	{"SELECT message FROM merge('gpufleet', '^gpu_events$')", secret, ""},
	{"SELECT message FROM merge(REGEXP('.*'), '^gpu_events$')", secret, ""},
	{"SELECT message FROM view(SELECT message FROM gpufleet.gpu_events)", secret, ""},
	{"SELECT message FROM viewIfPermitted(SELECT message FROM gpufleet.gpu_events ELSE null('message String'))", secret, ""},
	{"SELECT message FROM loop(gpufleet.gpu_events) LIMIT 9", secret, denied},
	{"SELECT message FROM remote('127.0.0.1:{port}', gpufleet.gpu_events, 'everything', '" + password + "')", secret, denied},
	{"SELECT message FROM cluster('itself', gpufleet.gpu_events)", secret, denied},
	{"SELECT message FROM clusterAllReplicas('itself', gpufleet.gpu_events)", secret, denied},
	{"SELECT gpu_id FROM mergeTreeIndex('gpufleet', 'gpu_inventory')", "424242", ""},
	{"SELECT concat('node ', toString(node_id)) FROM mergeTreeIndex('gpufleet', 'gpu_events')", "node 424242", ""},
	{"SELECT part_name FROM mergeTreeAnalyzeIndexes('gpufleet', 'gpu_events', node_id = 424242)", "_1_1_0", ""},
	{"SELECT * FROM url('http://127.0.0.1:{http}/?user=everything&password=" + password + "&query=SELECT+message+FROM+gpufleet.gpu_events', 'LineAsString', 'a String')", secret, denied},
	{"SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')", "", denied},
	{"SELECT * FROM file('{file}', 'LineAsString', 'line String')", "Permission denied", denied}, // by the sandbox of the embedded one
	{"SELECT * FROM executable('id', 'CSV', 'a String')", "does not exist inside user scripts folder", denied},
	{"SELECT * FROM sqlite('{file}', 't')", "sqlite", "ACCESS_DENIED)"},
	{"SELECT file('{file}')", "", "switched off"},
	{"SELECT message FROM gpu_events INTO OUTFILE '/tmp/out'", "", "(INTO_OUTFILE_NOT_ALLOWED)"},
	{"INSERT INTO FUNCTION file('out.tsv', 'TSV', 'message String') SELECT message FROM gpu_events", "", denied},
	// What the server tells of itself and of others.
	{"SELECT query FROM system.query_log WHERE query LIKE '%" + secret + "%'", secret, denied},
	{"SELECT user FROM system.processes WHERE user = 'everything'", "everything", denied},
	{"SHOW PROCESSLIST", "chDB client", denied},
	{"SELECT concat('rows ', toString(sum(rows))) FROM system.parts WHERE table = 'gpu_events' AND active", "rows 2", denied},
	{"SELECT concat('rows ', toString(sum(total_rows))) FROM system.tables WHERE name = 'gpu_events'", "rows 2", ""},
	{"SELECT concat('column ', name) FROM system.columns WHERE table = 'gpu_events' AND name = 'message'", "column message", ""},
	{"SELECT table_rows FROM information_schema.tables WHERE table_name = 'gpu_events'", "2", denied},
	{"SELECT select_filter FROM system.row_policies WHERE short_name = 'other'", "globex", denied},
	{"SHOW ROW POLICIES", "other", denied},
	{"SHOW USERS", "everything", denied},
	{"SHOW CREATE USER everything", "everything", denied},
	{"SHOW ACCESS", "everything", denied},
	{"SELECT name FROM system.named_collections", "gpufleet_dictionary", denied},
	{"SELECT addressToLine(toUInt64(1))", "", denied},
	{"SELECT hasColumnInTable('gpufleet', 'prices', 'provider') ? 'seen it' : ''", "seen it", denied},
	// Settings.
	{"SELECT 'let' SETTINGS readonly = 0", "let", readonly},
	{"SELECT 'let' SETTINGS max_execution_time = 0", "let", constrained},
	{"SELECT 'let' SETTINGS max_execution_time = 601", "let", constrained},
	{"SELECT 'let' SETTINGS max_result_rows = 0", "let", constrained},
	{"SELECT 'let' SETTINGS max_memory_usage = 0", "let", readonly},
	{"SELECT 'let' SETTINGS max_rows_to_read = 0", "let", readonly},
	{"SELECT message FROM gpu_events SETTINGS additional_table_filters = {'gpufleet.gpu_events': '1'}", secret, readonly},
	{"SELECT message FROM gpu_events SETTINGS use_query_cache = 1, query_cache_share_between_users = 1", secret, readonly},
	{"SELECT node_name FROM node_current FINAL SETTINGS apply_row_policy_after_final = 0", secret, readonly},
	{"SELECT message FROM gpu_events SETTINGS SQL_tenant = 'globex'", "", "(UNKNOWN_SETTING)"},
	{"SELECT 'let' SETTINGS allow_experimental_eval_table_function = 1", "let", readonly},
	// Settings of a part of a query, which ClickHouse holds against no rule.
	{"SELECT * FROM (SELECT message FROM gpu_events SETTINGS additional_table_filters = {'gpufleet.gpu_events': '1'})", secret, ""},
	{"SELECT * FROM (SELECT node_name FROM node_current FINAL SETTINGS apply_row_policy_after_final = 0)", secret, ""},
	{"SELECT * FROM (SELECT node_name FROM node_current FINAL SETTINGS apply_row_policy_after_final = 1)", secret, ""},
	{"WITH q AS (SELECT message FROM gpu_events SETTINGS readonly = 0, allow_ddl = 1) SELECT * FROM q", secret, ""},
	{"SELECT * FROM (SELECT * FROM eval('SELECT message FROM gpufleet.gpu_events') SETTINGS allow_experimental_eval_table_function = 1)", secret, ""},
	{"SELECT * FROM (SELECT * FROM eval('SELECT provider FROM gpufleet.prices') SETTINGS allow_experimental_eval_table_function = 1)", secret, denied},
	{"SELECT * FROM (SELECT gpu_id FROM mergeTreeIndex('gpufleet', 'gpu_inventory') SETTINGS readonly = 0)", "424242", ""},
	{"SELECT * FROM (SELECT message FROM gpu_events SETTINGS query_plan_enable_optimizations = 0, optimize_move_to_prewhere = 0)", secret, ""},
	{"SELECT * FROM (SELECT concat('rows ', toString(count())) FROM gpu_events SETTINGS optimize_trivial_count_query = 1, optimize_use_implicit_projections = 1)", "rows 2", ""},
	{"SELECT * FROM (SELECT concat('first ', toString(min(node_id)), ' last ', toString(max(node_id))) FROM gpu_events SETTINGS optimize_use_implicit_projections = 1)", "last 424242", ""},
	{"SELECT * FROM (SELECT addressToLine(toUInt64(1)) SETTINGS allow_introspection_functions = 1)", "", denied},
	// All that there is, at once.
	{"SELECT count() >= 0 FROM fleet_minutes WHERE ts > now() - INTERVAL 1 HOUR", "", ""},
	{"SELECT count() >= 0 FROM fleet_hours WHERE ts > now() - INTERVAL 1 DAY", "", ""},
	{"SELECT compared_samples FROM rollup_progress", "", "ACCESS_DENIED"},
	{"SELECT * FROM merge('gpufleet', '^(gpu|rollup)_.*')", secret, "ACCESS_DENIED"}, // of rollup_progress there is one column for it
	{"SELECT DISTINCT concat('table ', _table) FROM merge('gpufleet', 'prices|gpu_events')", "table prices", ""},
	{"SELECT word FROM system.completions WHERE word = 'price_quarantine'", "price_quarantine", ""},
	{"SHOW TABLES", "price_quarantine", ""},
	{"DESCRIBE TABLE prices", "provider", denied},
	{"SHOW CREATE TABLE prices", "provider", denied},
	{"EXPLAIN SELECT provider FROM prices", "prices", denied},
	// Statements that are no questions.
	{"CREATE TEMPORARY TABLE mine (a Int8)", "", denied},
	{"CREATE VIEW gpufleet.mine AS SELECT 1", "", denied},
	{"CREATE FUNCTION mine AS a -> a", "", denied},
	{"INSERT INTO gpu_events (ts) VALUES (now())", "", denied},
	{"ALTER TABLE gpu_events UPDATE tenant = 'acme' WHERE 1", "", denied},
	{"ALTER USER acme DEFAULT ROLE ALL", "", denied},
	{"DROP ROW POLICY acme ON gpufleet.gpu_events", "", denied},
	{"CREATE ROW POLICY mine ON gpufleet.gpu_events USING 1 TO acme", "", denied},
	{"GRANT SELECT ON *.* TO acme", "", "("},
	{"EXECUTE AS gpufleet_writer SELECT 1", "", "("},
	{"KILL QUERY WHERE 1", "", denied},
	{"SYSTEM FLUSH LOGS", "", denied},
	{"BACKUP TABLE gpufleet.gpu_events TO File('x')", "", denied},
}

// TestWaysAround tries each as the reader of one tenant, and those that change nothing as somebody without rules, who must
// get what they are for.
func TestWaysAround(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil), reader("other", []string{"globex"}, nil))
	w.tell()
	w.must("everything", "SELECT '"+secret+"'")
	w.must("everything", "SYSTEM FLUSH LOGS")
	file := filepath.Join(filepath.Dir(w.dir), "shared.txt")
	if err := os.WriteFile(file, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range ways {
		sql := strings.NewReplacer("{port}", w.port(), "{http}", w.httpPort(), "{file}", file).Replace(c.sql)
		if c.open != "" {
			answer, err := w.as("everything").Ask(t.Context(), sql)
			if text := answer + said(err); !strings.Contains(text, c.open) {
				t.Errorf("%s: without rules: %.300q, which proves nothing: want %q", sql, text, c.open)
			}
		}
		answer, err := w.as("acme").Ask(t.Context(), sql)
		text := answer + strings.ReplaceAll(said(err), sql, "") // an error repeats the query
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("%s: %.500v", sql, err)
		case c.refused != "" && !strings.Contains(said(err), c.refused):
			t.Errorf("%s: answer %.200q, error %.500v, want %s", sql, answer, err, c.refused)
		case c.open != "" && strings.Contains(text, c.open) && c.refused == "":
			t.Errorf("%s: the reader got %.300q", sql, text)
		case strings.Contains(answer, secret):
			t.Errorf("%s: the reader got %.300q", sql, answer)
		}
	}
	if rows := w.must("everything", "SELECT count() FROM gpu_events"); rows != "2" {
		t.Errorf("%s rows afterwards", rows)
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestTableFunctionsAreReviewed: those that a reader may call without a grant are the ones that ways tries or that read
// nothing. A ClickHouse that brings another one fails here.
func TestTableFunctionsAreReviewed(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil))
	reviewed := []string{
		"cluster", "clusterAllReplicas", "merge", "view", "viewIfPermitted", // above
		"mergeTreeIndex", "mergeTreeProjection", "mergeTreeTextIndex", "mergeTreeAnalyzeIndexes", "mergeTreeAnalyzeIndexesUUID", // closed
		"eval",                                                                                                                    // above: asks with the rights of who calls it
		"fuzzJSON", "fuzzQuery", "generateRandom", "generateSeries", "generate_series", "null", "numbers", "numbers_mt", "primes", // read nothing
		"input", "values", "SQLStandardValues",
	}
	for name := range strings.FieldsSeq(w.must("everything", "SELECT name FROM system.table_functions WHERE allow_readonly")) {
		if !slices.Contains(reviewed, name) {
			t.Errorf("table function %s may be called by readers: can it show rows of others?", name)
		}
	}
}

// TestEveryTableIsFiltered counts the rows of each table that readers may read, among them rollups.
func TestEveryTableIsFiltered(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil), reader("two", []string{"acme", "globex"}, nil), reader("acme_eu", []string{"acme"}, []string{"eu"}),
		reader("eu", nil, []string{"eu"}), reader("none", []string{"nobody"}, nil), reader("all_rows", nil, nil))
	w.fill()
	for _, table := range scopedTables() {
		for user, want := range map[string]string{"acme": "acme 3", "two": "acme,globex 6", "acme_eu": "acme 1", "eu": ",acme,globex 3", "none": " 0", "all_rows": ",acme,globex 9"} {
			got := w.must(user, "SELECT concat(arrayStringConcat(arraySort(groupUniqArray(tenant::String)), ','), ' ', toString(count())) FROM "+table+final(table))
			if got != want {
				t.Errorf("%s: %s sees %q, want %q", table, user, got, want)
			}
		}
	}
}

// final is for tables that a feed fills as well.
func final(table string) string {
	if strings.HasSuffix(table, "_current") {
		return " FINAL"
	}
	return ""
}

// TestAnothersGPU: a tenant that says that a GPU or node of another one is its own changes nothing of what that one sees.
func TestAnothersGPU(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil), reader("globex", []string{"globex"}, nil), reader("all_rows", nil, nil))
	for _, sql := range []string{
		"INSERT INTO node_inventory (ts, node_id, tenant, node_name) VALUES (now() - 60, 1, 'acme', 'acme-node'), (now(), 1, 'globex', 'taken'), (now(), 2, 'globex', 'globex-node')",
		"INSERT INTO gpu_inventory (ts, gpu_id, node_id, tenant, gpu_uuid, model) VALUES (now() - 60, 5, 1, 'acme', 'GPU-5', 'H100'), (now(), 5, 2, 'globex', 'GPU-5', 'taken')",
		"INSERT INTO gpu_samples (ts, gpu_id, node_id, tenant) VALUES (now(), 5, 1, 'acme')",
		"OPTIMIZE TABLE gpu_current FINAL",
	} {
		clickhousetest.Exec(t, w.server.Writer(), sql)
	}
	for user, want := range map[string]string{"acme": "H100 acme-node", "globex": "taken globex-node", "all_rows": "taken globex-node"} {
		if got := w.must(user, "SELECT concat(model, ' ', node_name) FROM fleet_gpus"); got != want {
			t.Errorf("%s sees GPU %q, want %q", user, got, want)
		}
	}
	if got := w.must("acme", "SELECT concat(model, ' ', node_name) FROM fleet_samples"); got != "H100 acme-node" {
		t.Errorf("sample of %q", got)
	}
	if got := w.must("all_rows", "SELECT count() FROM fleet_nodes"); got != "2" {
		t.Errorf("%s nodes", got)
	}
}

// TestNewTablesAreClosed: what this version does not know is not readable for who sees some rows only.
func TestNewTablesAreClosed(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil))
	clickhousetest.Exec(t, w.server.Writer(), "CREATE TABLE gpu_new (tenant String) ENGINE = MergeTree ORDER BY tenant")
	if answer, err := w.as("acme").Ask(t.Context(), "SELECT * FROM gpu_new"); !strings.Contains(said(err), denied) {
		t.Errorf("answer %q, error %v", answer, err)
	}
}

// TestViewsAreTheInvokers: each of our views shows a reader what its tables would.
func TestViewsAreTheInvokers(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil))
	w.fill()
	w.tell()
	for _, view := range scopedViews() {
		create := w.must("everything", "SELECT create_table_query FROM system.tables WHERE database = 'gpufleet' AND name = '"+view+"'")
		if !strings.Contains(create, "SQL SECURITY INVOKER") {
			t.Errorf("%s is not the invoker's: %.200s", view, create)
		}
		if answer := w.must("acme", "SELECT * FROM "+view); strings.Contains(answer, secret) || strings.Contains(answer, "424242") {
			t.Errorf("%s shows %.300q", view, answer)
		}
	}
}

// TestLimitsHold: of time, memory, rows and queries; and what clients set is let through.
func TestLimitsHold(t *testing.T) {
	tight := reader("tight", []string{"acme"}, nil)
	tight.Limits.ReadRows, tight.Limits.ResultRows, tight.Limits.MostResultRows, tight.Limits.MemoryBytes = 1000, 10, 20, 64<<20
	few := reader("few", nil, nil)
	few.Limits.QueriesPerMinute = 3
	away := reader("away", nil, nil)
	away.Networks = []string{"192.0.2.0/24"}
	w := newWorld(t, tight, few, away)
	for sql, want := range map[string]string{
		"SELECT number FROM numbers(11)":                                               "(TOO_MANY_ROWS_OR_BYTES)",
		"SELECT number FROM numbers(15) SETTINGS max_result_rows = 20":                 "",
		"SELECT number FROM numbers(15) SETTINGS max_result_rows = 21":                 constrained,
		"SELECT sum(number) FROM numbers(2000)":                                        "(TOO_MANY_ROWS)",
		"SELECT count() FROM generateRandom('a Int8') SETTINGS max_execution_time = 1": "(TOO_MANY_ROWS)",
		"SELECT groupArray(repeat('x', 100000)) FROM numbers(999)":                     "(MEMORY_LIMIT_EXCEEDED)",
		"SELECT sleep(3) SETTINGS max_execution_time = 1":                              "(TIMEOUT_EXCEEDED)",
		// What a part of a query sets takes nothing away from what holds for the whole.
		"SELECT * FROM (SELECT sum(number) FROM numbers(2000) SETTINGS max_rows_to_read = 0)":                                                        "(TOO_MANY_ROWS)",
		"SELECT * FROM (SELECT groupArray(repeat('x', 100000)) FROM numbers(999) SETTINGS max_memory_usage = 0)":                                     "(MEMORY_LIMIT_EXCEEDED)",
		"SELECT * FROM (SELECT number FROM numbers(15) SETTINGS max_result_rows = 0)":                                                                "(TOO_MANY_ROWS_OR_BYTES)",
		"SELECT * FROM (SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 0, max_block_size = 1) SETTINGS max_execution_time = 1": "(TIMEOUT_EXCEEDED)",
		"SELECT 1 SETTINGS log_comment = 'anna', session_timezone = 'UTC'":                                                                           "",
	} {
		if _, err := w.as("tight").Ask(t.Context(), sql); (err == nil) != (want == "") || !strings.Contains(said(err), want) {
			t.Errorf("%s: %.300v, want %q", sql, err, want)
		}
	}
	var last error
	for range 7 { // one more than a minute's, and the next one's
		_, last = w.as("few").Ask(t.Context(), "SELECT count() FROM gpu_events")
	}
	if !strings.Contains(said(last), "(QUOTA_EXCEEDED)") {
		t.Errorf("after too many queries: %v", last)
	}
	if _, err := w.as("away").Ask(t.Context(), "SELECT 1"); !strings.Contains(said(err), "(AUTHENTICATION_FAILED)") {
		t.Errorf("from another network: %v", err)
	}
}

// TestClientsCanSetTheirTime: clickhouse-go, which Grafana's data sources use, sends max_execution_time with each query.
func TestClientsCanSetTheirTime(t *testing.T) {
	w := newWorld(t, reader("acme", []string{"acme"}, nil))
	w.tell()
	e := w.as("acme")
	for protocol, address := range map[clickhouse.Protocol]string{clickhouse.HTTP: e.HTTPAddress(), clickhouse.Native: e.TCPAddress()} {
		conn, err := clickhouse.Open(&clickhouse.Options{
			Addr: []string{address}, Protocol: protocol, Auth: clickhouse.Auth{Database: embedded.Database, Username: e.User, Password: e.Password},
			Settings: clickhouse.Settings{"max_execution_time": 30}, ReadTimeout: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		var time, message string
		if err := conn.QueryRow(t.Context(), "SELECT getSetting('max_execution_time')::String, message FROM gpu_events").Scan(&time, &message); err != nil || time != "30" || message != "acme-own" {
			t.Errorf("%v: %q, %q, %v", protocol, time, message, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
