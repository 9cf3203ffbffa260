// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// TestEveryMetricIsRolledUp holds that what a second has, a minute and an hour have.
func TestEveryMetricIsRolledUp(t *testing.T) {
	for _, m := range schema.Metrics() {
		columns := m.RollupColumns()
		if _, ok := m.SamplesColumn(); ok != (len(columns) > 0) {
			t.Errorf("%s has %d columns in the rollups", m.Name, len(columns))
		}
		for _, c := range columns {
			if c.Type == schema.Float64 {
				t.Errorf("%s is a floating number: a sum of these depends on their order", c.Name)
			}
		}
		if m.Kind == schema.State && len(columns) > 0 && m.Name != "clocks_event_reasons" {
			t.Errorf("%s is a state: bits are named for clocks_event_reasons alone", m.Name)
		}
	}
	sketches := slices.DeleteFunc(schema.Metrics(), func(m schema.Metric) bool { return !m.Sketch })
	if len(sketches) < 4 || len(sketches) > 6 {
		t.Errorf("%d metrics have sketches, want 4 to 6: each is as large as four other metrics", len(sketches))
	}
	minutes, hours := schema.Rollups()[0], schema.Rollups()[1]
	for i, c := range minutes.Table.Columns[1:] {
		if h := hours.Table.Columns[i+1]; h.Name != c.Name || h.Type != c.Type {
			t.Errorf("column %d is %s in minutes, %s in hours", i, c.Name, h.Name)
		}
	}
}

// rollUp makes both rollups of all samples.
func (f fleet) rollUp(t *testing.T) {
	t.Helper()
	from := "gpu_samples"
	for i, r := range schema.Rollups() {
		f.exec(t, fmt.Sprintf("INSERT INTO %s (%s) %s", r.Name, r.Names(), r.Query(schema.RollupSource{From: from, Where: "true", Generation: "0", Finer: i > 0})))
		from = r.Name + " FINAL"
	}
}

