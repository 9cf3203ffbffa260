// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// TestFormerShards: a life is asked for where its node was, unless it began long after, or the ledger there has forgotten.
func TestFormerShards(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	day := func(before int) time.Time { return now.AddDate(0, 0, -before) }
	tests := map[string]struct {
		ended []int // days ago, of the maps but the last
		epoch time.Time
		want  []int
	}{
		"one map":                     {nil, day(9), nil},
		"began before":                {[]int{3}, day(9), []int{0}},
		"began at once after":         {[]int{3}, day(3).Add(time.Hour), []int{0}},
		"began long after":            {[]int{3}, day(1), nil},
		"by a clock that was ahead":   {[]int{3}, day(-2), []int{0}},
		"forgotten":                   {[]int{31}, day(90), nil},
		"one of two is forgotten":     {[]int{31, 3}, day(90), []int{1}},
		"two, the newest asked first": {[]int{5, 3}, day(9), []int{1, 0}},
	}
	for name, tt := range tests {
		var maps []schema.ShardMap
		for i, weights := range [][]int{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}[2-len(tt.ended):] { // all nodes are on one shard
			m := schema.ShardMap{Number: uint32(i + 1), Weights: weights}
			if i > 0 {
				m.AppliedAt = day(tt.ended[i-1])
			}
			maps = append(maps, m)
		}
		want := slices.Clone(tt.want)
		if len(tt.ended) == 1 {
			for i := range want {
				want[i]++ // its first map is the second of the three
			}
		}
		if got := (topology{maps: maps}).former(7, uint64(tt.epoch.UnixMilli()), now); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestValidateCluster(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		says   string // "" if it is fine
	}{
		"a cluster":               {func(c *Config) { c.Cluster.Name = "fleet" }, ""},
		"shards":                  {func(c *Config) { c.Cluster = Cluster{Name: "fleet", Shards: []string{"127.0.0.1:1", "127.0.0.1:2"}} }, ""},
		"shards of nothing":       {func(c *Config) { c.Cluster.Shards = []string{"127.0.0.1:1"} }, "--clickhouse-cluster"},
		"replicas of nothing":     {func(c *Config) { c.Cluster.Replicated = true }, "--clickhouse-cluster"},
		"a shard without a port":  {func(c *Config) { c.Cluster = Cluster{Name: "fleet", Shards: []string{"ch"}} }, "ClickHouse address"},
		"a shard in plain text":   {func(c *Config) { c.Cluster = Cluster{Name: "fleet", Shards: []string{"ch.example:8123"}} }, "--clickhouse-plaintext"},
		"a shard without address": {func(c *Config) { c.Cluster = Cluster{Name: "fleet", Shards: []string{""}} }, "shard 1 has no address"},
		"too little memory": {func(c *Config) {
			c.Cluster, c.MaxMemoryBytes = Cluster{Name: "fleet", Shards: []string{"127.0.0.1:1", "127.0.0.1:2"}}, 40<<20
		}, "32 MiB for each"},
	} {
		cfg := DefaultConfig()
		cfg.Name = "c1"
		c.change(&cfg)
		err := cfg.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
