// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// burstable has devices answer what a burst reads.
func burstable(d *fakeDriver) {
	for _, device := range d.devices {
		device.set("DEV_POWER_INSTANT", 0, 123_456)
		device.getters[gpu.GetTemperature] = []int64{61}
		device.getters[gpu.GetClocksEventReasons] = []int64{0}
		device.getters[gpu.GetUtilizationRates] = []int64{97, 40}
	}
}

func withBursts(c *Config) { c.Bursts = Bursts{On: true, For: 10 * time.Second, PerHour: 4} }

// burstRows are the readings of bursts of one GPU and signal.
func (s *testSampler) burstRows(uuid, signal string) (rows []row) {
	for _, r := range s.rows.of(schema.SubsecondID) {
		if uint64(r["gpu_id"].Int) == wire.GPUID(uuid) && r["signal"].Text == signal && r["burst"].Int == 1 {
			rows = append(rows, r)
		}
	}
	return rows
}

// order gives an order that must be obeyed.
func (s *testSampler) order(t *testing.T, o Order) Outcome {
	t.Helper()
	done, err := s.Burst(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// wantOnTime holds the rows of a GPU against ticks that are each answered after so long.
func (s *testSampler) wantOnTime(t *testing.T, uuid string, ticks int, after time.Duration) {
	t.Helper()
	rows := s.rowsOf(uuid)
	if len(rows) != ticks {
		t.Errorf("%s has %d rows in %d ticks", uuid, len(rows), ticks)
	}
	for _, r := range rows[1:] { // the first one comes after the probe
		if got := time.Duration(r["ts"].Int%1000) * time.Millisecond; got != after {
			t.Errorf("%s answers a tick after %s, want %s", uuid, got, after)
		}
	}
	if got := s.Stats().MissedTicks.Load() + s.Stats().SkippedRows.Load(); got != 0 {
		t.Errorf("%d ticks missed or rows skipped", got)
	}
}

func TestABurstReadsAtTenHertz(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(3*time.Second + 500*time.Millisecond)
		done := s.order(t, Order{UUID: "GPU-0", Reason: "a fault"})
		if !slices.Equal(done.Reading, []string{"GPU-0"}) || done.For != 10*time.Second {
			t.Errorf("outcome %+v", done)
		}
		wait(20 * time.Second)
		s.stop()
		for signal, want := range map[string]struct{ reads, value int64 }{
			"power_instant_milliwatts": {100, 123_456}, "temperature_celsius": {100, 61}, "memory_temperature_celsius": {100, 40},
			"clocks_event_reasons": {100, 0}, "gpu_utilization_percent": {50, 97}, "memory_busy_percent": {50, 40}, "sm_clock_megahertz": {0, 0},
		} {
			rows := s.burstRows("GPU-0", signal)
			if int64(len(rows)) != want.reads {
				t.Errorf("%s: %d readings in 10 s, want %d", signal, len(rows), want.reads)
			}
			for i, r := range rows {
				if r["value"].Int != want.value {
					t.Errorf("%s is %d", signal, r["value"].Int)
				}
				if apart := 10_000_000 / want.reads; i > 0 && r["ts"].Int-rows[i-1]["ts"].Int != apart {
					t.Errorf("%s: %d µs between two readings", signal, r["ts"].Int-rows[i-1]["ts"].Int)
				}
				if r["ts"].Int%1_000_000 == 0 {
					t.Errorf("%s is read at a tick", signal)
				}
			}
		}
		if got := len(s.burstRows("GPU-1", "temperature_celsius")); got != 0 {
			t.Errorf("another GPU has %d readings", got)
		}
		s.wantOnTime(t, "GPU-0", 23, 0)
		var told []row
		for _, e := range s.rows.of(schema.EventsID) {
			if e["kind"].Text == "burst_started" {
				told = append(told, e)
			}
		}
		if len(told) != 1 || told[0]["count"].Int != 10 || told[0]["message"].Text != "a fault" || uint64(told[0]["gpu_id"].Int) != wire.GPUID("GPU-0") {
			t.Errorf("events %v", told)
		}
		if got := s.Stats().BurstReads.Load(); got != 100 {
			t.Errorf("%d reads counted", got)
		}
	})
}