// TestRollupOfFewSamples says by hand what a minute and an hour have of some samples.
func TestRollupOfFewSamples(t *testing.T) {
	f := newFleet(t)
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, interval_milliseconds, counter_epoch, quality, gpu_utilization_permille, temperature_margin_celsius,
    power_min_watts, power_mean_watts, power_max_watts, energy_millijoules_delta, clocks_event_reasons, sm_active_permille) VALUES
    ('2026-11-20 10:00:01.5', 1, 7, 5, 1, NULL, 0, 1, 100, -5, 50, 60, 70, NULL, NULL, NULL),
    ('2026-11-20 10:00:59.9', 1, 7, 5, 2, 1000, 0, 8, 300, 3, 40, 61, 65, 600000, 0x24, NULL),
    ('2026-11-20 10:00:30.0', 1, 8, 5, 1, 500, 1, 0, NULL, NULL, NULL, NULL, NULL, 700, 0x20, NULL),
    ('2026-11-20 10:01:00.0', 1, 9, 5, 3, 1000, 1, 0, 800, NULL, 90, 95, 99, 1, 0, NULL),
    ('2026-11-20 11:00:00.0', 1, 9, 5, 4, 1000, 1, 0, 1000, NULL, 90, 95, 99, 1, 0, NULL)`)
	f.rollUp(t)
	const columns = `SELECT ts, node_id, version, rows, covered_milliseconds, counter_epoch_min, counter_epoch_max, quality_any,
    gpu_utilization_permille_sum, gpu_utilization_readings, gpu_utilization_permille_min, gpu_utilization_permille_max, temperature_margin_celsius_sum, temperature_margin_celsius_min,
    power_min_watts, power_mean_watts_sum, power_mean_readings, power_max_watts, energy_millijoules_delta_sum, clocks_event_reasons_any, clocks_event_reasons_readings,
    clocks_event_software_thermal_readings, clocks_event_software_power_cap_readings, sm_active_permille_sum, sm_active_readings, memory_used_bytes_max FROM `
	f.want(t, columns+"gpu_samples_1m FINAL ORDER BY ts", strings.Join([]string{
		"2026-11-20 10:00:00\t7\t3\t3\t1500\t0\t1\t9\t400\t2\t100\t300\t-2\t-5\t40\t121\t2\t70\t600700\t36\t2\t2\t1\t\\N\t0\t\\N",
		"2026-11-20 10:01:00\t9\t1\t1\t1000\t1\t1\t0\t800\t1\t800\t800\t\\N\t\\N\t90\t95\t1\t99\t1\t0\t1\t0\t0\t\\N\t0\t\\N",
		"2026-11-20 11:00:00\t9\t1\t1\t1000\t1\t1\t0\t1000\t1\t1000\t1000\t\\N\t\\N\t90\t95\t1\t99\t1\t0\t1\t0\t0\t\\N\t0\t\\N",
	}, "\n"))
	f.want(t, columns+"gpu_samples_1h FINAL ORDER BY ts", strings.Join([]string{
		"2026-11-20 10:00:00\t9\t4\t4\t2500\t0\t1\t9\t1200\t3\t100\t800\t-2\t-5\t40\t216\t3\t99\t600701\t36\t3\t2\t1\t\\N\t0\t\\N",
		"2026-11-20 11:00:00\t9\t1\t1\t1000\t1\t1\t0\t1000\t1\t1000\t1000\t\\N\t\\N\t90\t95\t1\t99\t1\t0\t1\t0\t0\t\\N\t0\t\\N",
	}, "\n"))
	f.exec(t, "INSERT INTO rollup_progress (ts, built_until) VALUES ('2026-11-20 11:00:00', '2026-11-20 12:00:00')")
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, node_name, provider) VALUES ('2026-11-20 11:00:00', 9, 5, 1, 'anna', 'aws')")
	f.want(t, `SELECT ts, node_name, provider, made_of, samples, covered_seconds, counters_reset, gpu_utilization_ratio_avg, gpu_utilization_ratio_min, gpu_utilization_ratio_max, gpu_utilization_readings,
    round(gpu_utilization_ratio_p50, 2), energy_joules, power_mean_watts, power_max_watts, clocks_event_software_thermal_seconds, sm_active_ratio_avg, sm_active_ratio_p95 FROM fleet_hours ORDER BY ts`,
		strings.Join([]string{
			"2026-11-20 10:00:00\tanna\taws\trollup\t4\t2.5\t1\t0.4\t0.1\t0.8\t3\t0.3\t600.701\t72\t99\t1.6666666666666665\t\\N\t\\N",
			"2026-11-20 11:00:00\tanna\taws\trollup\t1\t1\t0\t1\t1\t1\t1\t1\t0.001\t95\t99\t0\t\\N\t\\N",
		}, "\n"))
}

// TestRollupsAreFoundByTheIndex holds that a panel reads of a view what it asks for, and not all of the table.
func TestRollupsAreFoundByTheIndex(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "INSERT INTO gpu_samples_1m (ts, gpu_id, version, rows) SELECT toDateTime('2026-11-20 00:00:00', 'UTC') + 60 * (number % 1440), intDiv(number, 1440) * 1000, 60, 60 FROM numbers(144000)")
	f.exec(t, "INSERT INTO rollup_progress (ts, built_until) VALUES ('2026-11-20 23:00:00', '2026-11-21 00:00:00')")
	for _, tt := range []struct{ where, rows string }{
		{"ts >= '2026-11-20 10:30:00' AND ts < '2026-11-20 10:45:00'", "1500"},
		{"gpu_id = 5000 AND ts >= '2026-11-20 00:00:00' AND ts < '2026-11-21 00:00:00'", "1440"},
	} {
		f.want(t, "SELECT count() FROM fleet_minutes WHERE "+tt.where, tt.rows)
		plan := f.query(t, "EXPLAIN indexes = 1 SELECT sum(samples) FROM fleet_minutes WHERE "+tt.where)
		if !strings.Contains(plan, "toStartOfHour(ts) in") {
			t.Errorf("%s does not use the index:\n%s", tt.where, strings.ReplaceAll(plan, "\\n", "\n"))
		}
	}
}

// TestRollupsOfACluster has two shards that have rolled up to different minutes: each sample is in one row, and a GPU that
// went from one to the other has a row of each.
func TestRollupsOfACluster(t *testing.T) {
	f := newClusterFleet(t)
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES
    ('2026-11-20 10:00:10', 1, 2, 5, 1), ('2026-11-20 10:00:20', 1, 3, 5, 1), ('2026-11-20 10:01:00', 1, 3, 5, 2), ('2026-11-20 10:01:10', 2, 2, 5, 2), ('2026-11-20 10:02:00', 2, 2, 5, 3)`)
	minutes := schema.Rollups()[0]
	for i, until := range []string{"2026-11-20 10:02:00", "2026-11-20 10:01:00"} {
		shard := f.cluster.Shards[i]
		local := schema.LocalDatabase(f.Name) + "."
		clickhousetest.Exec(t, shard.Writer, fmt.Sprintf("INSERT INTO %s%s (%s) %s", local, minutes.Name, minutes.Names(),
			minutes.Query(schema.RollupSource{From: local + "gpu_samples", Where: "ts < '" + until + "'", Generation: "0"})))
		clickhousetest.Exec(t, shard.Writer, "INSERT INTO "+local+"rollup_progress (ts, built_until) VALUES ('2026-11-20 10:00:00', '"+until+"')")
		f.want(t, "SELECT sum(samples) FROM fleet_minutes", "5") // also while the other shard has no rollups at all
	}
	f.want(t, "SELECT gpu_id, ts, node_id, samples, made_of FROM fleet_minutes ORDER BY gpu_id, ts, node_id", strings.Join([]string{
		"1\t2026-11-20 10:00:00\t2\t1\trollup", "1\t2026-11-20 10:00:00\t3\t1\trollup", "1\t2026-11-20 10:01:00\t3\t1\tsamples",
		"2\t2026-11-20 10:01:00\t2\t1\tsamples", "2\t2026-11-20 10:02:00\t2\t1\tsamples",
	}, "\n"))
	f.want(t, "SELECT sum(samples) FROM fleet_hours", "5")
	f.want(t, "SELECT shard, built_until FROM rollup_status ORDER BY shard", "1\t2026-11-20 10:02:00\n2\t2026-11-20 10:01:00")
}

