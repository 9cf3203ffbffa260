// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
)

// callsOf counts the calls for each GPU and second by name, of a node that is sampled as an agent does by default.
func callsOf(t *testing.T, model sim.Model, workload sim.Workload, lasts time.Duration) (calls map[string]float64, all float64) {
	t.Helper()
	var mu sync.Mutex
	counts := map[string]int{}
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: model, Seed: 3, Workload: workload})
		if err != nil {
			t.Fatal(err)
		}
		s := startSampler(t, func() (gpu.Driver, error) { return node.Driver(), nil }, func(c *Config) {
			c.Flush, c.UsageInterval, c.Usage = 5*time.Second, 10*time.Second, func(Usage) {}
		})
		wait(time.Minute + 500*time.Millisecond) // what only the start takes
		s.Stats().ObserveCalls(func(call string, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			counts[call]++
		})
		wait(lasts)
		s.stop()
		calls = make(map[string]float64)
		for name, n := range counts {
			calls[name] = float64(n) / float64(node.GPUs()) / lasts.Seconds()
			all += calls[name]
		}
	})
	return calls, all
}

// microseconds are what calls took on an H200 with driver 580.159.04 (docs/adr/006-driver-calls.md): means that the agent
// measured beside a load, of the three kinds of fields sums of what single fields took, of the rings by how often each is
// read.
var microseconds = map[string]float64{
	callFields: 450, callSlow: 4300, callMinute: 4000, callSamples: 590, callProfile: 112, callProfiles: 828, callParts: 251, callProcesses: 64, callIdentity: 345,
	"nvmlDeviceGetMarginTemperature": 989, "nvmlDeviceGetBAR1MemoryInfo": 913, "nvmlDeviceGetCurrPcieLinkGeneration": 96,
	"nvmlDeviceGetClockInfo": 30, "nvmlDeviceGetMemoryInfo_v2": 24, "nvmlDeviceGetTemperature": 13, "nvmlDeviceGetCurrentClocksEventReasons": 8,
	"nvmlDeviceGetUtilizationRates": 2, "nvmlDeviceGetGpuFabricInfoV": 11, "nvmlDeviceGetPerformanceState": 10, "nvmlDeviceGetEncoderUtilization": 6,
	"nvmlDeviceGetDecoderUtilization": 3, "nvmlDeviceGetJpgUtilization": 3, "nvmlDeviceGetOfaUtilization": 3, "nvmlDeviceGetEnforcedPowerLimit": 3,
	"nvmlDeviceGetRowRemapperHistogram": 4, "nvmlDeviceGetSramEccErrorStatus": 6,
}

// TestCallBudget keeps the figures of docs/adr/006-driver-calls.md true: the calls, and the time that they would take on the
// GPU that was measured.
func TestCallBudget(t *testing.T) {
	for name, c := range map[string]struct {
		model    sim.Model
		workload sim.Workload
		most     float64 // calls for each GPU and second
		longest  float64 // µs likewise; 0: that model was not measured
	}{
		"H100 that works": {sim.H100, sim.Burn, 8.45, 2500},
		"H100 that idles": {sim.H100, sim.Idle, 8.45, 2500},
		"A100 that works": {sim.A100, sim.Burn, 4.6, 0},
	} {
		calls, all := callsOf(t, c.model, c.workload, 30*time.Minute)
		if all > c.most || all < c.most-0.1 {
			t.Errorf("%s: %.3f calls for each GPU and second, want up to %.2f: correct the ADR, too", name, all, c.most)
		}
		spent := 0.0
		for _, call := range slices.Sorted(maps.Keys(calls)) {
			took, known := microseconds[call]
			if !known {
				t.Errorf("nobody measured %s", call)
			}
			spent += calls[call] * took
			t.Logf("%s: %-40s %.3f calls, %4.0f µs", name, call, calls[call], calls[call]*took)
		}
		t.Logf("%s: %.0f µs for each GPU and second", name, spent)
		if c.longest > 0 && (spent > c.longest || spent < c.longest-100) {
			t.Errorf("%s: %.0f µs for each GPU and second, want up to %.0f: correct the ADR, too", name, spent, c.longest)
		}
	}
}

// TestSecondaryRings: a glance now and then, which leaves the other rows without.
func TestSecondaryRings(t *testing.T) {
	for _, model := range []sim.Model{sim.H100, sim.A100} {
		synctest.Test(t, func(t *testing.T) {
			_, open := simulated(t, model)
			s := startSampler(t, open, func(c *Config) { c.Flush = 5 * time.Second })
			wait(2*time.Minute + 500*time.Millisecond)
			s.stop()
			rows, clocks, traffic := 0, 0, 0
			for _, r := range s.rows.of(schema.SamplesID) {
				if r["quality"].Int&schema.QualityRing == 0 || !r["power_mean_watts"].OK {
					continue // of the first seconds, or the last
				}
				rows++
				if r["memory_clock_mean_megahertz"].OK || model == sim.H100 && r["memory_clock_megahertz"].OK { // its ring is never filled
					clocks++
				}
				if r["memory_busy_mean_permille"].OK {
					traffic++
				}
				if !r["gpu_utilization_mean_permille"].OK || !r["sm_clock_megahertz"].OK || r["sm_clock_mean_megahertz"].OK != (model == sim.A100) {
					t.Fatalf("%v: row without samples: %v", model, r)
				}
			}
			if rows < 8*100 || clocks < rows/60 || clocks > rows/5 {
				t.Errorf("%v: %d of %d rows have the memory's clock", model, clocks, rows)
			}
			if glances := traffic < rows/10; glances != (model == sim.H100) {
				t.Errorf("%v: %d of %d rows have the memory's traffic", model, traffic, rows)
			}
		})
	}
}
