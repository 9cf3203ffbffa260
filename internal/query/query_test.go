// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

func TestSplit(t *testing.T) {
	tests := []struct{ sql, text, format string }{
		{"SELECT 1", "SELECT 1", ""},
		{"SELECT 1 ;\n", "SELECT 1", ""},
		{"SELECT 1\nformat JSONEachRow;", "SELECT 1", "JSONEachRow"},
		{"SELECT * FROM t ORDER BY format DESC", "SELECT * FROM t ORDER BY format DESC", ""},
		{"SELECT ' FORMAT CSV'", "SELECT ' FORMAT CSV'", ""},
	}
	for _, tt := range tests {
		if text, format := Split(tt.sql); text != tt.text || format != tt.format {
			t.Errorf("%q: %q, %q", tt.sql, text, format)
		}
	}
}

func TestRun(t *testing.T) {
	db := clickhousetest.Start(t)
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE gpu_samples (ts UInt32, gpu_id UInt64) ENGINE = MergeTree ORDER BY ts AS SELECT 1, 7")
	conn := clickhousetest.Open(t, db.Reader)
	tests := []struct{ name, sql, format, want string }{
		{"pipe", "SELECT * FROM gpu_samples", FormatPipe, "ts\tgpu_id\n1\t7\n"},
		{"json", "SELECT gpu_id FROM gpu_samples", "JSONEachRow", `{"gpu_id":7}` + "\n"},
		{"terminal", "SELECT gpu_id FROM gpu_samples", FormatTerminal, "   ┌─gpu_id─┐\n1. │      7 │\n   └────────┘\n"},
		{"no rows", "SELECT gpu_id FROM gpu_samples WHERE ts = 2", FormatPipe, "gpu_id\n"},
		{"settings", "SELECT getSetting('max_threads') SETTINGS max_threads = 1", "TSV", "1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := Run(t.Context(), conn, tt.sql, tt.format, &got); err != nil || got.String() != tt.want {
				t.Errorf("got %q: %v", got.String(), err)
			}
		})
	}
}

// TestOnlyReads asks as the user who may do everything.
func TestOnlyReads(t *testing.T) {
	db := clickhousetest.Start(t)
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE gpu_samples (ts UInt32) ENGINE = MergeTree ORDER BY ts AS SELECT 1")
	for _, statement := range []string{
		"INSERT INTO gpu_samples VALUES (2)", "DROP TABLE gpu_samples", "ALTER TABLE gpu_samples DELETE WHERE 1",
		"INSERT INTO gpu_samples SELECT 3 SETTINGS readonly = 0", "CREATE TABLE t (a Int8) ENGINE = Memory",
	} {
		err := Run(t.Context(), clickhousetest.Open(t, db.Writer), statement, "TSV", &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), "only reads") {
			t.Errorf("%s: %v", statement, err)
		}
		err = Run(t.Context(), clickhousetest.Open(t, db.Reader), statement, "TSV", &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), "only reads") {
			t.Errorf("%s as the reader: %v", statement, err)
		}
	}
	if got := clickhousetest.Query(t, db.Reader, "SELECT groupArray(ts) FROM gpu_samples"); got != "[1]" {
		t.Errorf("table holds %s", got)
	}
}

