// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

func examine(t *testing.T, cfg Config) Report {
	t.Helper()
	cfg.DataDir, cfg.machine = t.TempDir(), healthy(t).machine
	return Run(t.Context(), cfg)
}

func address(db clickhousetest.Database) string {
	return fmt.Sprintf("http://%s@%s/%s", db.Reader.User, db.Reader.HTTPAddress(), db.Name)
}

func TestClickHouse(t *testing.T) {
	db := clickhousetest.Start(t)
	named := Config{ClickHouse: address(db), Password: db.Reader.Password}
	if r := examine(t, named); find(r, "clickhouse").Level != OK || !strings.Contains(find(r, "clickhouse").Says, "version 2") {
		t.Errorf("server: %+v", find(r, "clickhouse"))
	} else if f := find(r, "tables"); f.Level != Fail || !strings.Contains(f.Says, "table gpu_samples is missing, and ") || !strings.Contains(f.Fix, "--check") {
		t.Errorf("empty database: %+v", f)
	}
	if err := schema.Migrate(t.Context(), clickhousetest.Open(t, db.Writer), db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	r := examine(t, named)
	if f := find(r, "tables"); f.Level != OK || !strings.Contains(f.Says, fmt.Sprintf("schema version %d", schema.Version)) {
		t.Errorf("tables: %+v", f)
	}
	if f := find(r, "samples"); f.Level != Warn || !strings.Contains(f.Fix, "agents") {
		t.Errorf("no samples: %+v", f)
	}
	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples (ts, gpu_id) SELECT now64(3) - 100, 1")
	if f := find(examine(t, named), "samples"); f.Level != OK || !strings.Contains(f.Says, "the newest is 10") {
		t.Errorf("samples: %+v", f)
	}
}

func TestCollectorsOfADatabase(t *testing.T) {
	db := clickhousetest.Start(t)
	if err := schema.Migrate(t.Context(), clickhousetest.Open(t, db.Writer), db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	want := func(level Level, what string) {
		t.Helper()
		f := find(examine(t, Config{ClickHouse: address(db), Password: db.Reader.Password}), "collectors")
		if f.Level != level || !strings.Contains(f.Says, what) {
			t.Errorf("%+v, want %v: %s", f, level, what)
		}
	}
	say := func(name, host string, ago, ended int) {
		clickhousetest.Exec(t, db.Writer, fmt.Sprintf("INSERT INTO collectors (seen_at, collector, instance, started_at, host, ended) SELECT now64(3) - %d, '%s', rand64(), now64(3), '%s', %d", ago, name, host, ended))
	}
	want(Warn, "none runs")
	say("a", "x, pid 1", 100, 0) // killed, and
	say("a", "x, pid 2", 0, 0)   // started again
	say("b", "y, pid 3", 0, 0)
	say("old", "z", 100_000, 0)
	say("stopped", "z", 60, 1)
	want(OK, "2 run: a, b")
	say("c", "w, pid 4", 60, 0)
	want(Warn, "c (w, pid 4, 6")
}

func TestClickHouseOutOfReach(t *testing.T) {
	db := clickhousetest.Start(t)
	tests := []struct{ url, says, fix string }{
		{"nonsense", "address of ClickHouse", "http://"},
		{"http://127.0.0.1:1", "refused", "host and port"},
		{address(db), "refuses the user", "GPUFLEET_CLICKHOUSE_PASSWORD"},
	}
	for _, tt := range tests {
		f := find(examine(t, Config{ClickHouse: tt.url, Password: "wrong"}), "clickhouse")
		if f.Level != Fail || !strings.Contains(f.Says, tt.says) || !strings.Contains(f.Fix, tt.fix) || strings.Contains(f.Says, "\n") {
			t.Errorf("%s: %+v", tt.url, f)
		}
	}
}

func TestRunningPipeline(t *testing.T) {
	dir := t.TempDir()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: clickhouseclient.EmbeddedDir(dir), MemoryLimitBytes: 1 << 30, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r := Run(t.Context(), Config{DataDir: dir, machine: healthy(t).machine})
	if find(r, "pipeline").Says != "runs in "+dir || find(r, "clickhouse").Level != OK || find(r, "tables").Level != Fail {
		t.Errorf("%+v", r.Findings)
	}
}

func TestCollector(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := collector.DefaultConfig()
	cfg.Listen, cfg.DataDir = "127.0.0.1:0", t.TempDir()
	cfg.Database = collector.Endpoint{Address: db.Writer.HTTPAddress(), User: db.Writer.User, Password: db.Writer.Password, Database: db.Name}
	listening := make(chan net.Addr, 1)
	cfg.OnListen = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- collector.Run(ctx, cfg) }()
	var where string
	select {
	case a := <-listening:
		where = a.String()
	case err := <-done:
		t.Fatal(err)
	}
	if f := find(examine(t, Config{Collector: where}), "collector"); f.Level != OK || f.Says != where+" answers" {
		t.Errorf("%+v", f)
	}
	_, port, err := net.SplitHostPort(where)
	if err != nil {
		t.Fatal(err)
	}
	named := examine(t, Config{Collector: where + ", dns:localhost:" + port})
	if answer := slices.DeleteFunc(named.Findings, func(f Finding) bool { return f.Check != "collector" || f.Level != OK }); len(answer) != 2 || answer[1].Says != "localhost:"+port+" answers" {
		t.Errorf("two names: %+v", answer)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if f := find(examine(t, Config{Collector: where}), "collector"); f.Level != Fail || !strings.Contains(f.Says, "refused") {
		t.Errorf("stopped: %+v", f)
	}
	if f := find(examine(t, Config{Collector: "nowhere"}), "collector"); f.Level != Fail || !strings.Contains(f.Says, "missing port") || !strings.Contains(f.Fix, "dns:name:4490") {
		t.Errorf("no port: %+v", f)
	}
}

func TestNoCollectorThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := grpc.NewServer()
	done := make(chan error, 1)
	go func() { done <- other.Serve(listener) }()
	f := find(examine(t, Config{Collector: listener.Addr().String()}), "collector")
	if f.Level != Fail || !strings.Contains(f.Says, "is no collector") {
		t.Errorf("%+v", f)
	}
	other.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