// TestASlowDriverIsReadLess: reads that take longer than their period are left out, and no tick waits for one.
func TestASlowDriverIsReadLess(t *testing.T) {
	for _, takes := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 130 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFakeDriver(1)
				burstable(d)
				s := startSampler(t, opening(d), withBursts, func(c *Config) { c.SlowCall = time.Second })
				wait(3*time.Second + 700*time.Millisecond)
				d.devices[0].change(func() { d.devices[0].delay = takes / 4 }) // four calls, of which a tick has one or two
				s.order(t, Order{For: 20 * time.Second})
				wait(30 * time.Second)
				s.stop()
				rows := s.rowsOf("GPU-0")
				if len(rows) != 33 {
					t.Errorf("%d rows in 33 ticks", len(rows))
				}
				for _, r := range rows[4:] {
					if got := time.Duration(r["ts"].Int%1000) * time.Millisecond; got > takes/4 {
						t.Errorf("a tick is answered after %s: it had to wait", got)
					}
				}
				reads, skipped := s.Stats().BurstReads.Load(), s.Stats().BurstReadsSkipped.Load()
				if reads+skipped < 199 || reads+skipped > 200 || skipped == 0 && takes > 50*time.Millisecond {
					t.Errorf("%d reads, %d left out", reads, skipped)
				}
				if reads < 40 {
					t.Errorf("only %d reads in 20 s", reads)
				}
			})
		})
	}
}

// TestATickWaitsForTheReadThatIsInTheDriver, and no row is lost for it.
func TestATickWaitsForTheReadThatIsInTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(3*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: 5 * time.Second})
		wait(430 * time.Millisecond)
		release := d.devices[0].hang()
		wait(150 * time.Millisecond) // 80 ms into the next second
		release()
		wait(3 * time.Second)
		s.stop()
		rows := s.rowsOf("GPU-0")
		if len(rows) != 7 || s.Stats().SkippedRows.Load() != 0 {
			t.Fatalf("%d rows in 7 ticks, %d skipped", len(rows), s.Stats().SkippedRows.Load())
		}
		if got := rows[3]["ts"].Int % 1000; got != 80 {
			t.Errorf("the tick's row is of %d ms after it", got)
		}
	})
}

// TestAReadThatIsHeldUpOnceEndsNoBurst: neither the one that it is of, nor those to come.
func TestAReadThatIsHeldUpOnceEndsNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(3*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: 20 * time.Second})
		wait(130 * time.Millisecond)
		release := d.devices[0].hang()
		wait(1900 * time.Millisecond)
		release()
		wait(time.Second)
		before := s.Stats().BurstReads.Load()
		wait(16 * time.Second)
		if got := s.Stats().BurstReads.Load() - before; got < 100 {
			t.Errorf("%d reads in the last 16 s of the burst", got)
		}
		wait(10 * time.Second)
		s.order(t, Order{For: 5 * time.Second})
		wait(130 * time.Millisecond)
		release = d.devices[0].hang()
		wait(3 * time.Second)
		release()
		wait(10 * time.Second)
		before = s.Stats().BurstReads.Load()
		s.order(t, Order{For: 5 * time.Second})
		wait(10 * time.Second)
		s.stop()
		if got := s.Stats().BurstReads.Load() - before; got != 50 {
			t.Errorf("%d reads of the burst after the one that was held up", got)
		}
	})
}

// TestAGPUThatHangsInABurstIsStuck: it is reported as at any time.
func TestAGPUThatHangsInABurstIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(3*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: 5 * time.Second})
		release := d.devices[1].hang()
		wait(10 * time.Second)
		if _, err := s.Burst(t.Context(), Order{UUID: "GPU-1"}); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("a burst of a GPU that hangs: %v", err)
		}
		release()
		wait(3 * time.Second)
		s.stop()
		events := strings.Join(s.rows.events(), " ")
		if !strings.Contains(events, "gpu_stuck") || !strings.Contains(events, "gpu_recovered") {
			t.Errorf("events %s", events)
		}
		if got := len(s.burstRows("GPU-0", "temperature_celsius")); got != 50 {
			t.Errorf("the other GPU has %d readings", got)
		}
		if got := len(s.rowsOf("GPU-0")); got != 16 {
			t.Errorf("the other GPU has %d rows in 16 ticks", got)
		}
	})
}

func TestBurstsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(2*time.Second + 500*time.Millisecond)
		for range 2 {
			s.order(t, Order{Everyday: true})
			s.order(t, Order{Everyday: true}) // the GPU is in a burst that is long enough
			wait(6 * time.Second)
		}
		if _, err := s.Burst(t.Context(), Order{Everyday: true}); err == nil || !strings.Contains(err.Error(), "2 bursts within an hour") {
			t.Errorf("a third burst for something usual: %v", err)
		}
		for range 2 {
			s.order(t, Order{Reason: "a fault"})
			wait(6 * time.Second)
		}
		for range 3 {
			if _, err := s.Burst(t.Context(), Order{Reason: "a fault"}); err == nil || !strings.Contains(err.Error(), "4 bursts within an hour") {
				t.Errorf("a fifth burst: %v", err)
			}
		}
		wait(time.Minute)
		if got := len(s.burstRows("GPU-0", "temperature_celsius")); got != 280 {
			t.Errorf("%d readings: orders that overlap are one burst", got)
		}
		wait(time.Hour)
		s.order(t, Order{})
		s.stop()
		if got, refused := s.Stats().Bursts.Load(), s.Stats().BurstsRefused.Load(); got != 5 || refused != 4 {
			t.Errorf("%d bursts, %d refused", got, refused)
		}
		told := 0
		for _, kind := range s.rows.events() {
			if kind == "burst_refused" {
				told++
			}
		}
		if told != 2 { // one before the fault, one after
			t.Errorf("%d refusals told", told)
		}
	})
}

func TestOrdersThatCannotBeObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(2*time.Second + 500*time.Millisecond)
		for want, o := range map[string]Order{
			"there is none on this node":  {UUID: "GPU-9"},
			"burst of 1h0m0s: 1s to 1m0s": {For: time.Hour},
			"burst of 1ms: 1s to 1m0s":    {For: time.Millisecond},
		} {
			if _, err := s.Burst(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %s", o, err, want)
			}
		}
		if err := s.Release(t.Context(), "a test"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Burst(t.Context(), Order{}); !errors.Is(err, ErrNotSampling) {
			t.Errorf("without a driver: %v", err)
		}
		s.stop()

		s = startSampler(t, opening(newFakeDriver(1)))
		if _, err := s.Burst(t.Context(), Order{}); !errors.Is(err, ErrBurstsOff) {
			t.Errorf("switched off: %v", err)
		}
		s.stop()
	})
}

// TestABurstThatGoesOnTellsHowLong: the least that is left.
func TestABurstThatGoesOnTellsHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(2*time.Second + 500*time.Millisecond)
		s.order(t, Order{UUID: "GPU-0", For: 20 * time.Second})
		wait(8 * time.Second)
		for _, c := range []struct{ asked, want time.Duration }{{20 * time.Second, 12 * time.Second}, {10 * time.Second, 10 * time.Second}} {
			if done := s.order(t, Order{For: c.asked}); done.For != c.want || len(done.Reading) != 2 {
				t.Errorf("%s asked: %+v, want %s", c.asked, done, c.want)
			}
		}
		s.stop()
	})
}

// TestABurstOfAnInstanceIsRefused: it would read nothing.
func TestABurstOfAnInstanceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 0, 3)
		s := startSampler(t, open, withBursts)
		wait(5*time.Second + 500*time.Millisecond)
		instances := 0
		for uuid, gpu := range s.rows.inventory() {
			if parent := gpu["parent_gpu_uuid"]; parent.OK {
				instances++
				if _, err := s.Burst(t.Context(), Order{UUID: uuid}); err == nil || !strings.Contains(err.Error(), "its GPU, "+parent.Text) {
					t.Errorf("burst of %s: %v", uuid, err)
				}
				s.order(t, Order{UUID: parent.Text})
			}
		}
		s.stop()
		if instances != 1 {
			t.Errorf("%d instances", instances)
		}
	})
}

