// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

func TestFind(t *testing.T) {
	for _, name := range []string{"gpu_samples", "fleet_now", "ingest_ledger"} {
		if o, err := Find(name); err != nil || o.Name != name || len(o.Columns) == 0 {
			t.Errorf("%s: %v, %d columns: %v", name, o.Name, len(o.Columns), err)
		}
	}
	for name, want := range map[string]string{"samples": "is it gpu_samples or token_samples or gpu_samples_1m or gpu_samples_1h or fleet_samples?", "xyz": "`gpufleet schema` lists"} {
		if _, err := Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFormats(t *testing.T) {
	o := Object{
		Name: "t", Kind: "table", Meaning: "A table.", KeptDays: 14,
		Columns: []Column{{"ts", "DateTime", "", "When."}, {"power_watts", "Nullable(UInt16)", "W", "This | that."}},
		Create:  func(database string) string { return "CREATE TABLE " + database + ".t" },
	}
	view := Object{Name: "fleet", Kind: "view", Meaning: "A view."}
	tests := []struct {
		format    Format
		one, list string
	}{
		{Text, `t (table, kept: 14 days)
A table.

column       type              unit  meaning
ts           DateTime                When.
power_watts  Nullable(UInt16)  W     This | that.
`, `name   kind   columns  kept     meaning
t      table  2        14 days  A table.
fleet  view   0        –        A view.
`},
		{Markdown, `## t

A table.

| column | type | unit | meaning |
| --- | --- | --- | --- |
| ts | DateTime |  | When. |
| power_watts | Nullable(UInt16) | W | This \| that. |
`, `| name | kind | columns | kept | meaning |
| --- | --- | --- | --- | --- |
| t | table | 2 | 14 days | A table. |
| fleet | view | 0 | – | A view. |
`},
		{SQL, "CREATE TABLE d.t;\n\n", ""},
	}
	for _, tt := range tests {
		var one, list strings.Builder
		if err := o.Write(&one, tt.format, "d"); err != nil || one.String() != tt.one {
			t.Errorf("%s: %v\n%s", tt.format, err, one.String())
		}
		if tt.list == "" {
			continue
		}
		if err := WriteList(&list, []Object{o, view}, tt.format, "d"); err != nil || list.String() != tt.list {
			t.Errorf("list as %s: %v\n%s", tt.format, err, list.String())
		}
	}
	if err := o.Write(&strings.Builder{}, "xml", "d"); err == nil {
		t.Error("writes xml")
	}
	if err := WriteList(&strings.Builder{}, nil, "xml", "d"); err == nil {
		t.Error("lists xml")
	}
}

// TestStatementsMakeTheDatabase runs what is printed.
func TestStatementsMakeTheDatabase(t *testing.T) {
	db := clickhousetest.Start(t)
	var sql strings.Builder
	if err := WriteList(&sql, Objects(), SQL, db.Name); err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(sql.String(), ";\n\n") {
		if statement != "" {
			clickhousetest.Exec(t, db.Writer, statement)
		}
	}
	conn := clickhousetest.Open(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	if differences, err := Compare(t.Context(), conn, db.Name); err != nil || len(differences) != 0 {
		t.Errorf("differences %q: %v", differences, err)
	}
}

func TestCompare(t *testing.T) {
	db := clickhousetest.Start(t)
	writer, reader := clickhousetest.Open(t, db.Writer), clickhousetest.Open(t, db.Reader)
	compare := func() []string {
		t.Helper()
		differences, err := Compare(t.Context(), reader, db.Name)
		if err != nil {
			t.Fatal(err)
		}
		return differences
	}
	if got := compare(); len(got) < len(schema.Tables()) || !slices.Contains(got, "table gpu_samples is missing") {
		t.Errorf("empty database: %q", got)
	}
	if err := schema.Migrate(t.Context(), writer, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	if got := compare(); len(got) != 0 {
		t.Errorf("fresh database: %q", got)
	}
	for _, statement := range []string{
		"ALTER TABLE gpu_subsecond DROP COLUMN driver_time_microseconds", "ALTER TABLE gpu_subsecond MODIFY COMMENT 'other'",
		"DROP TABLE gpu_health", "DROP VIEW fleet_now", "DROP VIEW gpu_current_feed",
		"ALTER TABLE gpu_subsecond MODIFY TTL toDateTime(ts) + INTERVAL 1 DAY", "ALTER TABLE gpu_samples ADD COLUMN more UInt8",
	} {
		clickhousetest.Exec(t, db.Writer, statement)
	}
	want := []string{
		"table gpu_health is missing", "column gpu_subsecond.driver_time_microseconds is missing", "comments of gpu_subsecond are of another version",
		"feed gpu_current_feed is missing", "view fleet_now is missing or of another version",
	}
	if got := compare(); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	clickhousetest.Exec(t, db.Writer, "INSERT INTO schema_versions (version, applied_at, applied_by, fingerprint) VALUES (99, now(), 'later', '')")
	if got := compare(); !strings.Contains(strings.Join(got, "\n"), "has version 99, this program") {
		t.Errorf("later database: %q", got)
	}
	clickhousetest.Exec(t, db.Writer, "TRUNCATE TABLE schema_versions")
	clickhousetest.Exec(t, db.Writer, "ALTER TABLE gpu_events MODIFY COLUMN xid Nullable(UInt64)")
	if got := compare(); !strings.Contains(strings.Join(got, "\n"), "column gpu_events.xid is Nullable(UInt64), want Nullable(UInt32)") {
		t.Errorf("other type: %q", got)
	}
}

func TestCompareCannotAsk(t *testing.T) {
	db := clickhousetest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if differences, err := Compare(ctx, clickhousetest.Open(t, db.Reader), db.Name); err == nil {
		t.Errorf("differences %q without an answer", differences)
	}
}

func TestDescribe(t *testing.T) {
	for statement, want := range map[string]string{
		"CREATE DATABASE IF NOT EXISTS `d`":                   "database d is missing",
		"ALTER TABLE `d`.`f` MODIFY QUERY SELECT 1":           "feed f is of another version",
		"ALTER TABLE `d`.`t` COMMENT COLUMN `c` 'ADD COLUMN'": "comments of t are of another version",
		"OPTIMIZE TABLE `d`.`t`\nFINAL":                       "to be done: OPTIMIZE TABLE `d`.`t`",
	} {
		if got := describe(statement); got != want {
			t.Errorf("%s: %s", statement, got)
		}
	}
}
