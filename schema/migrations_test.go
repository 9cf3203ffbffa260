// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// recorder keeps what Migrate runs.
type recorder struct {
	driver.Conn
	statements []string // the first line of each
}

func (r *recorder) Exec(ctx context.Context, query string, args ...any) error {
	first, _, _ := strings.Cut(query, "\n")
	r.statements = append(r.statements, first)
	return r.Conn.Exec(ctx, query, args...)
}

func (f fleet) statements(t *testing.T) []string {
	t.Helper()
	r := &recorder{Conn: f.connection}
	if err := schema.Migrate(t.Context(), r, f.Name, "test"); err != nil {
		t.Fatal(err)
	}
	return r.statements
}

func TestMigrateMakesADatabase(t *testing.T) {
	db := clickhousetest.Start(t)
	clickhousetest.Exec(t, db.Writer, "DROP DATABASE "+db.Name)
	withoutDatabase := db.Writer
	withoutDatabase.Database = "system"
	connection := clickhousetest.Open(t, withoutDatabase)
	if err := schema.Migrate(t.Context(), connection, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	f := fleet{Database: db, connection: connection}
	f.want(t, "SELECT version, applied_by, fingerprint FROM schema_versions", fmt.Sprintf("%d\ttest\t%s", schema.Version, schema.Fingerprint()))
}

func TestMigrateOnlyReadsWhatIsUpToDate(t *testing.T) {
	f := newFleet(t)
	if got := f.statements(t); len(got) != 0 {
		t.Errorf("second run ran %q", got)
	}
}

func TestMigrateByManyAtOnce(t *testing.T) {
	db := clickhousetest.Start(t)
	connection := clickhousetest.Open(t, db.Writer)
	f := fleet{Database: db, connection: connection}
	atOnce := func() {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				if err := schema.Migrate(t.Context(), connection, db.Name, fmt.Sprint("collector ", i)); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	atOnce()
	f.wantColumnsOfSchema(t)
	f.want(t, "SELECT uniqExact(version, fingerprint) FROM schema_versions", "1")

	// And at once over a database that lacks columns, views and comments.
	f.exec(t, "ALTER TABLE gpu_samples DROP COLUMN sm_active_permille, COMMENT COLUMN gpu_temperature_celsius 'old', MODIFY COMMENT 'old'")
	f.exec(t, "DROP VIEW fleet_now")
	f.exec(t, "TRUNCATE TABLE schema_versions")
	atOnce()
	f.wantColumnsOfSchema(t)
	f.want(t, "SELECT count() FROM fleet_now", "0")
	f.want(t, "SELECT uniqExact(version, fingerprint) FROM schema_versions", "1")
}

// withoutScope is a table of a version that knew no tenants.
func withoutScope(t *testing.T, name string) schema.Table {
	t.Helper()
	for _, table := range schema.StoredTables() {
		if table.Name != name {
			continue
		}
		table.OrderBy = table.PrimaryKey
		table.Columns = slices.DeleteFunc(slices.Clone(table.Columns), func(c schema.Column) bool {
			return c.Name == schema.ColumnTenant || c.Name == schema.ColumnResidency
		})
		return table
	}
	t.Fatalf("no table %s", name)
	return schema.Table{}
}

// TestMigrateUpgrades starts from a database as an earlier version left it: without columns at the
// beginning, in the middle and at the end of tables, with rows in them, and with feeds and views of then.
func TestMigrateUpgrades(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "DROP VIEW gpu_current_feed")
	f.exec(t, "CREATE MATERIALIZED VIEW gpu_current_feed TO gpu_current AS SELECT * EXCEPT (host_id, gpu_minor, gpu_index) FROM gpu_inventory")
	for _, table := range []string{"gpu_inventory", "gpu_current"} {
		f.exec(t, "ALTER TABLE "+table+" DROP COLUMN host_id, DROP COLUMN gpu_minor, DROP COLUMN gpu_index")
	}
	f.exec(t, "DROP TABLE node_current")
	f.exec(t, withoutScope(t, "node_current").CreateTable(f.Name))
	f.exec(t, "INSERT INTO node_current (ts, node_id, node_name) VALUES (now64(3), 9, 'node-9')")
	f.exec(t, "DROP VIEW ingest_sequences_feed")
	f.exec(t, "DROP TABLE ingest_sequences")
	f.exec(t, "INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, state) VALUES (now64(3), 'gpu_samples', 2, 3, 4, 'stored')")
	f.exec(t, "CREATE OR REPLACE VIEW fleet_gpus AS SELECT gpu_id FROM gpu_inventory")
	f.exec(t, "ALTER TABLE gpu_events DROP INDEX gpu")
	f.exec(t, "ALTER TABLE gpu_samples DROP COLUMN quality, MODIFY TTL toDateTime(ts) + INTERVAL 3 DAY")
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 1, 2, 3, 4)")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, gpu_uuid) VALUES (now64(3), 1, 'GPU-1')")
	f.exec(t, "TRUNCATE TABLE schema_versions")
	f.exec(t, fmt.Sprintf("INSERT INTO schema_versions VALUES (%d, now64(3) - 1, 'earlier', 'other')", schema.Version))

	f.migrate(t)
	f.wantColumnsOfSchema(t)
	f.want(t, "SELECT gpu_id, node_id, epoch, seq, quality FROM gpu_samples", "1\t2\t3\t4\t0")
	f.want(t, "SELECT node_id, groupBitmapMerge(stored) FROM ingest_sequences GROUP BY node_id", "2\t1") // of what was in the ledger already
	f.want(t, "SELECT applied_by, fingerprint = '"+schema.Fingerprint()+"' FROM schema_versions ORDER BY applied_at", "earlier\t0\ntest\t1")
	if got := f.query(t, "SHOW CREATE TABLE gpu_events"); !strings.Contains(got, "INDEX gpu gpu_id TYPE bloom_filter") {
		t.Errorf("no index: %s", got)
	}
	f.want(t, "SELECT sorting_key, primary_key FROM system.tables WHERE database = currentDatabase() AND name = 'node_current'", "node_id, tenant, residency\tnode_id")
	f.exec(t, "INSERT INTO node_current (ts, node_id, tenant, node_name) VALUES (now64(3) - 3600, 9, 'acme', 'another')")
	f.want(t, "SELECT tenant, node_name FROM node_current FINAL ORDER BY tenant", "\tnode-9\nacme\tanother")
	f.want(t, "SELECT node_name FROM fleet_nodes", "node-9")
	// Retention is the operator's.
	if got := f.query(t, "SHOW CREATE TABLE gpu_samples"); !strings.Contains(got, "toIntervalDay(3)") {
		t.Errorf("the retention that was set by hand is gone: %s", got)
	}
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, gpu_uuid, host_id, gpu_index) VALUES (now64(3), 7, 'GPU-7', 8, 9)")
	f.want(t, "SELECT gpu_id, gpu_uuid, host_id, gpu_index FROM fleet_gpus ORDER BY gpu_id", "1\tGPU-1\t\\N\t\\N\n7\tGPU-7\t8\t9")
	if got := f.statements(t); len(got) != 0 {
		t.Errorf("after the upgrade there is still to run: %q", got)
	}
	f.exec(t, "ALTER TABLE gpu_samples MODIFY COLUMN quality CODEC(LZ4)") // and so is a codec from then on
	if got := f.statements(t); len(got) != 0 {
		t.Errorf("a codec that was set by hand is changed: %q", got)
	}
}

