// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
)

func TestEveryViewAnswers(t *testing.T) {
	f := newFleet(t)
	for _, view := range schema.Views() {
		f.want(t, "SELECT count() FROM (SELECT * FROM "+view.Name+")", "0")
	}
	for _, table := range append(schema.Tables(), schema.LedgerTable()) { // rows of every type, that fit each other nowhere
		record := synthetic.Random(table.Columns, 50, 9, time.Now().UnixMilli())
		if err := f.insert(t, table, record); err != nil {
			t.Fatal(err)
		}
		record.Release()
	}
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3), 1, 1, 1, 1)") // of which there is no sample
	f.exec(t, "INSERT INTO prices (provider, instance_type, life_cycle, valid_from) VALUES ('aws', 'p5.48xlarge', 'on_demand', 1)")
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, provider, instance_type) VALUES (now64(3), 1, 1, 1, 'aws', 'p5.48xlarge')")
	f.exec(t, "INSERT INTO price_reads (read_at, source, outcome) VALUES (now64(3), 'a', 'read')")
	f.exec(t, "INSERT INTO bill_imports (imported_at, import_id, provider) VALUES (now64(3), 5, 'aws')")
	f.exec(t, "INSERT INTO bills (import_id, provider, instance_id, of_machine) VALUES (5, 'aws', 'i-1', 1)")
	progress, builds := "rollup_progress", "account_builds"
	if f.cluster != nil { // a shard's own
		progress, builds = schema.LocalDatabase(f.Name)+"."+progress, schema.LocalDatabase(f.Name)+"."+builds
	}
	f.exec(t, "INSERT INTO account_hours (ts, version, node_id, deployment, allocated_idle_milliseconds, unallocated_milliseconds) VALUES (toStartOfHour(now()), 7, 1, 'd', 1, 1)")
	f.exec(t, "INSERT INTO "+builds+" (ts, version, recorded_at) VALUES (toStartOfHour(now()), 7, now64(3))")
	f.exec(t, "INSERT INTO "+progress+" (ts, built_until, recorded_at) VALUES (now(), 1, now64(3))")
	rows := map[string]string{"fleet_samples": "50", "fleet_health": "50", "fleet_events": "50"}
	for _, view := range schema.Views() {
		got := f.query(t, "SELECT count() FROM (SELECT * FROM "+view.Name+")")
		if want, ok := rows[view.Name]; ok && got != want || got == "0" {
			t.Errorf("%s has %s rows, want %s", view.Name, got, want)
		}
	}
}

func TestIntervals(t *testing.T) {
	f := newFleet(t)
	for _, row := range []string{ // ts, gpu, node, epoch, seq, hash, driver
		"10, 1, 7, 1, 1, 100, 8", "20, 1, 7, 1, 2, 100, 8", "30, 1, 7, 1, 3, 200, 4", "40, 1, 7, 2, 1, 200, 4", // a limit was changed
		"50, 1, 7, 2, 2, 100, 8",                           // and changed back: another interval, not the first one again
		"60, 1, 9, 3, 1, 100, 8", "70, 1, 9, 3, 2, 100, 8", // moved to another node as it was
		"10, 2, 7, 1, 1, 300, 8", // seen once
	} {
		f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, content_hash, gpu_index) VALUES ("+row+")")
	}
	f.want(t, "SELECT gpu_id, toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to), toUnixTimestamp64Milli(last_seen), node_id, gpu_index FROM gpu_intervals ORDER BY gpu_id, valid_from",
		strings.Join([]string{"1\t10\t30\t20\t7\t8", "1\t30\t50\t40\t7\t4", "1\t50\t60\t50\t7\t8", "1\t60\t\\N\t70\t9\t8", "2\t10\t\\N\t10\t7\t8"}, "\n"))
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, driver_version) VALUES (10, 7, 1, 1, 5, 'a', '580'), (20, 7, 1, 2, 6, 'a', NULL), (30, 7, 1, 3, 6, 'a', NULL)")
	f.want(t, "SELECT node_name, toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to), toUnixTimestamp64Milli(last_seen), driver_version FROM node_intervals ORDER BY valid_from",
		"a\t10\t20\t10\t580\na\t20\t\\N\t30\t\\N")
	// What a GPU's node was at a time in the past.
	f.want(t, "SELECT node_id FROM gpu_intervals WHERE gpu_id = 1 AND valid_from <= fromUnixTimestamp64Milli(55) AND (valid_to > fromUnixTimestamp64Milli(55) OR valid_to IS NULL)", "7")
}