// TestAProfilerThatIsStartedEndsTheBurst, within about a second; and nobody looks for one where there is no burst to be.
func TestAProfilerThatIsStartedEndsTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		var runs atomic.Pointer[string]
		var looks atomic.Int64
		runs.Store(new(""))
		s := startSampler(t, opening(d), withBursts, func(c *Config) {
			c.Profiler = func() string {
				looks.Add(1)
				wait(200 * time.Millisecond)
				return *runs.Load()
			}
		})
		wait(2*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: time.Minute, Reason: "a fault"})
		wait(10 * time.Second)
		if got := looks.Load(); got < 10 || got > 12 {
			t.Errorf("%d looks in ten seconds", got)
		}
		runs.Store(new("nsys"))
		wait(1300 * time.Millisecond)
		before := s.Stats().BurstReads.Load()
		wait(5 * time.Second)
		if got := s.Stats().BurstReads.Load(); got != before || got < 200 {
			t.Errorf("%d reads beside a profiler, %d before", got-before, before)
		}
		if _, err := s.Burst(t.Context(), Order{}); err == nil || !strings.Contains(err.Error(), "the profiler nsys runs") {
			t.Errorf("a burst beside a profiler: %v", err)
		}
		runs.Store(new(""))
		for range 3 {
			s.order(t, Order{For: time.Second})
			wait(3 * time.Second)
		}
		before = uint64(looks.Load())
		if _, err := s.Burst(t.Context(), Order{}); err == nil || !strings.Contains(err.Error(), "4 bursts within an hour") {
			t.Errorf("a fifth burst: %v", err)
		}
		wait(10 * time.Second)
		s.stop()
		if got := uint64(looks.Load()) - before; got > 0 {
			t.Errorf("%d looks without a burst", got)
		}
		if events := s.rows.events(); count(events, "burst_refused") != 2*2 || count(events, "burst_started") != 2*4 {
			t.Errorf("events %v", events)
		}
		s.wantOnTime(t, "GPU-0", len(s.rowsOf("GPU-0")), 0)
	})
}

// TestNoBurstBesideAProfiler: whether the driver refuses its performance monitoring, or it counts nothing on a GPU
// that works. One that comes in mid-burst ends it.
func TestNoBurstBesideAProfiler(t *testing.T) {
	for name, profile := range map[string]func([]gpu.ProfileValue) gpu.Return{
		"refused": func([]gpu.ProfileValue) gpu.Return { return gpu.InUse },
		"zeros": func(values []gpu.ProfileValue) gpu.Return {
			for i := range values {
				values[i].Return, values[i].Value = gpu.Success, 0
			}
			return gpu.Success
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFakeDriver(1)
				burstable(d)
				device := d.devices[0]
				working := func(values []gpu.ProfileValue) gpu.Return {
					for i := range values {
						values[i].Return, values[i].Value = gpu.Success, 50
					}
					return gpu.Success
				}
				device.profile = working
				s := startSampler(t, opening(d), withBursts)
				wait(2*time.Second + 500*time.Millisecond)
				s.order(t, Order{For: time.Minute})
				device.change(func() { device.profile = profile })
				wait(2 * time.Second)
				before := s.Stats().BurstReads.Load()
				wait(5 * time.Second)
				if got := s.Stats().BurstReads.Load(); got != before || got == 0 {
					t.Errorf("%d reads beside a profiler, %d before", got-before, before)
				}
				if _, err := s.Burst(t.Context(), Order{}); err == nil || !strings.Contains(err.Error(), "a profiler has its counters") {
					t.Errorf("a burst beside a profiler: %v", err)
				}
				device.change(func() { device.profile = working })
				wait(2 * time.Second)
				s.order(t, Order{})
				wait(2 * time.Second)
				s.stop()
				if s.Stats().BurstReads.Load() == before {
					t.Error("no reads after the profiler has gone")
				}
			})
		})
	}
}