// TestNamesAreOfTheRowsOwnTenant: of a GPU that two tenants say is theirs each row has the names that its own tenant gave, and
// says whose it is: a sum over one tenant's rows has nothing of the other's.
func TestNamesAreOfTheRowsOwnTenant(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, node_name, tenant, residency) VALUES (10, 7, 5, 1, 'anna', 'acme', 'eu'), (20, 7, 5, 1, 'taken', 'globex', 'eu')")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid, model, tenant, residency) VALUES (10, 1, 7, 5, 1, 'GPU-1', 'H100', 'acme', 'eu'), (20, 1, 7, 5, 1, 'GPU-1', 'taken', 'globex', 'eu'), (5, 1, 7, 4, 1, 'GPU-1', 'older', 'acme', 'eu')")
	for _, tenant := range []string{"acme", "globex", "third"} {
		f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, tenant, residency) VALUES (toStartOfHour(now64(3)) - 3600, 1, 7, 5, 1, '"+tenant+"', 'eu'), (now64(3), 1, 7, 5, 1, '"+tenant+"', 'eu')")
		f.exec(t, "INSERT INTO gpu_health (ts, gpu_id, node_id, epoch, seq, tenant, residency) VALUES (now64(3), 1, 7, 5, 1, '"+tenant+"', 'eu')")
		f.exec(t, "INSERT INTO gpu_events (ts, gpu_id, node_id, epoch, seq, kind, tenant, residency) VALUES (now64(3), 1, 7, 5, 1, 'xid', '"+tenant+"', 'eu')")
	}
	f.rollUp(t)
	f.exec(t, "INSERT INTO rollup_progress (ts, built_until) SELECT toStartOfHour(now()) - 3600, toStartOfHour(now())")
	for _, view := range []string{"fleet_samples", "fleet_health", "fleet_events", "fleet_minutes", "fleet_hours"} {
		f.want(t, "SELECT DISTINCT tenant, residency, node_name, model FROM "+view+" ORDER BY tenant", "acme\teu\tanna\tH100\nglobex\teu\ttaken\ttaken\nthird\teu\t\\N\t\\N")
	}
}