// known makes node 7 with GPU 1, seen twice; node 8 and GPU 2 are unknown.
func (f fleet) known(t *testing.T) {
	t.Helper()
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, reading_source, provider, region, zone_id, instance_type, life_cycle) VALUES (10, 7, 1000, 1, 1, 'old', 'nvml', 'aws', 'r', 'z', 'p5', 'spot')")
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, reading_source, provider, region, zone_id, instance_type, life_cycle) VALUES (20, 7, 2000, 1, 1, 'node', 'nvml', 'aws', 'eu-west-1', 'euw1-az2', 'p5.48xlarge', 'owned')")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, content_hash, gpu_uuid, gpu_index, model, memory_total_bytes, power_limit_milliwatts) VALUES (10, 1, 7, 1, 1, 1, 'GPU-1', 0, 'H100', 80, 600000), (20, 1, 7, 1, 2, 2, 'GPU-1', 3, 'H100', 80, 700500)")
}

func TestFleetNodesAndGPUs(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.want(t, "SELECT node_name, toUnixTimestamp64Milli(last_seen), toUnixTimestamp64Milli(agent_started_at), provider, zone_id, life_cycle, rack FROM fleet_nodes",
		"node\t20\t2000\taws\teuw1-az2\towned\t\\N")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id, gpu_uuid) VALUES (30, 2, 8, 'GPU-2')")
	f.want(t, "SELECT gpu_uuid, toUnixTimestamp64Milli(last_seen), node_id, node_name, provider, region, life_cycle, reading_source, gpu_index, model, memory_total_bytes, power_limit_watts FROM fleet_gpus ORDER BY gpu_id",
		"GPU-1\t20\t7\tnode\taws\teu-west-1\towned\tnvml\t3\tH100\t80\t700.5\nGPU-2\t30\t8\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N")
}

