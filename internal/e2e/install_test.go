// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

// grantOf finds the rights in deploy/clickhouse/collector.sql.
var grantOf = regexp.MustCompile(`(?m)^(GRANT [^;]+) TO gpufleet_collector;$`)

// TestACollectorNeedsTheseRights, which the installation gives it, and no more: one that makes its tables, stores, sets how
// long rows are kept and rolls up does it with them.
func TestACollectorNeedsTheseRights(t *testing.T) {
	text, err := os.ReadFile("../../deploy/clickhouse/collector.sql")
	if err != nil {
		t.Fatal(err)
	}
	grants := grantOf.FindAllStringSubmatch(string(text), -1)
	if want := strings.Count(string(text), "\nGRANT "); len(grants) != want || want == 0 {
		t.Fatalf("%d rights of %d are read", len(grants), want)
	}
	const password = "of a test"
	dir := t.TempDir()
	writeUser(t, dir, password, grants)
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, MemoryLimitBytes: 1 << 30, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	user := server.Writer()
	user.User, user.Password = "gpufleet_collector", password
	cfg := collectorConfig(t, user)
	cfg.Rollups = false // they would take their time
	cfg.Retention = []schema.Retention{{Table: "gpu_samples", Days: 30}}
	address, stop := startCollector(t, cfg)
	f := startFleet(t, fleetConfig{nodes: 2, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond})
	f.await("rows", func(s agent.Stats) bool { return s.BatchesStored >= 10 })
	f.wantExactlyOnce(server.Reader())
	stop()
	clickhousetest.Exec(t, user, "INSERT INTO gpu_samples (ts, gpu_id) SELECT now64(3) - INTERVAL 3 HOUR, 1")
	rollUp(t, user)
	if got := clickhousetest.Query(t, server.Reader(), "SELECT count() FROM gpu_samples_1h FINAL WHERE gpu_id = 1"); got != "1" {
		t.Errorf("%s hours were rolled up", got)
	}
	if ttl := clickhousetest.Query(t, server.Reader(), "SELECT create_table_query LIKE '%toIntervalDay(30)%' FROM system.tables WHERE name = 'gpu_samples' AND database = 'gpufleet'"); ttl != "1" {
		t.Error("how long rows are kept was not set")
	}
}

// rollUp does what a collector does beside storing, as a user.
func rollUp(t *testing.T, user embedded.Endpoint) {
	t.Helper()
	cfg := rollups.DefaultConfig()
	cfg.Database, cfg.Collector = user.Database, "e2e"
	builder, err := rollups.New(clickhousetest.Open(t, user), cfg)
	for more := err == nil; more; {
		more, err = builder.Pass(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// writeUser writes the user of a collector into the folder of an embedded ClickHouse, which knows no CREATE USER.
func writeUser(t *testing.T, dir, password string, grants [][]string) {
	t.Helper()
	type user struct {
		Hash     string   `xml:"password_sha256_hex"`
		Networks []string `xml:"networks>ip"`
		Profile  string   `xml:"profile"`
		Quota    string   `xml:"quota"`
		Grants   []string `xml:"grants>query"`
	}
	u := user{Hash: fmt.Sprintf("%x", sha256.Sum256([]byte(password))), Networks: []string{"127.0.0.1"}, Profile: "default", Quota: "default"}
	for _, g := range grants {
		u.Grants = append(u.Grants, g[1])
	}
	text, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"clickhouse"`
		User    user     `xml:"users>gpufleet_collector"`
	}{User: u})
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "config", "users.d")
	if err := os.MkdirAll(users, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(users, "collector.xml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}
