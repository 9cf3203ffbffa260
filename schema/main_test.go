// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

var _ schema.Execer = driver.Conn(nil)

// fleet is a migrated database.
type fleet struct {
	clickhousetest.Database
	connection driver.Conn
	cluster    *clickhousetest.Cluster // over which its tables lie; nil: none
}

func newFleet(t testing.TB) fleet {
	t.Helper()
	if onCluster != nil {
		return onCluster.emptied(t)
	}
	db := clickhousetest.Start(t)
	f := fleet{Database: db, connection: clickhousetest.Open(t, db.Writer)}
	f.migrate(t)
	return f
}

func (f fleet) migrate(t testing.TB) {
	t.Helper()
	if err := schema.Migrate(t.Context(), f.connection, f.Name, "test"); err != nil {
		t.Fatal(err)
	}
}

func (f fleet) exec(t testing.TB, sql string) {
	t.Helper()
	if f.cluster != nil {
		sql = intoTable.ReplaceAllString(sql, "$1 SETTINGS distributed_foreground_insert = 1")
	}
	clickhousetest.Exec(t, f.Writer, sql)
}

// query answers in tab-separated lines; as a reader, who has the fewest rights.
func (f fleet) query(t testing.TB, sql string) string {
	t.Helper()
	return clickhousetest.Query(t, f.Reader, sql)
}

func (f fleet) want(t testing.TB, sql, want string) {
	t.Helper()
	if got := f.query(t, sql); got != want {
		t.Errorf("%s\ngot  %q\nwant %q", sql, got, want)
	}
}
