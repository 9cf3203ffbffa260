// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// clusterConfig is a collector of a cluster. The ways to the shards may be others than their own addresses.
func clusterConfig(t *testing.T, c clickhousetest.Cluster, ways ...string) collector.Config {
	t.Helper()
	first := c.Shards[0].Writer
	first.Database = c.Name
	cfg := collectorConfig(t, first)
	cfg.Cluster.Name = c.Named
	for i, s := range c.Shards {
		way := s.Writer.HTTPAddress()
		if i < len(ways) {
			way = ways[i]
		}
		cfg.Cluster.Shards = append(cfg.Cluster.Shards, []string{way})
	}
	return cfg
}

// TestCluster: the rows of a node are all on its shard, and what is asked of the cluster has them all.
func TestCluster(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	address, stop := startCollector(t, clusterConfig(t, c))
	f := startFleet(t, fleetConfig{nodes: 20, seed: 1, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond})
	f.await("3,000 rows", func(s agent.Stats) bool { return s.Rows >= 3000 })
	for _, s := range c.Shards {
		f.wantExactlyOnce(s.Reader)
	}
	for i, s := range c.Shards {
		answer := clickhousetest.Query(t, s.Writer, fmt.Sprintf("SELECT count() > 0, uniqExact(node_id %% 2), any(node_id %% 2) FROM %s_local.gpu_samples", c.Name))
		if want := fmt.Sprintf("1\t1\t%d", i); answer != want {
			t.Errorf("shard %d has rows, kinds of nodes, which: %q, want %q", i+1, answer, want)
		}
	}
	stop()
}