// TestFleetSamples has a GPU that is known, and one of which nothing is: its row must be there.
func TestFleetSamples(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, interval_milliseconds, gpu_utilization_permille, gpu_temperature_celsius, power_instant_watts, energy_millijoules_delta,
		throttle_power_microseconds_delta, nvlink_tx_bytes_delta, pcie_tx_mebibytes_per_second, clocks_event_reasons) VALUES
		(now64(3), 1, 7, 1, 1, 1001, 985, -5, 700, 650500, 1500000, 123, 2, 0x24), (now64(3), 2, 8, 1, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0)`)
	const readings = "gpu_utilization_ratio, gpu_temperature_celsius, power_instant_watts, energy_joules, throttle_power_seconds, nvlink_tx_bytes, pcie_tx_bytes_per_second, interval_seconds, clocks_event_reason_names"
	f.want(t, "SELECT node_name, provider, region, zone_id, instance_type, gpu_uuid, gpu_index, model, "+readings+" FROM fleet_samples ORDER BY gpu_id",
		"node\taws\teu-west-1\teuw1-az2\tp5.48xlarge\tGPU-1\t3\tH100\t0.985\t-5\t700\t650.5\t1.5\t123\t2097152\t1.001\tsoftware power cap, software thermal\n"+
			"\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t")
	for _, setting := range []string{"0", "1"} { // the reader's own setting changes nothing
		f.want(t, "SELECT count(), countIf(node_name IS NULL), countIf(model IS NULL) FROM fleet_samples SETTINGS join_use_nulls = "+setting, "2\t1\t1")
	}
}

func TestFleetHealth(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, "INSERT INTO gpu_health (ts, gpu_id, node_id, energy_millijoules_total, pcie_replays_total, pcie_replays_delta, encoder_utilization_permille, nvlink_speed_megabytes_per_second) VALUES (now64(3), 1, 7, 5500, 9, 2, 500, 50000), (now64(3), 2, 8, 1, 2, 3, 4, 5)")
	f.want(t, "SELECT node_name, model, energy_joules_total, pcie_replays_total, pcie_replays_delta, encoder_utilization_ratio, nvlink_speed_bytes_per_second FROM fleet_health ORDER BY gpu_id",
		"node\tH100\t5.5\t9\t2\t0.5\t50000000000\n\\N\t\\N\t0.001\t2\t3\t0.004\t5000000")
}

func TestFleetEvents(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, "INSERT INTO gpu_events (ts, node_id, gpu_id, kind, source, xid, message) VALUES (now64(3), 7, 1, 'xid', 'nvml', 79, 'm'), (now64(3), 7, NULL, 'agent_started', 'agent', NULL, ''), (now64(3), 8, 2, 'gpu_lost', 'agent', NULL, '')")
	f.want(t, "SELECT kind, xid, node_name, gpu_uuid, message FROM fleet_events ORDER BY kind", "agent_started\t\\N\tnode\t\\N\t\ngpu_lost\t\\N\t\\N\t\\N\t\nxid\t79\tnode\tGPU-1\tm")
}

// TestFleetSilent has GPUs that give rows, and such that do not, each for another reason. Node 7 runs, nodes 8 and 9 do not.
func TestFleetSilent(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, provider) VALUES (now64(3), 7, 10, 1, 1, 'node', 'aws')")
	f.exec(t, `INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid, removed)
		SELECT now64(3) - if(number = 9, 8 * 86400, 3600), number, multiIf(number < 7, 7, number < 10, 8, 9), 10, 1, concat('GPU-', toString(number)), if(number = 6, 1, NULL) FROM numbers(1, 12)`)
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) VALUES (now64(3) - 5, 1, 7, 10, 1), (now64(3) - 60, 2, 7, 10, 1)")
	f.exec(t, `INSERT INTO gpu_events (ts, node_id, gpu_id, epoch, kind, source) VALUES
		(now64(3) - 50, 7, 2, 10, 'gpu_lost', 'agent'), (now64(3) - 50, 7, 3, 10, 'gpu_lost', 'agent'), (now64(3) - 40, 7, 3, 10, 'gpu_recovered', 'agent'),
		(now64(3) - 50, 7, 4, 10, 'gpu_lost', 'agent'), (now64(3) - 30, 7, 4, 10, 'gpu_stuck', 'agent'), (now64(3) - 50, 7, 5, 9, 'gpu_lost', 'agent'),
		(now64(3) - 20, 8, NULL, 10, 'driver_released', 'agent'), (now64(3) - 50, 8, 7, 10, 'gpu_lost', 'agent'),
		(now64(3) - 50, 9, NULL, 10, 'driver_missing', 'agent'), (now64(3) - 40, 9, NULL, 10, 'driver_recovered', 'agent'), (now64(3) - 30, 9, 12, 10, 'gpu_unbound', 'agent')`)
	f.want(t, "SELECT gpu_uuid, node_name, reason, silent_since IS NULL FROM fleet_silent ORDER BY toUInt8(substring(assumeNotNull(gpu_uuid), 5))", strings.Join([]string{
		"GPU-2\tnode\tgpu lost\t0", "GPU-3\tnode\tgpu not listed\t1", "GPU-4\tnode\tgpu stuck\t0", "GPU-5\tnode\tgpu not listed\t1",
		"GPU-7\t\\N\tdriver released\t0", "GPU-8\t\\N\tdriver released\t0", "GPU-10\t\\N\tagent silent\t1", "GPU-11\t\\N\tagent silent\t1", "GPU-12\t\\N\tgpu unbound\t0",
	}, "\n"))
}

// TestFleetNetwork has a port that is known, and one of a node that is not.
func TestFleetNetwork(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, `INSERT INTO network_ports (ts, device, port, node_id, interval_milliseconds, state, rate_gigabits_per_second, flapping, numa_node, rx_bytes_total, rx_bytes_delta, link_downed_delta) VALUES
		(now64(3), 'mlx5_0', 1, 7, 60000, 'ACTIVE', 400, 1, 0, 900, 100, NULL), (now64(3), 'rdmap79s0', 1, 8, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL)`)
	f.want(t, "SELECT node_name, provider, device, port, interval_seconds, state, rate_gigabits_per_second, flapping, numa_node, rx_bytes_delta, link_downed_delta FROM fleet_network ORDER BY device",
		"node\taws\tmlx5_0\t1\t60\tACTIVE\t400\t1\t0\t100\t\\N\n\\N\t\\N\trdmap79s0\t1\t\\N\t\\N\t\\N\t0\t\\N\t\\N\t\\N")
}

// TestFleetPrices has a price that changed, one that was corrected, one that ends by itself, and one of another zone.
func TestFleetPrices(t *testing.T) {
	f := newFleet(t)
	f.exec(t, `INSERT INTO prices (provider, instance_type, zone_id, currency, valid_from, valid_to, price_per_hour, price_per_gpu_hour, read_at) VALUES
		('aws', 'p5', '', 'USD', 1, NULL, 8, 1, 10), ('aws', 'p5', '', 'USD', 5, NULL, 16, 2, 11), ('aws', 'p5', '', 'USD', 5, 7, 24, 3, 12),
		('aws', 'p5', '', 'USD', 9, NULL, 32, 4, 9), ('aws', 'p5', 'z', 'USD', 2, 99, 0.1, 0.0125, 1), ('aws', 'p5', '', 'EUR', 4, NULL, 80, 10, 1)`)
	f.want(t, "SELECT zone_id, currency, price_per_gpu_hour, toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to) FROM fleet_prices ORDER BY ALL",
		"\tEUR\t10\t4\t\\N\n\tUSD\t1\t1\t5\n\tUSD\t3\t5\t7\n\tUSD\t4\t9\t\\N\nz\tUSD\t0.0125\t2\t99")
}

// TestFleetRates has nodes for which several prices fit, and one for which none does.
func TestFleetRates(t *testing.T) {
	f := newFleet(t)
	f.exec(t, `INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, provider, region, zone_id, instance_type, life_cycle) VALUES
		(now64(3), 1, 1, 1, 1, 'demand', 'aws', 'us-east-1', 'use1-az4', 'p5.48xlarge', 'on_demand'), (now64(3), 2, 1, 1, 1, 'elsewhere', 'aws', 'eu-west-1', 'x', 'P5.48XLARGE', NULL),
		(now64(3), 3, 1, 1, 1, 'spot', 'aws', 'us-east-1', 'use1-az4', 'p5.48xlarge', 'spot'), (now64(3), 4, 1, 1, 1, 'spot2', 'aws', 'us-east-1', 'use1-az6', 'p5.48xlarge', 'spot'),
		(now64(3), 5, 1, 1, 1, 'reserved', 'aws', 'us-east-1', 'use1-az4', 'p5.48xlarge', 'reserved'), (now64(3), 6, 1, 1, 1, 'other', 'gcp', 'us-east-1', 'use1-az4', 'p5.48xlarge', 'on_demand'),
		(now64(3), 7, 1, 1, 1, 'contract', 'azure', 'eastus', 'z', 'ND', 'reserved')`)
	f.exec(t, `INSERT INTO prices (provider, instance_type, region, zone_id, life_cycle, basis, currency, valid_from, valid_to, price_per_hour, price_per_gpu_hour) VALUES
		('aws', 'p5.48xlarge', '', '', 'on_demand', 'list', 'USD', 1, NULL, 80, 10), ('aws', 'p5.48xlarge', 'us-east-1', '', 'on_demand', 'list', 'USD', 1, NULL, 56, 7),
		('aws', 'p5.48xlarge', 'us-east-1', '', 'on_demand', 'list', 'EUR', 1, 2, 8, 1), ('aws', 'p5.48xlarge', 'us-east-1', 'use1-az4', 'spot', 'list', 'USD', 1, NULL, 16, 2),
		('azure', 'ND', '', '', 'on_demand', 'list', 'USD', 1, NULL, 96, 12), ('azure', 'ND', '', '', 'reserved', 'contracted', 'EUR', 1, NULL, 40, 5), ('azure', 'ND', 'eastus', '', 'reserved', 'list', 'USD', 1, NULL, 64, 8)`)
	f.want(t, "SELECT node_name, price_per_gpu_hour, currency, basis, priced_as FROM fleet_rates ORDER BY node_id", strings.Join([]string{
		"demand\t7\tUSD\tlist\ton_demand", "elsewhere\t10\tUSD\tlist\ton_demand", "spot\t2\tUSD\tlist\tspot", "reserved\t7\tUSD\tlist\ton_demand", "contract\t5\tEUR\tcontracted\treserved",
	}, "\n"))

	// What the GPUs of node 1 cost, and whether they earn it; node 6 has no price.
	f.exec(t, `INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq, gpu_uuid, parent_gpu_uuid) SELECT now64(3), number, if(number = 5, 6, 1), 1, 1, concat('GPU-', toString(number)), if(number = 6, 'GPU-1', NULL) FROM numbers(1, 6)`)
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, gpu_utilization_permille) VALUES
		(now64(3), 1, 1, 1, 1, 500), (now64(3), 2, 1, 1, 1, 0), (now64(3), 3, 1, 1, 1, 300), (now64(3), 4, 1, 1, 1, 900), (now64(3), 5, 6, 1, 1, 900), (now64(3), 6, 1, 1, 1, 900)`)
	f.exec(t, `INSERT INTO gpu_workload (ts, gpu_id, node_id, epoch, seq, assignment_id, valid_from, owner_kind, team) SELECT now64(3), number, if(number = 5, 6, 1), 1, 1, number, now64(3), if(number = 3, 'none', 'kubernetes'), if(number = 3, NULL, 'blue') FROM numbers(1, 5) WHERE number != 4`)
	f.want(t, "SELECT gpu_uuid, price_per_gpu_hour, state, team FROM fleet_cost_now ORDER BY gpu_uuid", strings.Join([]string{
		"GPU-1\t7\tbusy\tblue", "GPU-2\t7\tallocated idle\tblue", "GPU-3\t7\tunallocated\t\\N", "GPU-4\t7\tunknown\t\\N", "GPU-5\t\\N\tbusy\tblue",
	}, "\n"))
}

