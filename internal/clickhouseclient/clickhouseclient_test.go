// SPDX-License-Identifier: Apache-2.0

package clickhouseclient

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

func TestParseURL(t *testing.T) {
	tests := []struct {
		url  string
		want Endpoint
	}{
		{"http://db.example", Endpoint{"db.example:8123", "default", "env", "gpufleet", false}},
		{"https://anna@db.example/fleet", Endpoint{"db.example:8443", "anna", "env", "fleet", true}},
		{"http://anna:secret@[::1]:9000/", Endpoint{"[::1]:9000", "anna", "secret", "gpufleet", false}},
	}
	for _, tt := range tests {
		if got, err := ParseURL(tt.url, "env"); err != nil || got != tt.want {
			t.Errorf("%s: %s, password %q, error %v", tt.url, got, got.Password, err)
		}
	}
	for _, bad := range []string{"db.example:8123", "tcp://anna:secret@db.example", "http://", "http://anna:secret@db.example:x/"} {
		if _, err := ParseURL(bad, ""); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if text := fmt.Sprintf("%v %#v", tests[2].want, tests[2].want); strings.Contains(text, "secret") {
		t.Errorf("shows its password: %s", text)
	}
}

func TestConnectByURL(t *testing.T) {
	db := clickhousetest.Start(t)
	c, err := Place{URL: fmt.Sprintf("http://%s@%s/%s", db.Reader.User, db.Reader.HTTPAddress(), db.Name), Password: db.Reader.Password}.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var name string
	if err := c.QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&name); err != nil || name != db.Name || !c.Running {
		t.Errorf("database %q, running %v: %v", name, c.Running, err)
	}
}

// TestConnectToData starts a ClickHouse where none runs, and uses the one that does.
func TestConnectToData(t *testing.T) {
	place := Place{DataDir: t.TempDir()}
	if _, err := place.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "gpufleet up") {
		t.Fatalf("no data: %v", err)
	}
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: EmbeddedDir(place.DataDir), MemoryLimitBytes: 1 << 30, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	clickhousetest.Exec(t, server.Writer(), "CREATE TABLE t ENGINE = MergeTree ORDER BY a AS SELECT 7 AS a")
	check := func(wantRunning bool) {
		t.Helper()
		c, err := place.Connect(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		var a uint8
		if err := c.QueryRow(t.Context(), "SELECT a FROM t").Scan(&a); err != nil || a != 7 || c.Running != wantRunning {
			t.Errorf("a %d, running %v: %v", a, c.Running, err)
		}
		if err := c.Exec(t.Context(), "INSERT INTO t VALUES (8)"); err == nil {
			t.Error("the user may write")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	check(true)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	check(false)
	var turns sync.WaitGroup // at the same time they wait for each other
	for range 3 {
		turns.Go(func() { check(false) })
	}
	turns.Wait()
	if _, _, err := embedded.Attach(t.Context(), EmbeddedDir(place.DataDir)); err == nil {
		t.Error("the ClickHouse that was started for the connection still runs")
	}
	place.Library = filepath.Join(place.DataDir, "none.so")
	if _, err := place.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), place.DataDir) {
		t.Errorf("no library: %v", err)
	}
}
