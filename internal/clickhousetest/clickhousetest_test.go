// SPDX-License-Identifier: Apache-2.0

package clickhousetest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

func TestMain(m *testing.M) { Main(m) }

func TestDatabasesAreSeparate(t *testing.T) {
	first, second := Start(t), Start(t)
	if first.Name == second.Name || first.Writer.HTTPPort != second.Writer.HTTPPort {
		t.Fatalf("databases %s and %s of %v and %v", first.Name, second.Name, first.Writer, second.Writer)
	}
	Exec(t, first.Writer, "CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
	Exec(t, first.Writer, "INSERT INTO t VALUES (7)")
	if got := Query(t, first.Reader, "SELECT a FROM t"); got != "7" {
		t.Errorf("row reads %q", got)
	}
	if got := Query(t, second.Reader, "EXISTS TABLE t"); got != "0" {
		t.Errorf("the second database has the first one's table: %q", got)
	}
	if _, err := first.Reader.Ask(t.Context(), "INSERT INTO t VALUES (8)"); err == nil {
		t.Error("the reader wrote")
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	outer := Start(t)
	var inner Database
	t.Run("a name's odd/parts", func(t *testing.T) { inner = Start(t) })
	if got := Query(t, outer.Writer, "SELECT count() FROM system.databases WHERE name = '"+inner.Name+"'"); got != "0" {
		t.Errorf("database %s is still there", inner.Name)
	}
	if !strings.HasPrefix(inner.Name, "gpufleet_testdatabaseisdropped_a_name_s_odd_parts_") {
		t.Errorf("database is called %s", inner.Name)
	}
	if got := databaseName(strings.Repeat("x", 500), 12); len(got) > 80 || !strings.HasSuffix(got, "_12") {
		t.Errorf("a long test gets the database %s", got)
	}
}

func TestOpen(t *testing.T) {
	db := Start(t)
	connection := Open(t, db.Writer)
	if err := connection.Exec(t.Context(), "CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	if err := connection.InsertFormat(t.Context(), "CSV", "INSERT INTO t", strings.NewReader("1\n2\n3\n")); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	if err := Open(t, db.Reader).QueryRow(t.Context(), "SELECT sum(a) FROM t").Scan(&sum); err != nil || sum != 6 {
		t.Errorf("sum %d: %v", sum, err)
	}
}

func TestDedicatedCanBeKilled(t *testing.T) {
	server := Dedicated(t)
	if db := Start(t); db.Writer.HTTPPort == server.Writer().HTTPPort {
		t.Fatal("the dedicated server is the shared one")
	}
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for server.Restarts() == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("not restarted")
		case <-tick.C:
		}
	}
	if got := Query(t, server.Reader(), "SELECT 1"); got != "1" {
		t.Errorf("restarted server answers %q", got)
	}
}

// TestNoLibrary runs one test of this package where there is no ClickHouse: it must fail, and say what to do.
func TestNoLibrary(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDatabasesAreSeparate$")
	cmd.Env = append(os.Environ(), embedded.LibraryEnv+"=/nonexistent/libchdb.so")
	output, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "make deps") || !strings.Contains(string(output), "--- FAIL: TestDatabasesAreSeparate") {
		t.Errorf("error %v, output:\n%s", err, output)
	}
}