// base is an hour ago: no row is older than its table keeps, and none so old that its owner counts as gone, at any minute.
var base = time.Now().Add(-time.Hour).Truncate(time.Minute).UnixMilli()

// recent is a time, as milliseconds after base.
func recent(milliseconds int64) string {
	return fmt.Sprintf("fromUnixTimestamp64Milli(%d)", base+milliseconds)
}

// since is a column of times, as milliseconds after base.
func since(column string) string {
	return fmt.Sprintf("toUnixTimestamp64Milli(%s) - %d", column, base)
}

// TestFleetFaults has a fault that two sources told of, the second one later, and an event that is none.
func TestFleetFaults(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	const insert = "INSERT INTO gpu_events (node_id, gpu_id, kind, source, xid, severity, evidence, epoch, seq, fault_id, ts, last_seen, occurrences) VALUES "
	f.exec(t, insert+"(7, 1, 'xid', 'kernel', 79, 'critical', 'one', 1, 1, 18446744073709551615, "+recent(10)+", "+recent(12)+", 1), (7, NULL, 'agent_started', 'agent', NULL, NULL, NULL, 1, 2, NULL, now(), NULL, NULL)")
	f.exec(t, insert+"(7, 1, 'xid', 'kernel,nvml', NULL, 'critical', 'two', 1, 3, 18446744073709551615, "+recent(10)+", "+recent(15)+", 40), (8, NULL, 'gpu_lost', 'agent', NULL, NULL, NULL, 1, 1, 5, "+recent(30)+", NULL, NULL)")
	f.want(t, "SELECT fault_id, "+since("ts")+" AS at, "+since("last_seen")+", occurrences, kind, source, xid, severity, evidence, node_name, gpu_uuid FROM fleet_faults ORDER BY at",
		"18446744073709551615\t10\t15\t40\txid\tkernel,nvml\t\\N\tcritical\ttwo\tnode\tGPU-1\n5\t30\t30\t1\tgpu_lost\tagent\t\\N\t\\N\t[]\t\\N\t\\N")
}

