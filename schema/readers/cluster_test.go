// SPDX-License-Identifier: Apache-2.0

package readers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// newClusterWorld is a cluster of two shards, on each of which every scoped table has a row of each of two tenants. A
// query goes from one server to the other as the user who asks.
func newClusterWorld(t *testing.T, readers ...Reader) []*embedded.Server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "clickhouse")
	for i := range readers {
		readers[i].Cluster = true
	}
	text, err := XML(embedded.Database, readers...)
	if err != nil {
		t.Fatal(err)
	}
	for shard := 1; shard <= 2; shard++ {
		users := filepath.Join(embedded.ShardDir(dir, shard), "config", "users.d")
		if err := os.MkdirAll(users, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"readers.xml": string(text), "everything.xml": fmt.Sprintf(everything, hashOf(password))} {
			if err := os.WriteFile(filepath.Join(users, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	shards, err := embedded.StartShards(t.Context(), embedded.Config{Dir: dir, MemoryLimitBytes: 1 << 30, Threads: 2}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shards.Close(); err != nil {
			t.Error(err)
		}
	})
	for n, server := range shards.Servers() {
		local := schema.LocalDatabase(embedded.Database)
		clickhousetest.Exec(t, server.Writer(), "CREATE DATABASE IF NOT EXISTS "+local)
		for _, l := range []schema.Layout{schema.OfShard(embedded.Database, false), schema.OverShards(embedded.ClusterName, embedded.Database, nil)} {
			for _, statement := range l.Statements() {
				clickhousetest.Exec(t, server.Writer(), statement)
			}
		}
		for _, table := range scopedTables() {
			sql := fmt.Sprintf("INSERT INTO %s.%s (%s, tenant, residency, node_id) VALUES (now(), 'acme', 'eu', %d), (now(), 'globex', 'eu', %[4]d)", local, table, timeOf(table), 424240+n)
			clickhousetest.Exec(t, server.Writer(), sql)
		}
	}
	return shards.Servers()
}

// timeOf is the first column of a table.
func timeOf(name string) string {
	for _, t := range schema.StoredTables() {
		if t.Name == name {
			return t.Columns[0].Name
		}
	}
	return ""
}

// TestCluster: on a cluster a reader sees its rows of all shards, and no other, whichever server and database it asks.
func TestCluster(t *testing.T) {
	servers := newClusterWorld(t, reader("acme", []string{"acme"}, nil), reader("all_rows", nil, nil))
	ask := func(server *embedded.Server, user, sql string) (string, error) {
		e := server.Reader()
		e.User, e.Password = user, password
		return e.Ask(t.Context(), sql)
	}
	for n, server := range servers {
		for _, table := range scopedTables() {
			sql := "SELECT concat(arrayStringConcat(arraySort(groupUniqArray(tenant::String)), ','), ' ', toString(count())) FROM "
			for from, want := range map[string][2]string{"gpufleet." + table: {"acme 2", "acme,globex 4"}, "gpufleet_local." + table: {"acme 1", "acme,globex 2"}} {
				for i, user := range []string{"acme", "all_rows"} {
					if got, err := ask(server, user, sql+from+final(table)); err != nil || strings.TrimSpace(got) != want[i] {
						t.Errorf("server %d: %s sees %q in %s, want %q: %v", n+1, user, got, from, want[i], err)
					}
				}
			}
		}
		for _, sql := range []string{
			"SELECT * FROM cluster('" + embedded.ClusterName + "', gpufleet_local.gpu_events)",
			"SELECT * FROM clusterAllReplicas('" + embedded.ClusterName + "', gpufleet_local.gpu_events)",
			"SELECT * FROM gpufleet_local.ingest_ledger", "SELECT * FROM gpufleet.ingest_ledger", "SELECT * FROM gpufleet_local.shard_map",
		} {
			if got, err := ask(server, "acme", sql); err == nil || strings.Contains(got, "globex") {
				t.Errorf("server %d: %s: %.200q, %v", n+1, sql, got, err)
			}
		}
		for _, sql := range []string{"SELECT tenant FROM merge('gpufleet', '^gpu_events$')", "SELECT tenant FROM merge('gpufleet_local', '^gpu_events$')", "SELECT sum(total_rows) FROM system.tables WHERE database = 'gpufleet_local'"} {
			if got, err := ask(server, "acme", sql); err != nil || strings.Contains(got, "globex") || strings.Contains(sql, "total_rows") && strings.TrimSpace(got) != `\N` {
				t.Errorf("server %d: %s: %.200q, %v", n+1, sql, got, err)
			}
		}
	}
	for _, view := range scopedViews() {
		got, err := ask(servers[0], "acme", "SELECT * FROM gpufleet."+view)
		if err != nil || strings.Contains(got, "globex") {
			t.Errorf("%s: %.300q, %v", view, got, err)
		}
	}
}

// TestClusterNeedsASecret: ClickHouse holds no filter against a Distributed table itself, but against what it reads. Where one
// server asks another as a user of its own, and not as who asks (the cluster has no secret), a reader sees all rows. If this
// fails then ClickHouse does better, and docs/security.md need not say so any more.
func TestClusterNeedsASecret(t *testing.T) {
	w := newWorldFor(t, "over", reader("acme", []string{"acme"}, nil))
	w.tell()
	w.must("everything", "CREATE DATABASE over")
	w.must("everything", "CREATE TABLE over.gpu_events AS gpufleet.gpu_events ENGINE = Distributed(itself, gpufleet, gpu_events)")
	if answer := w.must("acme", "SELECT * FROM (SELECT message FROM over.gpu_events SETTINGS prefer_localhost_replica = 0)"); !strings.Contains(answer, secret) {
		t.Errorf("the reader sees %q", answer)
	}
}
