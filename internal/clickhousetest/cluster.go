// SPDX-License-Identifier: Apache-2.0

package clickhousetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// shardsOfCluster is how many shards the cluster has that tests share.
const shardsOfCluster = 2

// Cluster is one test's own databases in the cluster that the tests of this program share: on every shard one of that name,
// and room for one of the shard's own (schema.LocalDatabase).
type Cluster struct {
	Name   string     // of the databases
	Named  string     // of the cluster
	Shards []Database // in their order
}

// StartCluster makes databases for this test in a cluster of two shards, and drops them at the end.
func StartCluster(t testing.TB) Cluster {
	t.Helper()
	shards, number, err := shared.getShards()
	if err != nil {
		t.Fatalf("clickhousetest: %v", err)
	}
	return newCluster(t, shards, databaseName(t.Name(), number))
}

// DedicatedCluster starts a cluster for this test alone, which may kill a shard, and stops it at the end.
func DedicatedCluster(t testing.TB, shards int) (Cluster, *embedded.Shards) {
	t.Helper()
	if !shared.mainRuns() {
		t.Fatal("clickhousetest: " + noMain)
	}
	servers, err := embedded.StartShards(t.Context(), config(filepath.Join(t.TempDir(), "clickhouse")), shards)
	if err != nil {
		t.Fatalf("clickhousetest: %v", err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Errorf("clickhousetest: %v", err)
		}
	})
	c := Cluster{Name: embedded.Database, Named: embedded.ClusterName}
	for _, s := range servers.Servers() {
		c.Shards = append(c.Shards, Database{Name: c.Name, Writer: s.Writer(), Reader: s.Reader()})
	}
	return c, servers
}

func newCluster(t testing.TB, shards *embedded.Shards, name string) Cluster {
	t.Helper()
	c := Cluster{Name: name, Named: embedded.ClusterName}
	for _, s := range shards.Servers() {
		db := Database{Name: name, Writer: s.Writer(), Reader: s.Reader()}
		Exec(t, db.Writer, "CREATE DATABASE "+name)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own context is over
			defer cancel()
			for _, database := range []string{name, name + "_local"} {
				if _, err := s.Writer().Ask(ctx, "DROP DATABASE IF EXISTS "+database+" SYNC"); err != nil {
					t.Errorf("clickhousetest: drop database %s: %v", database, err)
				}
			}
		})
		db.Writer.Database, db.Reader.Database = name, name
		c.Shards = append(c.Shards, db)
	}
	return c
}

// getShards returns the cluster, starting it on the first call, and the number of the caller's databases.
func (s *sharedServer) getShards() (*embedded.Shards, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasMain {
		return nil, 0, errors.New(noMain)
	}
	if s.shards == nil && s.shardsErr == nil {
		if s.shardsDir, s.shardsErr = os.MkdirTemp("", "clickhousetest-"); s.shardsErr == nil {
			// The cluster outlives the test that happens to come first, and so its context.
			s.shards, s.shardsErr = embedded.StartShards(context.Background(), config(filepath.Join(s.shardsDir, "clickhouse")), shardsOfCluster)
		}
	}
	s.databases++
	return s.shards, s.databases, s.shardsErr
}

func (s *sharedServer) stopShardsLocked() (err error) {
	if s.shards != nil {
		err = s.shards.Close()
	}
	if s.shardsDir != "" {
		err = errors.Join(err, os.RemoveAll(s.shardsDir))
	}
	return err
}