func TestErrors(t *testing.T) {
	db := clickhousetest.Start(t)
	clickhousetest.Exec(t, db.Writer, "CREATE TABLE gpu_samples (ts UInt32, gpu_id UInt64) ENGINE = MergeTree ORDER BY ts")
	conn := clickhousetest.Open(t, db.Reader)
	tests := []struct{ sql, format, want string }{
		{"SELEC 1", "TSV", `syntax error at line 1, column 1, at "SELEC"`},
		{"  \n SELEC 1", "TSV", `syntax error at line 2, column 2, at "SELEC"`},
		{"SELECT 'ü€𝄞' FRO x y", "TSV", `syntax error at line 1, column 18, at "x"`},
		{"/* größer\nals */ SELECT 'ü',\n\t'ü' a b", "TSV", `syntax error at line 3, column 8, at "b"`},
		{"SELECT (1", "TSV", `syntax error at line 1, column 8, at "(": unmatched parentheses`},
		{"SELECT 1)", "TSV", `syntax error at line 1, column 9, at ")": unmatched parentheses`},
		{"SELECT 'é', 'abc " + strings.Repeat("x", 100), "TSV", `syntax error at line 1, column 13, at "'abc ` + strings.Repeat("x", 35) + `…": single quoted string is not closed`},
		{"SELECT 1 /* é", "TSV", `syntax error at line 1, column 10, at "/* é": multiline comment is not closed`},
		{"SELECT 'é';\nSELECT 2", "TSV", `one query at a time: another one begins after line 1, column 11`},
		{"SELECT 1\nFROM gpu_samples\nWHER ts = 1", "TSV", `syntax error at line 3, column 6, at "ts"`},
		{"SELECT 1 FROM", "TSV", "syntax error at line 1, column 14: the query ends too early"},
		{"-- nothing", "TSV", "syntax error: Empty query"},
		{"SELECT * FROM gpu_sample", "TSV", "no table or view gpu_sample (" + db.Name + ".gpu_samples?): `gpufleet schema` lists them"},
		{"SELECT * FROM nothing_like_it", "TSV", "no table or view nothing_like_it: `gpufleet schema` lists them"},
		{"SELECT gpu_idd FROM gpu_samples", "TSV", "no column gpu_idd (gpu_id?): `gpufleet schema TABLE` lists those of a table"},
		{"SELECT 1", "Nonsense", "Unknown format Nonsense (ClickHouse code 73)"},
		{"SELECT sleep(3) FROM numbers(3) SETTINGS max_execution_time = 1", "TSV", "the answer goes beyond a limit of this user: "},
		{"SELECT toUInt8('x')", "TSV", "(ClickHouse code 6)"},
	}
	for _, tt := range tests {
		err := Run(t.Context(), conn, tt.sql, tt.format, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "version") {
			t.Errorf("%s: %v\nwant %s", tt.sql, err, tt.want)
		}
		if _, ok := errors.AsType[*clickhouse.Exception](err); !ok {
			t.Errorf("%s: %T is not ClickHouse's error any more", tt.sql, err)
		}
	}
}

// TestErrorOnTheWay: what came before is written, and the error is not taken for data.
func TestErrorOnTheWay(t *testing.T) {
	db := clickhousetest.Start(t)
	var got bytes.Buffer
	err := Run(t.Context(), clickhousetest.Open(t, db.Reader),
		"SELECT throwIf(number = 900000, 'too far') FROM numbers(1000000) SETTINGS max_block_size = 1000, max_threads = 1", "TSV", &got)
	if err == nil || !strings.Contains(err.Error(), "too far") {
		t.Errorf("error %v", err)
	}
	if rest := strings.Trim(got.String(), "0\r\n"); got.Len() == 0 || rest != "" {
		t.Errorf("wrote %d bytes, %.200q", got.Len(), rest)
	}
}

func TestOtherErrors(t *testing.T) {
	db := clickhousetest.Start(t)
	wrong := db.Reader
	wrong.Password = "wrong"
	err := Run(t.Context(), clickhousetest.Open(t, wrong), "SELECT 1", "TSV", &bytes.Buffer{})
	if explained := clickhouseerror.Explain(err, clickhouseerror.Target{Name: "db"}); err == nil || !strings.HasPrefix(explained.Error(), "ask ClickHouse db: it refuses") {
		t.Errorf("wrong password, not left to whoever knows the server: %v", err)
	}
	if err := Run(t.Context(), clickhousetest.Open(t, db.Reader), "", "TSV", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("empty: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, clickhousetest.Open(t, db.Reader), "SELECT 1", "TSV", &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
