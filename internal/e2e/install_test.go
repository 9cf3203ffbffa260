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

// grantOf finds the rights in a file.
var grantOf = regexp.MustCompile(`(?m)^(GRANT [^;]+) TO gpufleet_collector;$`)

// TestACollectorNeedsTheseRights, which the installation gives it: one that makes its tables, stores, sets how long rows are
// kept and rolls up does it with them.
func TestACollectorNeedsTheseRights(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files  []string
		shards int
	}{
		"one server": {[]string{"collector.sql"}, 1},
		"a cluster":  {[]string{"collector.sql", "collector-cluster.sql"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collectWith(t, rights(t, c.files...), c.shards)
		})
	}
}

// rights reads files below deploy/clickhouse.
func rights(t *testing.T, files ...string) (grants []string) {
	t.Helper()
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "clickhouse", name))
		if err != nil {
			t.Fatal(err)
		}
		found := grantOf.FindAllStringSubmatch(string(text), -1)
		if want := strings.Count(string(text), "\nGRANT "); len(found) != want || want == 0 {
			t.Fatalf("%d rights of %d in %s are read", len(found), want, name)
		}
		for _, g := range found {
			grants = append(grants, g[1])
		}
	}
	return grants
}

// collectWith has a collector do all that it does as a user of such rights.
func collectWith(t *testing.T, grants []string, shards int) {
	t.Helper()
	const password = "of a test"
	dir := filepath.Join(t.TempDir(), "clickhouse")
	for n := range shards {
		writeUser(t, embedded.ShardDir(dir, n+1), password, grants)
	}
	servers, err := embedded.StartShards(t.Context(), embedded.Config{Dir: dir, MemoryLimitBytes: 1 << 30, Threads: 2}, shards)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	}()
	first := servers.Servers()[0]
	user, local := first.Writer(), first.Writer()
	user.User, user.Password = "gpufleet_collector", password
	cfg := collectorConfig(t, user)
	if shards > 1 {
		cfg.Cluster.Name, local.Database = embedded.ClusterName, schema.LocalDatabase(user.Database)
		for _, s := range servers.Servers() {
			clickhousetest.Exec(t, s.Writer(), "CREATE DATABASE "+local.Database)
			cfg.Cluster.Shards = append(cfg.Cluster.Shards, s.Writer().HTTPAddress())
		}
	}
	local.User, local.Password = user.User, user.Password
	cfg.Rollups = false // they would take their time
	cfg.Retention = []schema.Retention{{Table: "gpu_samples", Days: 30}}
	address, stop := startCollector(t, cfg)
	f := startFleet(t, fleetConfig{nodes: 2, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 400 * time.Millisecond})
	f.await("rows", func(s agent.Stats) bool { return s.BatchesStored >= 10 })
	f.wantExactlyOnce(first.Reader())
	stop()
	clickhousetest.Exec(t, local, "INSERT INTO gpu_samples (ts, gpu_id) SELECT now64(3) - INTERVAL 3 HOUR, 1")
	rollUp(t, local)
	if got := clickhousetest.Query(t, first.Reader(), "SELECT count() FROM gpu_samples_1h FINAL WHERE gpu_id = 1"); got != "1" {
		t.Errorf("%s hours were rolled up", got)
	}
	if ttl := clickhousetest.Query(t, first.Reader(), "SELECT create_table_query LIKE '%toIntervalDay(30)%' FROM system.tables WHERE name = 'gpu_samples' AND database = '"+local.Database+"'"); ttl != "1" {
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
func writeUser(t *testing.T, dir, password string, grants []string) {
	t.Helper()
	type user struct {
		Hash     string   `xml:"password_sha256_hex"`
		Networks []string `xml:"networks>ip"`
		Profile  string   `xml:"profile"`
		Quota    string   `xml:"quota"`
		Grants   []string `xml:"grants>query"`
	}
	u := user{Hash: fmt.Sprintf("%x", sha256.Sum256([]byte(password))), Networks: []string{"127.0.0.1"}, Profile: "default", Quota: "default", Grants: grants}
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
