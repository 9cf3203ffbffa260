// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestFaultTrace: what a GPU did before a fault is sent when the fault comes, and what it does after, at 10 Hz, each
// sample once. A second fault that comes into it has its own trace of the same samples.
func TestFaultTrace(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 3, Workload: sim.Burn})
	if err != nil {
		t.Fatal(err)
	}
	f := startFleet(t, fleetConfig{
		nodes: 1, seed: 7, collector: address, interval: time.Second, flush: time.Second,
		change: func(c *agent.Config) {
			c.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
			c.Subsecond = false
			c.Bursts.For, c.Bursts.Before, c.Bursts.After, c.Bursts.Proc = 3*time.Second, 5*time.Second, 4*time.Second, node.Proc()
		},
	})
	ticks := func(n uint64) {
		t.Helper()
		f.await("ticks", func(s agent.Stats) bool { return s.Ticks >= n || s.GPUsReduced > 0 })
		if f.sum().GPUsReduced > 0 {
			t.Skip("SKIPPED: the machine is too busy: the agent reads less")
		}
	}
	ticks(8)
	if got := clickhousetest.Query(t, db.Reader, "SELECT count() FROM gpu_subsecond"); got != "0" {
		t.Errorf("%s samples are stored before there is a fault", got)
	}
	inject := func(code uint64) {
		if err := node.Inject(sim.Fault{Kind: sim.XID, GPU: 2, Code: code}); err != nil {
			t.Fatal(err)
		}
	}
	inject(31)
	ticks(10)
	inject(13)
	uuid := clickhousetest.Query(t, db.Reader, "SELECT gpu_uuid FROM fleet_gpus WHERE gpu_index = 2")
	awaitAnswer(t, db.Reader, "SELECT groupArray(message) FROM fleet_events WHERE kind = 'burst_started' AND gpu_uuid = '"+uuid+"' AND message LIKE 'fault: XID 31'", "['fault: XID 31']")
	ticks(16)
	f.wantExactlyOnce(db.Reader)

	first := "(SELECT fault_id FROM fleet_faults WHERE xid = 31)"
	for what, sql := range map[string]string{
		"the seconds before it, at the pace of the rings": "SELECT count() > 80 AND min(dateDiff('millisecond', f.ts, s.ts)) BETWEEN -5000 AND -4500 FROM gpu_subsecond AS s INNER JOIN fleet_faults AS f ON s.fault_id = f.fault_id WHERE f.fault_id = " + first + " AND s.ts <= f.ts AND signal = 'power_milliwatts' AND burst IS NULL",
		"a burst after it, at 10 Hz":                      "SELECT count() >= 10 AND (count() - 1) / (max(seconds_after_fault) - min(seconds_after_fault)) BETWEEN 3 AND 10.6 AND min(seconds_after_fault) BETWEEN 0 AND 2 FROM fleet_fault_trace WHERE fault_id = " + first + " AND signal = 'clocks_event_reasons' AND burst",
		"one GPU":                                         "SELECT groupUniqArray(gpu_uuid) = ['" + uuid + "'] FROM fleet_fault_trace",
		"each sample once":                                "SELECT count() = uniqExact(gpu_id, signal, driver_time_microseconds, ifNull(burst, 0)) AND countIf(fault_id IS NULL) = 0 FROM gpu_subsecond",
		"the second fault's trace of them":                "SELECT countIf(t.fault_id != s.fault_id) > 100 FROM fleet_fault_trace AS t INNER JOIN gpu_subsecond AS s ON t.ts = s.ts AND t.signal = s.signal WHERE t.xid = 13",
		"no sample of another time":                       "SELECT min(seconds_after_fault) >= -5.001 AND max(seconds_after_fault) <= 6.6 FROM fleet_fault_trace WHERE fault_id = " + first,
	} {
		if got := clickhousetest.Query(t, db.Reader, sql); got != "1" {
			t.Errorf("%s: %q\n%s", what, got, clickhousetest.Query(t, db.Reader, "SELECT fault_id, xid, burst, signal, count(), min(seconds_after_fault), max(seconds_after_fault) FROM fleet_fault_trace GROUP BY ALL ORDER BY ALL"))
		}
	}
	for _, sql := range documentedQueries(t, "faults.md") {
		if got := clickhousetest.Query(t, db.Reader, sql); strings.Count(got, "\n") < 50 {
			t.Errorf("the document's query shows\n%s", got)
		}
	}
	stop()
}

// TestOrderedBurst: an operator asks one node for a burst by way of its collector, and another one that makes none.
func TestOrderedBurst(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := collectorConfig(t, db.Writer)
	cfg.Orders = collector.NewOrders()
	address, stop := startCollector(t, cfg)
	off := ""
	f := startFleet(t, fleetConfig{
		nodes: 3, gpus: 2, seed: 5, collector: address, interval: time.Second, flush: time.Second,
		change: func(c *agent.Config) {
			c.Subsecond = false
			if off == "" {
				off = c.Node.Name
				c.Bursts.On = false
			}
		},
	})
	awaitAnswer(t, db.Reader, "SELECT uniq(gpu_uuid) FROM fleet_gpus", "6")
	ordered := f.names[1]
	for _, node := range []string{ordered, off} {
		if err := cfg.Orders.Send(t.Context(), node, wire.Order{Burst: &wire.Burst{Seconds: 2, Reason: "slow steps"}}); err != nil {
			t.Fatal(err)
		}
	}
	awaitAnswer(t, db.Reader, "SELECT node_name, uniq(gpu_id), any(count) FROM fleet_events WHERE kind = 'burst_started' AND message = 'the collector asks for it: slow steps' GROUP BY node_name", ordered+"\t2\t2")
	awaitAnswer(t, db.Reader, "SELECT node_name, message FROM fleet_events WHERE kind = 'burst_refused'", off+"\tthe collector asks for it: slow steps: bursts are switched off")
	awaitAnswer(t, db.Reader, "SELECT uniq(node_id), uniq(gpu_id), countIf(fault_id IS NOT NULL), count() >= 4 FROM gpu_subsecond WHERE burst = 1 AND signal = 'temperature_celsius'", "1\t2\t0\t1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := cfg.Orders.Send(ctx, "nobody", wire.Order{Burst: &wire.Burst{}}); err == nil {
		t.Error("an order to a node that is not there is sent")
	}
	f.wantExactlyOnce(db.Reader)
	stop()
}