// TestSlowdownsAreTold: at once and once each, by the reasons, or by the counters of what was too short for them.
func TestSlowdownsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		const counter = "DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN"
		d.devices[0].set(counter, 0, 0)
		var told []string
		var began time.Time
		s := startSampler(t, opening(d), withBursts, func(c *Config) {
			c.Slowdown = func(uuid string) {
				told = append(told, fmt.Sprintf("%s %.1f s", uuid, time.Since(began).Seconds()))
			}
		})
		wait(20*time.Second + 500*time.Millisecond)
		began = time.Now()
		counted := int64(0)
		slow := func(reasons int64, seconds ...int64) { // the reasons at each of the next ticks, and whether it counts
			for _, gained := range seconds {
				counted += gained * 1_000_000
				d.devices[0].set(counter, 0, counted)
				d.devices[0].change(func() { d.devices[0].getters[gpu.GetClocksEventReasons] = []int64{reasons} })
				wait(time.Second)
			}
		}
		slow(0x40, 1, 1, 1)
		slow(0, 1, 0, 0, 0) // the last of it counts when the reason is gone already
		slow(0x40, 1, 1)
		slow(0, 1, 1, 1, 0, 0, 1, 0, 0, 0) // then more, too short to be seen; the latter is found ten seconds after
		d.devices[1].change(func() { d.devices[1].getters[gpu.GetClocksEventReasons] = []int64{0x40} })
		wait(20 * time.Second)
		s.stop()
		if want := []string{"GPU-0 0.5 s", "GPU-0 7.5 s", "GPU-1 18.5 s", "GPU-0 20.5 s"}; !slices.Equal(told, want) {
			t.Errorf("told of %q, want %q", told, want)
		}
	})
}

// TestASlowdownWithoutACounterIsToldOnce: by its reason.
func TestASlowdownWithoutACounterIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		d.devices[0].set("DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", 0, 5_000)
		told := make(chan string, 16)
		s := startSampler(t, opening(d), withBursts, func(c *Config) { c.Slowdown = func(uuid string) { told <- uuid } })
		reason := func(bits int64) {
			d.devices[0].change(func() { d.devices[0].getters[gpu.GetClocksEventReasons] = []int64{bits} })
			wait(time.Minute)
		}
		wait(20*time.Second + 500*time.Millisecond)
		for _, bits := range []int64{0x8, 0, 0x8, 0x4} { // the last one is the power cap, and everyday
			reason(bits)
		}
		s.stop()
		if len(told) != 2 {
			t.Errorf("told %d times of two slowdowns", len(told))
		}
	})
}

func TestALostGPUEndsItsBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		burstable(d)
		s := startSampler(t, opening(d), withBursts)
		wait(2*time.Second + 500*time.Millisecond)
		s.order(t, Order{})
		wait(time.Second)
		d.devices[0].lose(true)
		wait(20 * time.Second)
		s.stop()
		if got := len(s.burstRows("GPU-0", "temperature_celsius")); got != 10 {
			t.Errorf("the lost GPU has %d readings", got)
		}
		if got := len(s.burstRows("GPU-1", "temperature_celsius")); got != 100 {
			t.Errorf("the other GPU has %d readings", got)
		}
		if !slices.Contains(s.rows.events(), "gpu_lost") {
			t.Errorf("events %v", s.rows.events())
		}
	})
}

// TestALateTickCountsOnceInABurst: two of them are an accident, however many reads lie between.
func TestALateTickCountsOnceInABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		var hook *hookSink
		s := startSampler(t, opening(d), withBursts, func(c *Config) { hook = hooked(c) })
		wait(20*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: 20 * time.Second})
		wait(3 * time.Second)
		for range 2 {
			hook.do(func() { wait(1300 * time.Millisecond) }) // the next tick is late
			wait(3 * time.Second)
		}
		wait(30 * time.Second)
		s.stop()
		if late := s.Stats().LateTicks.Load(); late != 2 {
			t.Fatalf("%d late ticks", late)
		}
		if events := s.rows.events(); count(events, "sampling_reduced") != 0 {
			t.Errorf("events %v: two late ticks are a strain", events)
		}
	})
}

// TestABurstEndsWhenTheDriverIsSlow: its own calls count, and no burst is begun while less is read.
func TestABurstEndsWhenTheDriverIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		burstable(d)
		s := startSampler(t, opening(d), withBursts, func(c *Config) { c.SlowCall = 10 * time.Millisecond })
		wait(3*time.Second + 500*time.Millisecond)
		s.order(t, Order{For: time.Minute})
		d.devices[0].change(func() { d.devices[0].delay = 15 * time.Millisecond })
		wait(15 * time.Second)
		before := s.Stats().BurstReads.Load()
		wait(20 * time.Second)
		if got := s.Stats().BurstReads.Load(); got != before || got < 50 {
			t.Errorf("%d reads, %d before the driver was found slow", got, before)
		}
		if _, err := s.Burst(t.Context(), Order{}); err == nil || !strings.Contains(err.Error(), "the driver is slow") {
			t.Errorf("a burst of a GPU of which less is read: %v", err)
		}
		s.stop()
	})
}
