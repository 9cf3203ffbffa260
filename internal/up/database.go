// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// database asks ClickHouse as the reader.
type database struct{ driver.Conn }

func connect(e embedded.Endpoint) (*database, error) {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{e.HTTPAddress()}, Protocol: clickhouse.HTTP, DialTimeout: 5 * time.Second,
		Auth: clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse %s: %w", e.HTTPAddress(), err)
	}
	return &database{conn}, nil
}

// place is a line of the live table.
type place struct {
	Provider   string  `ch:"provider"`
	Region     string  `ch:"region"`
	GPUs       uint64  `ch:"gpus"`
	Busy       float64 `ch:"busy"`    // mean share of time in which a kernel ran
	PowerWatts float64 `ch:"power"`   // all GPUs together
	Margin     *int16  `ch:"margin"`  // °C, of the hottest GPU
	Faults     uint64  `ch:"faults"`  // events in the last ten minutes
	RowsPerSec float64 `ch:"rows"`    // of gpu_samples
	Freshness  float64 `ch:"seconds"` // age of the newest row of the stalest GPU but the last hundredth
}

const viewQuery = `
WITH {window:UInt32} AS window,
latest AS (
    SELECT gpu_id, any(node_id) AS node_id, argMax(gpu_utilization_permille, ts) AS utilization,
        argMax(power_average_watts, ts) AS power, argMax(temperature_margin_celsius, ts) AS margin, max(ts) AS newest, count() AS samples
    FROM gpu_samples WHERE ts > now64(3) - toIntervalSecond(window) GROUP BY gpu_id),
nodes AS (
    SELECT node_id, argMax(provider, ts) AS node_provider, argMax(region, ts) AS node_region FROM node_inventory GROUP BY node_id),
events AS (
    SELECT node_id, count() AS faults FROM gpu_events
    WHERE ts > now64(3) - INTERVAL 10 MINUTE
      AND kind IN ('xid', 'gpu_lost', 'gpu_stuck', 'ecc_double_bit', 'dram_retired', 'dram_retirement_failed', 'gpu_unavailable')
    GROUP BY node_id),
by_node AS (
    SELECT node_id, count() AS node_gpus, sum(utilization) AS node_utilization, sum(power) AS node_power, min(margin) AS node_margin,
        sum(samples) AS node_samples, groupArray(newest) AS ages
    FROM latest GROUP BY node_id)
SELECT ifNull(node_provider, 'unknown') AS provider, ifNull(node_region, '') AS region, sum(node_gpus) AS gpus,
    ifNull(sum(node_utilization) / sum(node_gpus) / 1000, 0) AS busy, toFloat64(ifNull(sum(node_power), 0)) AS power, min(node_margin) AS margin,
    sum(faults) AS faults, sum(node_samples) / window AS rows,
    toFloat64(now64(3)) - toFloat64(quantileExactArray(0.01)(ages)) AS seconds
FROM by_node LEFT JOIN nodes USING node_id LEFT JOIN events USING node_id
GROUP BY provider, region ORDER BY provider, region`

// view asks for the live table. The window is long enough to hold the newest batch of every agent.
func (d *database) view(ctx context.Context, flush time.Duration) ([]place, error) {
	window := int((flush + 8*time.Second).Seconds())
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"window": strconv.Itoa(window)}))
	var places []place
	if err := d.Select(ctx, &places, viewQuery); err != nil {
		return nil, fmt.Errorf("ask for the live table: %w", err)
	}
	return places, nil
}
