// SPDX-License-Identifier: Apache-2.0

package clickhouseclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/schema"
)

// inEach asks each shard which one it is.
func inEach(t *testing.T, p Place) (databases []string, err error) {
	t.Helper()
	c, err := p.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	shards, err := c.Shards(t.Context())
	if again, second := c.Shards(t.Context()); (err == nil) != (second == nil) || len(again) != len(shards) {
		t.Errorf("asked again there are %d shards: %v, and at first %d: %v", len(again), second, len(shards), err)
	}
	for _, s := range shards {
		var name string
		var shard uint32
		if err := s.QueryRow(t.Context(), "SELECT currentDatabase(), any(shard) FROM shard_maps").Scan(&name, &shard); err != nil {
			t.Error(err)
		}
		databases = append(databases, fmt.Sprintf("%s %d", name, shard))
	}
	return databases, err
}

func apply(t *testing.T, database string, writers []embedded.Endpoint) {
	t.Helper()
	var shards []schema.Execer
	for _, w := range writers {
		shards = append(shards, clickhousetest.Open(t, w))
	}
	if _, _, err := (schema.ClusterMigration{Cluster: embedded.ClusterName, Database: database, By: "test"}).Migrate(t.Context(), shards); err != nil {
		t.Fatal(err)
	}
}

func TestShardsByURL(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	reader := c.Shards[0].Reader
	first, second := reader.HTTPAddress(), c.Shards[1].Reader.HTTPAddress()
	place := Place{URL: fmt.Sprintf("http://%s@%s/%s", reader.User, first, c.Name), Password: reader.Password, Shards: []string{first, second}}
	if got, err := inEach(t, place); err != nil || len(got) != 0 {
		t.Errorf("a database without tables has the shards %v: %v", got, err)
	}
	apply(t, c.Name, []embedded.Endpoint{c.Shards[0].Writer, c.Shards[1].Writer})
	if got, err := inEach(t, place); err != nil || !slices.Equal(got, []string{c.Name + "_local 1", c.Name + "_local 2"}) {
		t.Errorf("shards %v: %v", got, err)
	}
	for want, given := range map[string][]string{
		"is shard 2, and was given as shard 1": {second, first}, "2 shards, and 1 addresses": {first}, "shard 2: ": {first, "127.0.0.1:1"},
		"is shard 1, and was given as shard 2": nil, // all hosts are this one, and so all have its port
	} {
		place.Shards = given
		if _, err := inEach(t, place); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("shards %v: %v, want %q", given, err, want)
		}
	}
}

// TestShardsOfData asks the shards of a directory, while they run and when they do not.
func TestShardsOfData(t *testing.T) {
	place := Place{DataDir: t.TempDir()}
	servers, err := embedded.StartShards(t.Context(), embedded.Config{Dir: EmbeddedDir(place.DataDir), MemoryLimitBytes: 1 << 30, Threads: 2}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var writers []embedded.Endpoint
	for _, s := range servers.Servers() {
		writers = append(writers, s.Writer())
	}
	apply(t, embedded.Database, writers)
	want := []string{"gpufleet_local 1", "gpufleet_local 2"}
	if got, err := inEach(t, place); err != nil || !slices.Equal(got, want) {
		t.Errorf("of those that run: %v: %v", got, err)
	}
	if err := servers.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := inEach(t, place); err != nil || !slices.Equal(got, want) {
		t.Errorf("of those that were started: %v: %v", got, err)
	}
}
