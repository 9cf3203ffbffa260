// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRights asks what must work, then what must be refused, of one server.
func TestRights(t *testing.T) {
	cfg, _ := small(t)
	server := start(t, cfg)
	writer, reader := server.Writer(), server.Reader()
	for _, sql := range []string{
		"CREATE TABLE gpufleet.t (a UInt64, name String) ENGINE = MergeTree ORDER BY a",
		"CREATE TABLE gpufleet.sums (a UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY a",
		"CREATE MATERIALIZED VIEW gpufleet.mv TO gpufleet.sums AS SELECT a, 1 AS n FROM gpufleet.t",
		"CREATE VIEW gpufleet.v AS SELECT name FROM gpufleet.t",
		"CREATE DICTIONARY gpufleet.names (a UInt64, name String) PRIMARY KEY a LAYOUT(HASHED()) LIFETIME(1) " +
			"SOURCE(CLICKHOUSE(NAME " + DictionaryCollection + " DB 'gpufleet' TABLE 't'))",
		"INSERT INTO gpufleet.t VALUES (1, 'one')",
		"ALTER TABLE gpufleet.t ADD COLUMN b UInt8",
		"ALTER TABLE gpufleet.t UPDATE b = 2 WHERE true SETTINGS mutations_sync = 1",
		"OPTIMIZE TABLE gpufleet.t FINAL",
		"SYSTEM RELOAD DICTIONARY gpufleet.names",
		"KILL QUERY WHERE query_id = 'none'",
		"CREATE DATABASE gpufleet_another",
		"DROP DATABASE gpufleet_another SYNC",
		"SELECT count() FROM system.parts",
	} {
		must(t, writer, sql)
	}
	for sql, want := range map[string]string{
		"SELECT name FROM gpufleet.v":                                   "one",
		"SELECT n FROM gpufleet.sums":                                   "1",
		"SELECT dictGet('gpufleet.names', 'name', toUInt64(1))":         "one",
		"SELECT database, name FROM system.tables WHERE name = 't'":     "gpufleet\tt",
		"SELECT name FROM system.tables WHERE name = 'query_log'":       "",
		"SELECT name FROM system.columns WHERE table = 't' LIMIT 1":     "a",
		"SELECT count() FROM system.databases WHERE name = 'default'":   "0",
		"SELECT sum(rows) FROM system.parts WHERE active AND table='t'": "1",
		"SELECT count() > 100 FROM system.functions":                    "1",
		"SELECT sum(number) FROM numbers(3)":                            "3",
		"SELECT timezone()":                                             "UTC",
	} {
		if got := must(t, reader, sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	wrong := reader
	wrong.Password = "wrong"
	nobody := Endpoint{Host: reader.Host, HTTPPort: reader.HTTPPort, User: "default"}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("leaked"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cases := range refusals(other) {
		user := map[string]Endpoint{"reader": reader, "writer": writer, "wrong password": wrong, "default": nobody}[name]
		for _, c := range cases {
			answer, err := user.Ask(t.Context(), c.sql)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s: answer %.100q, error %v, want %s", name, c.sql, answer, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "leaked") {
				t.Errorf("%s: %s: the error tells of a file: %v", name, c.sql, err)
			}
		}
	}
}

type refusal struct{ sql, want string }

// refusals lists for each user what must fail and with which of ClickHouse's errors; other is a file of ours.
func refusals(other string) map[string][]refusal {
	const denied, readonly, constrained = "(ACCESS_DENIED)", "(READONLY)", "(SETTING_CONSTRAINT_VIOLATION)"
	return map[string][]refusal{
		"wrong password": {{"SELECT 1", "(AUTHENTICATION_FAILED)"}},
		"default": {
			{"SELECT count() FROM system.tables", "(QUOTA_EXCEEDED)"},
			{"SELECT count() FROM gpufleet.t", denied},
			{"SYSTEM STOP LISTEN HTTP", "(QUOTA_EXCEEDED)"},
			{"SELECT * FROM numbers(3)", "(QUOTA_EXCEEDED)"},
		},
		"writer": {
			{"CREATE DATABASE another", denied},
			{"CREATE USER u", denied},
			{"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')", denied},
			{"SELECT * FROM file('" + other + "', 'LineAsString', 'l String')", denied},
			{"SELECT file('" + other + "')", "switched off"},
			{"DROP FUNCTION file", denied},
		},
		"reader": {
			{"INSERT INTO gpufleet.t (a) VALUES (2)", denied},
			{"CREATE TABLE gpufleet.u (a Int8) ENGINE = Memory", denied},
			{"CREATE TEMPORARY TABLE u (a Int8)", denied},
			{"ALTER TABLE gpufleet.t DELETE WHERE true", denied},
			{"DROP TABLE gpufleet.t", denied},
			{"TRUNCATE TABLE gpufleet.t", denied},
			{"CREATE DATABASE gpufleet_mine", denied},
			{"KILL QUERY WHERE true", denied},
			{"SYSTEM STOP LISTEN HTTP", denied},
			{"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')", denied},
			{"SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a Int8')", denied},
			{"SELECT * FROM remote('127.0.0.1', 'gpufleet', 't')", denied},
			{"SELECT * FROM file('" + other + "', 'LineAsString', 'l String')", denied},
			{"SELECT * FROM default.`" + other + "`", ""},
			{"SELECT * FROM executable('cat', 'CSV', 'a Int8')", denied},
			{"SELECT * FROM sqlite('" + other + "', 't')", "ACCESS_DENIED)"},
			{"SELECT * FROM filesystem('/')", denied},
			{"SELECT file('" + other + "')", "switched off"},
			{"SELECT file('" + other + "', 'fallback')", ""},
			{"SELECT arrayMap(f -> file(f), ['" + other + "'])", "switched off"},
			{"SELECT * APPLY(file) FROM (SELECT '" + other + "')", "switched off"},
			{"SELECT * APPLY(file) FROM (SELECT '" + other + "') SETTINGS enable_analyzer = 0", "switched off"},
			{"SELECT 1 FORMAT Template SETTINGS format_template_resultset = '" + other + "'", constrained},
			{"SELECT 1 FORMAT Template SETTINGS format_template_row = '" + other + "'", constrained},
			{"SELECT 1 FORMAT Protobuf SETTINGS format_schema = '" + other + ":M'", constrained},
			{"SELECT count() FROM system.query_log", denied},
			{"SELECT count() FROM system.processes", denied},
			{"SELECT count() FROM system.users", denied},
			{"SELECT count() FROM system.named_collections", denied},
			{"SELECT 1 SETTINGS readonly = 0", readonly},
			{"SELECT 1 SETTINGS max_execution_time = 0", constrained},
			{"SELECT 1 SETTINGS max_execution_time = 100000", constrained},
			{"SELECT 1 SETTINGS max_memory_usage = 0", constrained},
			{"SELECT 1 SETTINGS max_memory_usage_for_user = 0", constrained},
			{"SELECT 1 SETTINGS max_result_rows = 0", constrained},
			{"SELECT number FROM numbers(2000000)", "(TOO_MANY_ROWS_OR_BYTES)"},
			{"SELECT groupArray(number) FROM numbers(1000000000)", "(MEMORY_LIMIT_EXCEEDED)"},
			{"SELECT count() FROM numbers(10000000000000) SETTINGS max_execution_time = 1", "(TIMEOUT_EXCEEDED)"},
		},
	}
}

// TestCancel closes a reader's connection and looks for the end of the query in system.query_log.
func TestCancel(t *testing.T) {
	cfg, _ := small(t)
	server := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := server.Reader().Ask(ctx, "SELECT sleepEachRow(1), 'to be cancelled' FROM numbers(50) SETTINGS max_block_size = 1")
		answered <- err
	}()
	const ours = " WHERE user = 'gpufleet_reader' AND query LIKE '%to be cancelled%'"
	running := func() bool { return must(t, server.Writer(), "SELECT count() FROM system.processes"+ours) == "1" }
	eventually(t, "the query", running)
	cancel()
	if err := <-answered; err == nil {
		t.Error("a cancelled query answered")
	}
	eventually(t, "the end of the query", func() bool { return !running() })
	must(t, server.Writer(), "SYSTEM FLUSH LOGS")
	if got := must(t, server.Writer(), "SELECT exception FROM system.query_log"+ours+" AND type = 'ExceptionWhileProcessing'"); !strings.Contains(got, "(QUERY_WAS_CANCELLED") {
		t.Errorf("system.query_log says %q", got)
	}
}

// sqlText escapes what is put between single quotes.
func sqlText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text)
}
