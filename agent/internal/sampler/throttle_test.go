// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// counting is a GPU that draws a joule and is held down by the power cap for a microsecond in each millisecond.
func counting(d *fakeDevice) (stop func()) {
	d.set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1_000_000)
	d.set("DEV_PERF_POLICY_POWER", 0, 5_000_000)
	d.set("DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", 0, 0)
	d.getters[gpu.GetClocksEventReasons] = []int64{0}
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait(50 * time.Millisecond) // never at a tick
		for i := int64(1); ; i++ {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
				d.set("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1_000_000+i*100)
				d.set("DEV_PERF_POLICY_POWER", 0, 5_000_000+i*100_000)
			}
		}
	}()
	return func() { close(ended); <-done }
}

// withEnergy are the times, in s since the first row, of the rows that have an increment of the energy, and the sum.
func withEnergy(t *testing.T, rows []row) (seconds []int, sum int64) {
	t.Helper()
	for _, r := range rows {
		_, energy := r["energy_millijoules_delta"]
		_, power := r["throttle_power_microseconds_delta"]
		if energy != power {
			t.Fatalf("one of two slow counters is missing: %v", r)
		}
		if energy {
			seconds = append(seconds, int((r["ts"].Int-rows[0]["ts"].Int)/1000))
			sum += r["energy_millijoules_delta"].Int
		}
	}
	return seconds, sum
}

// TestSlowFieldsAreReadSeldom: with each second batch, and at once when clocks begin or cease to be held down. Nothing
// that counted is lost.
func TestSlowFieldsAreReadSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		device := d.devices[0]
		stop := counting(device)
		s := startSampler(t, opening(d), func(c *Config) { c.Flush = 5 * time.Second })
		reasons := func(bits int64, lasts time.Duration) {
			device.change(func() { device.getters[gpu.GetClocksEventReasons] = []int64{bits} })
			wait(lasts)
		}
		wait(500 * time.Millisecond)
		reasons(0x1, 38*time.Second) // it idles, and then works: no edge
		reasons(0x4, 6*time.Second)  // power cap
		reasons(0x4|0x20, 2*time.Second)
		reasons(0, 15*time.Second)
		s.stop()
		stop()
		rows := s.rowsOf("GPU-0")
		seconds, sum := withEnergy(t, rows)
		// Each second harvest, the minute's row of gpu_health at 17 s, and the edges at 38, 44 and 46 s.
		if want := []int{13, 17, 23, 33, 38, 43, 44, 46, 53}; !slices.Equal(seconds, want) {
			t.Errorf("rows with energy at %v s, want %v", seconds, want)
		}
		last := seconds[len(seconds)-1]
		if want := int64(last) * 1000; sum != want {
			t.Errorf("%d mJ until %d s, want %d", sum, last, want)
		}
		health := s.rows.of(schema.HealthID)
		if len(health) < 2 || !health[1]["energy_millijoules_total"].OK {
			t.Errorf("health without the energy's total: %v", health)
		}
	})
}

// TestAFlickeringPowerCap: a GPU that works a second of each two has its slow fields read out of turn each five ticks, not
// at each.
func TestAFlickeringPowerCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		stop := counting(d.devices[0])
		s := startSampler(t, opening(d), func(c *Config) { c.Flush = 5 * time.Second })
		wait(20*time.Second + 500*time.Millisecond)
		for i := range 40 {
			d.devices[0].change(func() { d.devices[0].getters[gpu.GetClocksEventReasons] = []int64{int64(i%2) * 0x4} })
			wait(time.Second)
		}
		s.stop()
		stop()
		seconds, _ := withEnergy(t, s.rowsOf("GPU-0"))
		flickering := slices.DeleteFunc(seconds, func(s int) bool { return s < 20 })
		if len(flickering) < 40/5 || len(flickering) > 40/5+2 {
			t.Errorf("read at %v s", flickering)
		}
	})
}

// TestCountersStandInForReasons: of a GPU that does not say why its clocks are held down, the counters are read at each
// tick.
func TestCountersStandInForReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		stop := counting(d.devices[0])
		delete(d.devices[0].getters, gpu.GetClocksEventReasons)
		s := startSampler(t, opening(d), func(c *Config) { c.Flush = 5 * time.Second })
		wait(20*time.Second + 500*time.Millisecond)
		s.stop()
		stop()
		rows := s.rowsOf("GPU-0")
		if seconds, sum := withEnergy(t, rows); len(seconds) != len(rows)-1 || sum != int64(len(rows)-1)*1000 {
			t.Errorf("%d of %d rows have energy, %d mJ", len(seconds), len(rows), sum)
		}
	})
}

// TestAnUnansweredSlowReading loses nothing: the next one has it.
func TestAnUnansweredSlowReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		stop := counting(d.devices[0])
		s := startSampler(t, opening(d))
		wait(9*time.Second + 900*time.Millisecond)
		d.devices[0].change(func() { d.devices[0].fails = 3 }) // two ticks: of one of them both calls
		wait(15 * time.Second)
		s.stop()
		stop()
		seconds, sum := withEnergy(t, s.rowsOf("GPU-0"))
		if len(seconds) == 0 || sum != int64(seconds[len(seconds)-1])*1000 {
			t.Errorf("%d mJ at %v", sum, seconds)
		}
	})
}