// TestFleetFaultsReadsWhatIsAskedFor counts the rows that are read for a day, a GPU and a node, of three months of a
// thousand GPUs.
func TestFleetFaultsReadsWhatIsAskedFor(t *testing.T) {
	f := newFleet(t)
	for month := range 3 {
		f.exec(t, fmt.Sprintf("INSERT INTO gpu_events (ts, node_id, gpu_id, fault_id, kind) SELECT toDateTime(toStartOfMonth(addMonths(now(), -%d))) + number %% 100, intDiv(number, 800), cityHash64(intDiv(number, 100)), number, 'xid' FROM numbers(100000)", month))
	}
	f.exec(t, "OPTIMIZE TABLE gpu_events FINAL")
	for where, most := range map[string]int{
		"true": 300_000,
		"ts >= addMonths(toStartOfMonth(now()), -1) AND ts < toStartOfMonth(now())": 100_000,
		"gpu_id = cityHash64(500)":                                 10_000,
		"gpu_id = cityHash64(500) AND ts >= toStartOfMonth(now())": 3_100,
		"ts >= toStartOfMonth(now())":                              100_000,
		"node_id = 7":                                              10_000,
	} {
		plan := f.query(t, "EXPLAIN ESTIMATE SELECT * FROM fleet_faults WHERE "+where) // lines of database, table, parts, rows, marks
		_, read, _ := strings.Cut(plan, "\tgpu_events\t")
		read = append(strings.Fields(read), "", "0")[1]
		if rows, err := strconv.Atoi(read); err != nil || rows > most || rows == 0 {
			t.Errorf("WHERE %s reads %s rows, want at most %d", where, read, most)
		}
	}
}

// TestWorkload has an owner that left, one that stays and got a name since, and one whose agent fell silent.
func TestWorkload(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	for _, row := range []string{ // ts, gpu, node, epoch, seq, assignment, from, to, kind, pod, deployment
		recent(20) + ", 1, 7, 1, 1, 100, " + recent(10) + ", NULL, 'kubernetes', 'a-1', 'a'",
		recent(30) + ", 1, 7, 1, 2, 100, " + recent(10) + ", " + recent(30) + ", 'kubernetes', 'a-1', NULL",
		"now64(3) - 100, 1, 7, 1, 3, 200, " + recent(40) + ", NULL, 'kubernetes', 'b-1', NULL",
		"now64(3) - 50, 1, 7, 1, 4, 200, " + recent(40) + ", NULL, 'kubernetes', 'b-1', 'b'",
		recent(-4000000) + ", 2, 8, 1, 1, 300, " + recent(-4000000) + ", NULL, 'process', NULL, NULL",
	} {
		f.exec(t, "INSERT INTO gpu_workload (ts, gpu_id, node_id, epoch, seq, assignment_id, valid_from, valid_to, owner_kind, pod, deployment) VALUES ("+row+")")
	}
	f.want(t, "SELECT gpu_id, assignment_id, "+since("valid_from")+", "+since("valid_to")+", owner_kind, pod, deployment FROM workload_intervals ORDER BY gpu_id, valid_from",
		"1\t100\t10\t30\tkubernetes\ta-1\t\\N\n1\t200\t40\t\\N\tkubernetes\tb-1\tb\n2\t300\t-4000000\t-4000000\tprocess\t\\N\t\\N")
	f.want(t, "SELECT gpu_uuid, node_name, pod, deployment FROM fleet_workload", "GPU-1\tnode\tb-1\tb")
}

