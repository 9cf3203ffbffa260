// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"strings"
	"testing"
)

// TestBills has two machines of AWS, one of them known, one of Azure by its name, and one of Google, whose bill counts
// GPU-hours. The arithmetic is in the margin.
func TestBills(t *testing.T) {
	f := newFleet(t)
	f.exec(t, `INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, provider, region, zone_id, instance_type, life_cycle, instance_id, gpu_count) VALUES
		(now64(3), 1, 1, 1, 1, 'n1', 'aws', 'us-east-1', 'use1-az4', 'p5.48xlarge', 'reserved', 'i-1', 8), (now64(3), 2, 1, 1, 1, 'VM-two', 'azure', 'eastus', NULL, 'Standard_ND96isr_H100_v5', NULL, 'some-guid', 8)`)
	f.exec(t, `INSERT INTO prices (provider, instance_type, region, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour) VALUES
		('aws', 'p5.48xlarge', 'us-east-1', 'on_demand', 'list', 'USD', '2026-01-01', 55.04, 6.88), ('aws', 'p5.48xlarge', 'us-east-1', 'on_demand', 'list', 'USD', '2026-10-01 12:00:00', 48, 6),
		('aws', 'p5.48xlarge', 'us-east-1', 'spot', 'list', 'USD', '2026-01-01', 16, 2), ('azure', 'standard_nd96isr_h100_v5', '', 'on_demand', 'contracted', 'EUR', '2026-01-01', 80, 10),
		('gcp', 'a3-highgpu-8g', '', 'on_demand', 'list', 'USD', '2026-01-01', 80, 10)`)
	const columns = "INSERT INTO bills (import_id, provider, billing_account_id, billing_period_start, charge_period_start, charge_period_end, currency, instance_id, instance_type, gpus, region, pricing_category, of_machine, machine_hours, gpu_hours, cost, billed_cost) VALUES "
	f.exec(t, columns+`
		(1, 'aws', 'a', '2026-10-01', '2026-10-01', '2026-10-01 01:00:00', 'USD', 'i-1', NULL, NULL, 'us-east-1', 'Standard', 1, 1, NULL, 999, 999),
		(2, 'aws', 'a', '2026-10-01', '2026-10-01', '2026-10-01 01:00:00', 'USD', 'i-1', NULL, NULL, 'us-east-1', 'Committed', 1, 1, NULL, 40, 0),
		(2, 'aws', 'a', '2026-10-01', '2026-10-01', '2026-10-01 01:00:00', 'USD', 'i-1', NULL, NULL, 'us-east-1', NULL, 1, -0.5, NULL, -20, -20),
		(2, 'aws', 'a', '2026-10-01', '2026-10-01', '2026-10-01 01:00:00', 'USD', 'i-1', NULL, NULL, 'us-east-1', 'Standard', 0, NULL, NULL, 7, 7),
		(2, 'aws', 'a', '2026-10-01', '2026-10-01 13:00:00', '2026-10-01 14:00:00', 'USD', 'i-1', NULL, NULL, 'us-east-1', 'Standard', 1, 1, NULL, 60, 60),
		(2, 'aws', 'a', '2026-10-01', '2026-10-02', '2026-10-02 01:00:00', 'USD', 'i-9', 'p5.48xlarge', 8, 'us-east-1', 'Dynamic', 1, 1, NULL, 15.000000000000000003, 15),
		(2, 'aws', 'a', '2026-10-01', '2026-10-02', '2026-10-02 01:00:00', 'USD', 'i-8', NULL, NULL, 'us-east-1', 'Standard', 1, 1, NULL, 3, 3),
		(3, 'azure', 'b', '2026-10-01', '2026-10-01', '2026-10-02', 'EUR', 'vm-two', NULL, NULL, NULL, 'Standard', 1, 24, NULL, 1900, 1900),
		(4, 'gcp', 'c', '2026-10-01', '2026-10-01', '2026-10-02', 'USD', '77', 'a3-highgpu-8g', 8, 'us-east4', 'Standard', 1, NULL, 192, 1500, 1500),
		(4, 'gcp', 'c', '2026-10-01', '2026-10-01', '2026-10-02', 'USD', '77', NULL, NULL, 'us-east4', 'Standard', 1, NULL, NULL, 420, 420)`)
	f.exec(t, `INSERT INTO bill_imports (imported_at, import_id, provider, billing_account_id, billing_period_start) VALUES
		('2026-11-01', 1, 'aws', 'a', '2026-10-01'), ('2026-11-02', 2, 'aws', 'a', '2026-10-01'), ('2026-11-02', 3, 'azure', 'b', '2026-10-01'), ('2026-11-02', 4, 'gcp', 'c', '2026-10-01')`)
	f.want(t, "SELECT count(), countIf(import_id = 1) FROM fleet_bills", "9\t0")
	f.want(t, "SELECT instance_id, node_name, life_cycle, gpu_hours, cost, cost_per_gpu_hour, price_per_gpu_hour, price_basis, expected_cost FROM bill_machines ORDER BY provider, instance_id, charge_period_start", strings.Join([]string{
		"i-1\tn1\treserved\t4\t20\t5\t6.88\tlist\t27.52",                                   // (1 - 0.5) h × 8, the transfer is left out
		"i-1\tn1\treserved\t8\t60\t7.5\t6\tlist\t48",                                       // after the price has changed
		"i-8\t\\N\ton_demand\t\\N\t3\t\\N\t\\N\t\\N\t\\N",                                  // nobody says what it is
		"i-9\t\\N\tspot\t8\t15.000000000000000003\t1.875\t2\tlist\t16",                     // no agent
		"vm-two\tVM-two\ton_demand\t192\t1900\t9.895833333333333333\t10\tcontracted\t1920", // by the node's name
		"77\t\\N\ton_demand\t192\t1920\t10\t10\tlist\t1920",                                // 192 GPU-hours, told by the bill
	}, "\n"))
	f.want(t, "SELECT provider, currency, machines, unknown_machines, gpu_hours, cost, compared_gpu_hours, compared_cost, expected_cost, drift_percent FROM bill_drift ORDER BY provider", strings.Join([]string{
		"aws\tUSD\t3\t2\t20\t98.000000000000000003\t20\t95.000000000000000003\t91.52\t3.802", // 95 / 91.52
		"azure\tEUR\t1\t0\t192\t1900\t192\t1900\t1920\t-1.041",
		"gcp\tUSD\t1\t1\t192\t1920\t192\t1920\t1920\t0",
	}, "\n"))
}

func TestPriceFeeds(t *testing.T) {
	f := newFleet(t)
	f.exec(t, `INSERT INTO price_reads (read_at, source, format, outcome, prices, quarantined, detail) VALUES
		(now64(3) - 7200, 'https://a/x', 'aws', 'read', 12, 3, NULL), (now64(3) - 3600, 'https://a/x', 'aws', 'not_modified', NULL, NULL, NULL), (now64(3) - 60, 'https://a/x', 'aws', 'failed', NULL, NULL, 'no route'),
		(now64(3) - 60, 'https://b/x', 'oci', 'failed', NULL, NULL, 'no route'), (now64(3) - 60, 'c.csv', 'csv', 'failed', NULL, NULL, 'x'), (now64(3) - 30, 'c.csv', 'csv', 'read', 0, 1, NULL)`)
	f.want(t, "SELECT source, format, intDiv(age_seconds, 60), last_outcome, prices, quarantined, detail FROM price_feeds ORDER BY source",
		"c.csv\tcsv\t0\tread\t0\t1\t\\N\nhttps://a/x\taws\t60\tfailed\t12\t3\tno route\nhttps://b/x\toci\t\\N\tfailed\t\\N\t\\N\tno route")
}
