// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
)

// Cases that no public mock of NVML has. The others are with what they concern: a call that hangs and a reset of
// counters in sampler_test.go, rings in ring_test.go, wraps in probe_test.go, MIG in parts_test.go, the clock in
// pace_test.go.

// TestGPULostInMidTick: its first call of the tick succeeds and a later one does not. The tick gives no half row.
func TestGPULostInMidTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		dying := d.devices[1]
		calls := 0
		dying.profile = func([]gpu.ProfileValue) gpu.Return {
			if calls++; calls == 5 {
				dying.lost = true // its lock is held
				return gpu.GPUIsLost
			}
			return gpu.NotReady
		}
		s := startSampler(t, opening(d), func(c *Config) { c.Flush = 5 * time.Second })
		wait(10*time.Second + 500*time.Millisecond)
		if got := len(s.rowsOf("GPU-1")); got != 4 {
			t.Errorf("%d rows, want those of the four ticks before", got)
		}
		dying.lose(false)
		wait(40 * time.Second)
		s.stop()
		rows := s.rowsOf("GPU-1")
		if last := rows[len(rows)-1]; len(rows) < 10 || last["counter_epoch"].Int <= rows[0]["counter_epoch"].Int {
			t.Errorf("%d rows, the last one %v", len(rows), last)
		}
		if events := s.rows.events(); count(events, "gpu_lost") != 1 || count(events, "gpu_recovered") != 1 {
			t.Errorf("events %v", events)
		}
		if got := len(s.rowsOf("GPU-0")); got != 50 {
			t.Errorf("the other GPU has %d rows in 50 ticks", got)
		}
	})
}

// TestSixteenGPUsOfWhichThreeAreDead: one hangs from the first call on, one is listed and lost, one answers nonsense.
func TestSixteenGPUsOfWhichThreeAreDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(16)
		d.devices[3].hang()
		d.devices[8].answer = gpu.GPUIsLost
		d.devices[15].answer = gpu.Unknown
		s := startSampler(t, opening(d))
		wait(2*time.Minute + 500*time.Millisecond)
		if got := s.Stats().GPUs.Load(); got != 13 {
			t.Errorf("%d GPUs answer, want 13", got)
		}
		s.stop()
		for i, device := range d.devices {
			want := 120
			if i == 3 || i == 8 || i == 15 {
				want = 0
			}
			if got := len(s.rowsOf(device.uuid)); got != want {
				t.Errorf("%s has %d rows in 120 ticks, want %d", device.uuid, got, want)
			}
		}
		events := s.rows.events()
		if count(events, "gpu_found") != 13 || count(events, "gpu_stuck") != 1 || count(events, "gpu_lost") != 1 || count(events, "driver_missing") != 0 {
			t.Errorf("events %v", events)
		}
		if s.Stats().MissedTicks.Load() != 0 || s.Stats().LateTicks.Load() != 0 {
			t.Errorf("%d ticks missed, %d late", s.Stats().MissedTicks.Load(), s.Stats().LateTicks.Load())
		}
		if nodes := s.rows.of(schema.NodeInventoryID); nodes[len(nodes)-1]["gpu_count"].Int != 16 {
			t.Errorf("the node has %v GPUs", nodes[len(nodes)-1]["gpu_count"])
		}
	})
}

// TestDriverThatLacksASymbol has a driver without one call after the other: its columns are NULL, and all else is read.
func TestDriverThatLacksASymbol(t *testing.T) {
	for symbol, column := range map[string]string{
		"nvmlDeviceGetFieldValues": "power_instant_watts", "nvmlDeviceGetSamples": "power_max_watts",
		"nvmlGpmMetricsGet": "sm_active_permille", "nvmlDeviceGetMemoryInfo_v2": "memory_used_bytes", "nvmlDeviceGetMarginTemperature": "temperature_margin_celsius",
		"nvmlEventSetWait_v2": "", "nvmlDeviceGetMigMode": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			node, open := simulated(t, sim.H100)
			if err := node.Inject(sim.Fault{Kind: sim.HideSymbol, Symbol: symbol}); err != nil {
				t.Fatal(err)
			}
			s := startSampler(t, open)
			wait(10*time.Second + 500*time.Millisecond)
			s.stop()
			rows, others := s.rows.of(schema.SamplesID), 0
			if len(rows) != 8*10 {
				t.Errorf("without %s: %d rows of eight GPUs in ten ticks", symbol, len(rows))
			}
			for _, r := range rows {
				if r[column].OK {
					t.Fatalf("without %s: %s is %v", symbol, column, r[column])
				}
				if r["memory_used_bytes"].OK || r["power_instant_watts"].OK || r["gpu_utilization_permille"].OK {
					others++
				}
			}
			if others < len(rows)/2 {
				t.Errorf("without %s: %d of %d rows have anything else", symbol, others, len(rows))
			}
		})
	}
}

// TestBothNumberingsGiveTheSameColumns: a throttle counter has one number in either.
func TestBothNumberingsGiveTheSameColumns(t *testing.T) {
	sums := map[string]string{}
	for _, driver := range []string{"580.65.06", "590.48.01"} {
		synctest.Test(t, func(t *testing.T) {
			node, err := sim.NewNode(sim.NodeConfig{Model: sim.B200, Seed: 5, Workload: sim.Burn, Driver: driver})
			if err != nil {
				t.Fatal(err)
			}
			if err := node.Inject(sim.Fault{Kind: sim.Overheat, GPU: 0, Celsius: 40, For: time.Minute}); err != nil {
				t.Fatal(err)
			}
			s := startSampler(t, func() (gpu.Driver, error) { return node.Driver(), nil })
			wait(30*time.Second + 500*time.Millisecond)
			s.stop()
			var software, hardware, brake int64
			for _, r := range s.rows.of(schema.SamplesID) {
				software += r["throttle_software_thermal_microseconds_delta"].Int
				hardware += r["throttle_hardware_thermal_microseconds_delta"].Int
				brake += r["throttle_power_brake_microseconds_delta"].Int
			}
			if software == 0 {
				t.Errorf("%s: no GPU is throttled by heat", driver)
			}
			sums[driver] = fmt.Sprint(software, hardware, brake)
		})
	}
	if sums["580.65.06"] != sums["590.48.01"] {
		t.Errorf("throttled for %v: the columns depend on how the driver numbers its fields", sums)
	}
}
