// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
)

// Store is what ClickHouse has of the latest time.
type Store struct {
	Version       string   `json:"version" ch:"version"`
	Nodes         uint64   `json:"nodes" ch:"nodes"` // that give rows
	GPUs          uint64   `json:"gpus" ch:"gpus"`   // that give rows, MIG instances included
	Silent        uint64   `json:"silent_gpus" ch:"silent"`
	RowsPerSecond float64  `json:"rows_per_second" ch:"rows_per_second"` // of gpu_samples, over the seconds that have arrived whole
	AgeSeconds    *float64 `json:"age_seconds" ch:"age"`                 // of the newest row of the stalest GPU but the last hundredth; nil if none gives rows
	Quarantined   uint64   `json:"quarantined_batches" ch:"quarantined"` // recorded within the last hour
}

// Seconds of gpu_samples that are looked at, and of those the youngest, of which some may still be on their way.
const (
	window = 60
	onWay  = 15
)

// storeQuery reads the latest parts alone: parts are left out by the times that they hold. What is silent fleet_silent says.
const storeQuery = `
WITH latest AS (
    SELECT gpu_id, any(node_id) AS node, max(ts) AS newest, countIf(ts <= now64(3) - toIntervalSecond({on_way:UInt32})) AS whole
    FROM gpu_samples WHERE ts > now64(3) - toIntervalSecond({window:UInt32}) GROUP BY gpu_id)
SELECT version() AS version, uniqExact(node) AS nodes, count() AS gpus,
    (SELECT uniqExact(gpu_id) FROM fleet_silent) AS silent,
    sum(whole) / ({window:UInt32} - {on_way:UInt32}) AS rows_per_second,
    if(count() = 0, NULL, toFloat64(now64(3)) - toFloat64(quantileExact(0.01)(newest))) AS age,
    (SELECT count() FROM ingest_ledger WHERE recorded_at > now64(3) - INTERVAL 1 HOUR AND state = 'quarantined') AS quarantined
FROM latest`

// ask asks ClickHouse.
func ask(ctx context.Context, conn *clickhouseclient.Connection) (Store, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"window": strconv.Itoa(window), "on_way": strconv.Itoa(onWay)}))
	var s Store
	if err := conn.QueryRow(ctx, storeQuery).ScanStruct(&s); err != nil {
		return Store{}, fmt.Errorf("ask ClickHouse %s: %w", conn.Endpoint, query.Explain(conn.Endpoint.Explain(err), ""))
	}
	return s, nil
}
