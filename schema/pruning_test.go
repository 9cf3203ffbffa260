// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// TestTheOtherShardIsNotAsked looks into the second shard's own log for what it was asked by the first.
func TestTheOtherShardIsNotAsked(t *testing.T) {
	f := newClusterFleet(t)
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) SELECT now64(3), number, number, 1, number FROM numbers(100)")
	local := "INSERT INTO " + f.Name + "_local.collectors (seen_at, collector, instance, started_at, host) VALUES (now64(3), 'c', 1, now64(3), 'h')"
	for _, s := range f.cluster.Shards { // a collector says on each shard that it runs
		clickhousetest.Exec(t, s.Writer, local)
	}
	tests := map[string]struct {
		query string
		rows  uint64
		asked bool
	}{
		"a node of the first shard":     {"SELECT count() FROM gpu_samples WHERE node_id = 2", 1, false},
		"a node of the second":          {"SELECT count() FROM gpu_samples WHERE node_id = 3", 1, true},
		"nodes of both":                 {"SELECT count() FROM gpu_samples WHERE node_id IN (2, 3)", 2, true},
		"a GPU, whose node nobody says": {"SELECT count() FROM gpu_samples WHERE gpu_id = 2", 1, true},
		"collectors":                    {"SELECT count() FROM collectors", 2, true},
		"collectors, some":              {"SELECT count() FROM collectors WHERE collector = 'c'", 2, true},
		"one node, and more conditions": {"SELECT count() FROM gpu_samples WHERE node_id = 2 AND epoch = 1", 1, false},
	}
	for name, tt := range tests {
		id := fmt.Sprintf("%s %s", f.Name, name)
		var rows uint64
		if err := f.connection.QueryRow(clickhouse.Context(t.Context(), clickhouse.WithQueryID(id)), tt.query).Scan(&rows); err != nil || rows != tt.rows {
			t.Errorf("%s: %d rows, want %d: %v", name, rows, tt.rows, err)
		}
		other := f.cluster.Shards[1].Writer
		clickhousetest.Exec(t, other, "SYSTEM FLUSH LOGS query_log")
		asked := clickhousetest.Query(t, other, "SELECT count() > 0 FROM system.query_log WHERE initial_query_id = '"+id+"'") == "1"
		if asked != tt.asked {
			t.Errorf("%s: the second shard was asked: %t, want %t", name, asked, tt.asked)
		}
	}
}