// TestWorkloadOfAnAgentThatStartedAnew has what two lives of an agent said, the first of which ended without a word: an
// owner that both know, one that the second does not know, and what began in its place.
func TestWorkloadOfAnAgentThatStartedAnew(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	for _, row := range []string{ // gpu, ts, epoch, seq, assignment, from, shared, pod
		"1, " + recent(100) + ", 1, 1, 10, " + recent(50) + ", 0, 'stays'",
		"1, " + recent(900) + ", 2, 1, 10, " + recent(20) + ", 0, 'stays'", // it began earlier than it had the GPU
		"2, " + recent(100) + ", 1, 1, 20, " + recent(50) + ", 0, 'left'",
		"2, " + recent(900) + ", 2, 1, 21, " + recent(900) + ", 0, 'came'",
		"3, " + recent(100) + ", 1, 1, 30, " + recent(50) + ", 0, 'cut'",
		"3, " + recent(900) + ", 2, 1, 31, " + recent(70) + ", 0, 'overlaps'",
		"4, " + recent(100) + ", 1, 1, 40, " + recent(50) + ", 1, 'shared'",
		"4, " + recent(900) + ", 2, 1, 41, " + recent(70) + ", 1, 'beside'",
	} {
		f.exec(t, "INSERT INTO gpu_workload (gpu_id, ts, epoch, seq, assignment_id, valid_from, shared, pod, node_id, owner_kind) VALUES ("+row+", 7, 'kubernetes')")
	}
	f.want(t, "SELECT pod, "+since("valid_from")+", "+since("valid_to")+" FROM workload_intervals ORDER BY assignment_id",
		"stays\t50\t\\N\nleft\t50\t100\ncame\t900\t\\N\ncut\t50\t70\noverlaps\t70\t\\N\nshared\t50\t100\nbeside\t70\t\\N")
	f.want(t, "SELECT pod FROM fleet_workload ORDER BY pod", "beside\ncame\noverlaps\nstays")
}

// TestTwoRowsOfOneBatch has an owner that left, and a fault that more was heard of, before the batch was sent; in both
// orders, since the rows of one batch have no other than their own.
func TestTwoRowsOfOneBatch(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	came, left := recent(10)+", 7, 1, 1, 100, "+recent(10)+", NULL, 'slurm'", recent(2500)+", 7, 1, 1, 100, "+recent(10)+", "+recent(2500)+", 'slurm'"
	const owner = "INSERT INTO gpu_workload (gpu_id, ts, node_id, epoch, seq, assignment_id, valid_from, valid_to, owner_kind) VALUES "
	f.exec(t, owner+"(1, "+came+"), (1, "+left+")")
	f.exec(t, owner+"(2, "+left+"), (2, "+came+")")
	f.want(t, "SELECT gpu_id, "+since("valid_to")+" FROM workload_intervals ORDER BY gpu_id", "1\t2500\n2\t2500")
	f.want(t, "SELECT count() FROM fleet_workload", "0")
	const fault = "INSERT INTO gpu_events (fault_id, ts, node_id, kind, epoch, seq, xid, evidence) VALUES "
	f.exec(t, fault+"(1, "+recent(10)+", 7, 'gpu_lost', 1, 1, NULL, 'one'), (1, "+recent(10)+", 7, 'xid', 1, 1, 79, 'one two')")
	f.exec(t, fault+"(2, "+recent(10)+", 7, 'xid', 1, 1, 79, 'one two'), (2, "+recent(10)+", 7, 'gpu_lost', 1, 1, NULL, 'one')")
	f.want(t, "SELECT fault_id, kind, xid FROM fleet_faults ORDER BY fault_id", "1\txid\t79\n2\txid\t79")
}

