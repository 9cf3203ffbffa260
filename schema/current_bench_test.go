// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"testing"
)

// BenchmarkCurrentInventory asks for the model and node of every GPU, after two weeks of hourly
// observations of 20,000 GPUs: of all observations, and of gpu_current.
func BenchmarkCurrentInventory(b *testing.B) {
	const gpus, days = 20_000, 14
	f := newFleet(b)
	for day := range days {
		f.exec(b, fmt.Sprintf(`INSERT INTO gpu_inventory (ts, gpu_id, node_id, content_hash, gpu_uuid, gpu_index, model, pci_bus_id)
SELECT toDateTime64('2026-09-01 00:00:00', 3, 'UTC') + toIntervalDay(%d) + toIntervalHour(intDiv(number, %d)) AS ts, cityHash64(number %% %[2]d) AS gpu, intDiv(number %% %[2]d, 8), gpu,
    hex(gpu), number %% 8, 'NVIDIA H100 80GB HBM3', concat('0000:', toString(number %% 8), ':00.0')
FROM numbers(%[3]d) SETTINGS max_insert_threads = 1, async_insert = 0`, day, gpus, gpus*24))
	}
	f.exec(b, "OPTIMIZE TABLE gpu_inventory FINAL")
	queries := map[string]string{
		"from-all-observations": "SELECT argMax(model, ts), argMax(node_id, ts), argMax(gpu_uuid, ts), argMax(gpu_index, ts) FROM gpu_inventory GROUP BY gpu_id FORMAT Null",
		"from-gpu_current":      "SELECT model, node_id, gpu_uuid, gpu_index FROM gpu_current FINAL FORMAT Null",
	}
	for name, sql := range queries {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(f.milliseconds(b, sql), "best-ms")
			}
		})
	}
	b.ReportMetric(float64(f.diskBytes(b, "gpu_inventory"))/(gpus*days*24), "disk-B/row")
}
