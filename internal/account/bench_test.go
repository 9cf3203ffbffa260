// SPDX-License-Identifier: Apache-2.0

package account

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// BenchmarkMonth asks the account of 100,000 GPUs over 30 days: 12,500 nodes with two and a half rows an hour.
func BenchmarkMonth(b *testing.B) {
	const perHour = 31_250
	f := newFleet(b)
	from := f.ten/second - 30*24*3600
	for d := range 30 {
		f.exec(`INSERT INTO account_hours (ts, version, node_id, tenant, node_name, provider, region, zone_id, instance_type, life_cycle, cluster, gpu_model, owner_kind, team, deployment, workload_model, split,
    price_per_gpu_hour, currency, basis, priced_as, inventory_milliseconds, productive_milliseconds, allocated_idle_milliseconds, unhealthy_milliseconds, unallocated_milliseconds, undelivered_milliseconds, energy_millijoules)
SELECT toDateTime(%d, 'UTC') + 3600 * intDiv(number, %[2]d) AS h, toUnixTimestamp(h), intDiv(number %% %[2]d * 2, 5) AS node, 'acme', concat('node-', toString(node)), ['aws', 'azure', 'gcp', 'oci'][node %% 4 + 1], toString(node %% 20), toString(node %% 60), 'p5.48xlarge',
    'reserved', toString(node %% 30), 'NVIDIA H100 80GB HBM3', 'kubernetes', toString(cityHash64(node, number) %% 400 %% 40), toString(cityHash64(node, number) %% 400 AS d), toString(d %% 60), 'whole',
    toDecimal64(3 + node %% 7, 9), 'USD', 'contracted', 'reserved', 11520000 AS i, intDiv(i * (cityHash64(number) %% 100), 100) AS p, intDiv(i - p, 2) AS idle, 0, i - p - idle, 0, 42000000 * 3
FROM numbers(%[3]d) SETTINGS max_insert_block_size = 800000`, from+int64(d)*24*3600, perHour, 24*perHour)
	}
	f.exec("INSERT INTO account_builds (ts, version, rows, recorded_at) SELECT toDateTime(%d, 'UTC') + 3600 * number AS h, toUnixTimestamp(h), %d, now64(3) FROM numbers(720)", from, perHour)
	begin := time.Unix(from, 0).UTC().Format("2006-01-02")
	for name, query := range map[string]string{
		"provider":   "SELECT provider, sum(inventory_cost), sum(productive_cost) FROM fleet_cost_by_provider WHERE day >= '%s' GROUP BY provider",
		"team":       "SELECT team, sum(inventory_cost), sum(allocated_idle_cost) FROM fleet_cost_by_team WHERE day >= '%s' GROUP BY team",
		"deployment": "SELECT deployment, sum(inventory_cost), sum(productive_cost) FROM fleet_cost_by_deployment WHERE day >= '%s' GROUP BY deployment",
		"waterfall":  "SELECT provider, sum(compute_cost), sum(with_idle_cost), sum(fully_loaded_cost) FROM fleet_waterfall WHERE day >= '%s' GROUP BY provider",
		"capacity":   "SELECT ts, sum(paid_gpus), sum(healthy_gpus), sum(in_use_gpus) FROM fleet_capacity WHERE ts >= '%s' GROUP BY ts FORMAT Null",
		"idle":       "SELECT team, node_name, sum(allocated_idle_cost) AS cost FROM fleet_idle WHERE day >= '%s' GROUP BY team, node_name ORDER BY cost DESC LIMIT 20",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				clickhousetest.Query(b, f.db.Writer, fmt.Sprintf(query, begin))
			}
		})
	}
	b.Log("disk: " + clickhousetest.Query(b, f.db.Writer, "SELECT formatReadableSize(sum(bytes_on_disk)), sum(rows) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'account_hours'"))
}