func TestFleetNow(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, seq, gpu_utilization_permille, temperature_margin_celsius, power_instant_watts) VALUES
		(now64(3) - 100, 1, 7, 1, 100, 1, 10), (now64(3) - 40, 1, 7, 2, 300, 30, 30), (now64(3) - 50, 1, 7, 3, 200, 2, 20), (now64(3) - 300, 2, 8, 1, 1, 1, 1), (now64(3) - 10, 3, 8, 1, NULL, NULL, NULL)`)
	f.want(t, "SELECT gpu_id, node_name, gpu_utilization_ratio, temperature_margin_celsius, power_instant_watts, age_seconds >= 40 AND age_seconds < 100 FROM fleet_now WHERE gpu_id = 1", "1\tnode\t0.3\t30\t30\t1")
	f.want(t, "SELECT gpu_id FROM fleet_now ORDER BY gpu_id", "1\n3")
	f.exec(t, `INSERT INTO gpu_samples (ts, gpu_id, node_id, seq, gpu_temperature_celsius, memory_used_bytes, clocks_event_reasons, power_instant_watts) VALUES
		(now64(3) - 9, 4, 7, 1, 60, 5, 4, 10), (now64(3) - 6, 4, 7, 2, 62, NULL, NULL, 20), (now64(3) - 2, 4, 7, 3, NULL, 7, NULL, NULL)`)
	f.want(t, "SELECT gpu_temperature_celsius, memory_used_bytes, clocks_event_reasons, clocks_event_reason_names, power_instant_watts, age_seconds < 6 FROM fleet_now WHERE gpu_id = 4",
		"62\t7\t4\tsoftware power cap\t\\N\t1") // of what is read at every tick, nothing is older than the row
}

func TestIngestAudit(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	day := func(ago int) string { return strconv.FormatInt(time.Now().AddDate(0, 0, -ago).UnixMilli(), 10) }
	young, old := day(1), day(100)
	for _, row := range []string{ // table, node, epoch, seq, rows, state
		"'gpu_samples', 7, " + young + ", 2, 80, 'stored'", "'gpu_samples', 7, " + young + ", 2, 80, 'stored'", // reconciled: twice the same
		"'gpu_samples', 7, " + young + ", 3, 80, 'quarantined'", "'gpu_samples', 7, " + young + ", 6, 40, 'stored'",
		"'gpu_samples', 7, " + old + ", 1001, 80, 'stored'", "'gpu_samples', 7, " + old + ", 1003, 80, 'stored'",
		"'gpu_events', 8, " + young + ", 1, 1, 'stored'",
	} {
		f.exec(t, "INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state) VALUES (now64(3), "+row+")")
	}
	f.want(t, "SELECT table_name, node_name, batches, first_seq, last_seq, missing_batches, quarantined_batches, stored_rows FROM ingest_audit ORDER BY table_name, epoch",
		"gpu_events\t\\N\t1\t1\t1\t0\t0\t1\ngpu_samples\tnode\t2\t1001\t1003\t1\t0\t160\ngpu_samples\tnode\t3\t2\t6\t3\t1\t120")
}

// TestIngestHours: what is recorded twice, or filled in again, counts once; what two collectors stored is seen.
func TestIngestHours(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	for range 2 {
		for _, row := range []string{ // hour, seq, state, unit, collector
			"' 12:10:00', 7, 1, 'stored', 'u', 'one'", "' 12:59:59.999', 7, 2, 'quarantined', '', 'one'",
			"' 13:00:00', 7, 2, 'stored', 'v', 'one'", "' 13:10:00', 7, 5, 'stored', 'v', 'one'",
			"' 13:20:00', 7, 5, 'stored', 'w', 'two'", "' 13:20:00', 7, 1, 'stored', '" + schema.ReconciledUnit + "', 'two'", "' 13:20:00', 8, 1, 'stored', 'w', 'two'",
		} {
			f.exec(t, "INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, unit, collector) SELECT toDateTime64('"+yesterday+"' || c1, 3, 'UTC'), 'gpu_samples', c2, 9, c3, 80, c4, c5, c6 FROM VALUES(("+row+"))")
		}
	}
	const hours = "SELECT toHour(hour), node_id, node_name, epoch, batches, stored_batches, first_seq, last_seq FROM ingest_hours ORDER BY ALL"
	const want = "12\t7\tnode\t9\t2\t1\t1\t2\n13\t7\tnode\t9\t3\t3\t1\t5\n13\t8\t\\N\t9\t1\t1\t1\t1"
	f.want(t, hours, want)
	f.want(t, "SELECT node_id, groupBitmapMerge(stored), groupBitmapMerge(stored_by) FROM ingest_sequences GROUP BY node_id ORDER BY node_id", "7\t3\t4\n8\t1\t1")
}

// TestViewsPushPredicatesDown reads what the plan says of the primary key: a view that hides it makes
// every query a scan.
func TestViewsPushPredicatesDown(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, "INSERT INTO gpu_samples (ts, gpu_id, node_id) SELECT now64(3) - number % 100, cityHash64(intDiv(number, 100)), 7 FROM numbers(100000)")
	f.exec(t, "INSERT INTO gpu_health (ts, gpu_id, node_id) SELECT now64(3) - number % 100, cityHash64(intDiv(number, 100)), 7 FROM numbers(100000)")
	f.exec(t, "INSERT INTO gpu_inventory (ts, gpu_id, node_id) SELECT now64(3) - number % 100, cityHash64(intDiv(number, 100)), 7 FROM numbers(100000)")
	f.exec(t, "INSERT INTO gpu_events (ts, gpu_id, node_id) SELECT now64(3) - number % 100, cityHash64(number), intDiv(number, 100) FROM numbers(100000)")
	f.exec(t, "INSERT INTO network_ports (ts, device, port, node_id) SELECT now64(3) - number % 100, 'mlx5_0', 1, intDiv(number, 100) FROM numbers(100000)")
	f.exec(t, "INSERT INTO gpu_workload (ts, gpu_id, node_id) SELECT now64(3) - number % 100, cityHash64(intDiv(number, 100)), 7 FROM numbers(100000)")
	f.exec(t, "INSERT INTO token_samples (ts, server, node_id, source) SELECT now64(3) - number % 100, 'a:8000', intDiv(number, 100), 'scrape' FROM numbers(100000)")
	tests := []struct {
		view, table, where string
		conditions         []string
	}{
		{"fleet_tokens", "token_samples", "ts >= now() - 900 AND node_id = 5", []string{"(toStartOfHour(ts) in [", "(node_id in ["}},
		{"fleet_network", "network_ports", "node_id = 5", []string{"(node_id in ["}},
		{"fleet_samples", "gpu_samples", "gpu_id = cityHash64(1) AND ts >= now() - 3600", []string{"(toStartOfHour(ts) in [", "(gpu_id in ["}},
		{"fleet_samples", "gpu_samples", "ts >= now() - 900", []string{"(toStartOfHour(ts) in [", "binary search"}},
		{"fleet_health", "gpu_health", "gpu_id = cityHash64(1)", []string{"(gpu_id in ["}},
		{"fleet_events", "gpu_events", "node_id = 5", []string{"(node_id in ["}},
		{"fleet_faults", "gpu_events", "node_id = 5", []string{"(node_id in ["}},
		{"fleet_faults", "gpu_events", "ts >= now() - 900", []string{"(ts in ["}},
		{"fleet_events", "gpu_events", "ts >= now() - 900", []string{"(ts in ["}},
		{"workload_intervals", "gpu_workload", "gpu_id = cityHash64(1)", []string{"(gpu_id in ["}},
		{"fleet_workload", "gpu_workload", "true", []string{"(ts in ["}},
		{"gpu_intervals", "gpu_inventory", "gpu_id = cityHash64(1)", []string{"(gpu_id in ["}},
		{"fleet_gpus", "gpu_current", "gpu_id = cityHash64(1)", []string{"(gpu_id in ["}},
	}
	for _, tt := range tests {
		plan := f.query(t, "EXPLAIN indexes = 1 SELECT * FROM "+tt.view+" WHERE "+tt.where+" FORMAT TSVRaw")
		_, read, found := strings.Cut(plan, "ReadFromMergeTree ("+f.Name+"."+tt.table+")")
		_, key, keyed := strings.Cut(read, "PrimaryKey")
		if !found || !keyed {
			t.Errorf("%s does not read %s by its key:\n%s", tt.view, tt.table, plan)
			continue
		}
		key, _, _ = strings.Cut(key, "Ranges:")
		for _, condition := range tt.conditions {
			if !strings.Contains(key, condition) {
				t.Errorf("%s: condition %q does not reach the key of %s:\n%s", tt.view, condition, tt.table, key)
			}
		}
	}
}

// TestFleetFaultTrace has a GPU with two faults, so near to each other that they share samples, and a switch's fault.
func TestFleetFaultTrace(t *testing.T) {
	f := newFleet(t)
	f.known(t)
	f.exec(t, `INSERT INTO gpu_events (ts, node_id, gpu_id, kind, source, xid, severity, fault_id) VALUES
		(now64(3) - 600, 7, 1, 'xid', 'nvml', 79, 'critical', 500), (now64(3) - 590, 7, 1, 'xid', 'nvml', 31, 'warning', 501), (now64(3) - 600, 7, NULL, 'sxid', 'kernel', NULL, 'critical', 502)`)
	f.exec(t, `INSERT INTO gpu_subsecond (ts, gpu_id, node_id, signal, value, burst, fault_id) VALUES
		(now64(6) - 725, 1, 7, 'power_milliwatts', 1, NULL, NULL), (now64(6) - 715, 1, 7, 'power_milliwatts', 2, NULL, 500), (now64(6) - 650, 1, 7, 'power_milliwatts', 3, NULL, 500),
		(now64(6) - 585, 1, 7, 'temperature_celsius', 4, 1, 500), (now64(6) - 535, 1, 7, 'power_milliwatts', 5, NULL, NULL), (now64(6) - 500, 1, 7, 'power_milliwatts', 6, NULL, NULL),
		(now64(6) - 590, 2, 8, 'power_milliwatts', 7, NULL, NULL), (now64(6) - 590, 2, 7, 'power_milliwatts', 8, NULL, 502)`)
	f.want(t, "SELECT fault_id, arraySort(groupArray(value)), countIf(burst), any(severity), min(round(seconds_after_fault)), any(gpu_uuid) FROM fleet_fault_trace GROUP BY fault_id ORDER BY fault_id",
		"500\t[2,3,4]\t1\tcritical\t-115\tGPU-1\n501\t[3,4,5]\t1\twarning\t-60\tGPU-1\n502\t[8]\t0\tcritical\t10\t\\N")
}
