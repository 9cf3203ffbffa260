// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// database asks ClickHouse as the reader.
type database struct{ driver.Conn }

// place is a line of the live table.
type place struct {
	Provider   string   `ch:"provider"`
	Region     string   `ch:"region"`
	GPUs       uint64   `ch:"gpus"`    // that give rows
	Silent     uint64   `ch:"silent"`  // that gave some in this run, and give none now
	Busy       *float64 `ch:"busy"`    // mean share of time in which a kernel ran, of the GPUs that say so
	PowerWatts *float64 `ch:"power"`   // of the GPUs that say so, together
	Margin     *int16   `ch:"margin"`  // °C, of the hottest GPU
	Faults     uint64   `ch:"faults"`  // events in the last ten minutes
	RowsPerSec float64  `ch:"rows"`    // of gpu_samples, over the seconds that have arrived whole
	Freshness  *float64 `ch:"seconds"` // age of the newest row of the stalest GPU but the last hundredth; nil if none gives rows
}

const viewQuery = `
WITH {window:UInt32} AS window, {lag:UInt32} AS lag,
latest AS (
    SELECT gpu_id, any(node_id) AS node_id, argMax(gpu_utilization_permille, ts) AS utilization,
        argMax(coalesce(power_average_watts, power_instant_watts), ts) AS power, argMax(temperature_margin_celsius, ts) AS margin,
        max(ts) AS newest, countIf(ts <= now64(3) - toIntervalSecond(lag)) AS samples
    FROM gpu_samples WHERE ts > now64(3) - toIntervalSecond(window) AND epoch >= {epoch:UInt64} GROUP BY gpu_id),
nodes AS (
    SELECT node_id, argMax(provider, ts) AS node_provider, argMax(region, ts) AS node_region FROM node_inventory GROUP BY node_id),
events AS (
    SELECT node_id, count() AS faults FROM gpu_events
    WHERE ts > now64(3) - INTERVAL 10 MINUTE AND epoch >= {epoch:UInt64}
      AND kind IN ('xid', 'gpu_lost', 'gpu_stuck', 'ecc_double_bit', 'dram_retired', 'dram_retirement_failed', 'gpu_unavailable')
    GROUP BY node_id),
expected AS (
    SELECT node_id, uniqExact(gpu_id) AS node_expected FROM gpu_current FINAL WHERE epoch >= {epoch:UInt64} GROUP BY node_id),
by_node AS (
    SELECT node_id, count() AS node_gpus, sum(utilization) AS node_utilization, count(utilization) AS node_known, sum(power) AS node_power, min(margin) AS node_margin,
        sum(samples) AS node_samples, groupArray(newest) AS ages
    FROM latest GROUP BY node_id)
SELECT ifNull(node_provider, 'unknown') AS provider, ifNull(node_region, '') AS region, sum(node_gpus) AS gpus, toUInt64(sum(greatest(node_expected, node_gpus) - node_gpus)) AS silent,
    if(sum(node_known) = 0, NULL, sum(node_utilization) / sum(node_known) / 1000) AS busy, toFloat64(sum(node_power)) AS power, min(node_margin) AS margin,
    sum(faults) AS faults, sum(node_samples) / (window - lag) AS rows,
    if(sum(node_gpus) = 0, NULL, toFloat64(now64(3)) - toFloat64(quantileExactArray(0.01)(ages))) AS seconds
FROM by_node FULL JOIN expected USING node_id LEFT JOIN nodes USING node_id LEFT JOIN events USING node_id
GROUP BY provider, region ORDER BY provider, region`

// view asks for the live table of a run: what an earlier one left in the same database is none of its own. The window is
// long enough to hold the newest batch of every agent.
func (d *database) view(ctx context.Context, started time.Time, flush time.Duration) ([]place, error) {
	lag := int((flush + 2*time.Second).Seconds()) // what is younger may still be on its way
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"window": strconv.Itoa(lag + 10), "lag": strconv.Itoa(lag), "epoch": epochFrom(started),
	}))
	var places []place
	if err := d.Select(ctx, &places, viewQuery); err != nil {
		return nil, fmt.Errorf("ask for the live table: %w", err)
	}
	return places, nil
}