// TestMigrateFromEveryVersion starts from each version as it was committed.
func TestMigrateFromEveryVersion(t *testing.T) {
	for version := 1; version <= schema.Version; version++ {
		db := clickhousetest.Start(t)
		script, err := os.ReadFile(fmt.Sprintf("testdata/versions/%d.sql", version))
		if err != nil {
			t.Fatal(err)
		}
		f := fleet{Database: db, connection: clickhousetest.Open(t, db.Writer)}
		for statement := range strings.SplitSeq(strings.ReplaceAll(string(script), "`gpufleet`", "`"+db.Name+"`"), ";\n") {
			if strings.TrimSpace(statement) != "" {
				f.exec(t, statement)
			}
		}
		f.exec(t, fmt.Sprintf("INSERT INTO schema_versions VALUES (%d, now64(3) - 1, 'then', 'then')", version))
		f.migrate(t)
		f.wantColumnsOfSchema(t)
		f.want(t, "SELECT applied_by FROM schema_versions ORDER BY applied_at", "then\ntest")
	}
}

func TestMigrateLeavesNewerDatabases(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "ALTER TABLE gpu_samples ADD COLUMN of_tomorrow Nullable(UInt8), COMMENT COLUMN gpu_temperature_celsius 'of tomorrow'")
	f.exec(t, "CREATE OR REPLACE VIEW fleet_now AS SELECT 'of tomorrow' AS x")
	f.exec(t, fmt.Sprintf("INSERT INTO schema_versions VALUES (%d, now64(3), 'tomorrow', 'f')", schema.Version+1))
	if got := f.statements(t); len(got) != 0 {
		t.Errorf("ran %q on a newer database", got)
	}
	f.want(t, "SELECT x FROM fleet_now", "of tomorrow")
	f.exec(t, "ALTER TABLE gpu_samples DROP COLUMN quality")
	f.refused(t, "column gpu_samples.quality is missing, although the database has version")
}

func TestMigrateRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change string
		want   string
	}{
		{
			"another type", "ALTER TABLE gpu_samples MODIFY COLUMN sm_active_permille Nullable(UInt32)",
			"column gpu_samples.sm_active_permille is Nullable(UInt32), want Nullable(UInt16)",
		},
		{"another encoding", "ALTER TABLE gpu_events MODIFY COLUMN kind String", "column gpu_events.kind is String, want LowCardinality(String)"},
		{"a view for a table", "DROP TABLE ingest_ledger", "ingest_ledger is a View, want a table"},
		{"a table for a view", "DROP VIEW fleet_now", "fleet_now is a MergeTree, want a View: to replace it would lose what is in it"},
	}
	instead := map[string]string{
		"a view for a table": "CREATE VIEW ingest_ledger AS SELECT 1 AS x",
		"a table for a view": "CREATE TABLE fleet_now (x UInt8) ENGINE = MergeTree ORDER BY x",
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t)
			f.exec(t, tt.change)
			if sql, ok := instead[tt.name]; ok {
				f.exec(t, sql)
			}
			f.exec(t, "DROP VIEW fleet_gpus")
			f.refused(t, tt.want)
			f.want(t, "EXISTS VIEW fleet_gpus", "0") // nothing was changed
		})
	}
}

func (f fleet) refused(t *testing.T, want string) {
	t.Helper()
	err := schema.Migrate(t.Context(), f.connection, f.Name, "test")
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestMigrateTellsWhatFailed(t *testing.T) {
	db := clickhousetest.Start(t)
	reader := clickhousetest.Open(t, db.Reader)
	err := schema.Migrate(t.Context(), reader, db.Name, "test")
	if err == nil || !strings.Contains(err.Error(), "migrate database "+db.Name+": CREATE TABLE IF NOT EXISTS") {
		t.Errorf("as a reader: %v", err)
	}
	f := fleet{Database: db, connection: clickhousetest.Open(t, db.Writer)}
	f.migrate(t)
	if err := schema.Migrate(t.Context(), reader, db.Name, "test"); err != nil {
		t.Errorf("a reader cannot even read what is up to date: %v", err)
	}
}
