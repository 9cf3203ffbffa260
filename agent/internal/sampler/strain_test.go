// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestWhatIsAStrain(t *testing.T) {
	for name, c := range map[string]struct {
		burden         burden
		strained, calm bool
	}{
		"nothing was read":                    {burden{}, false, false},
		"well":                                {burden{calls: 400, readings: 60}, false, true},
		"p99 just within the bound":           {burden{calls: 400, slow: 4, uneasy: 4, readings: 60}, false, true},
		"p99 above the bound":                 {burden{calls: 400, slow: 5, uneasy: 5, readings: 60}, true, false},
		"p99 above half of the bound":         {burden{calls: 400, slow: 4, uneasy: 5, readings: 60}, false, false},
		"two slow calls among few":            {burden{calls: 50, slow: 2, uneasy: 2, readings: 10}, false, false},
		"one call that hung":                  {burden{calls: 300, slow: 1, uneasy: 1, readings: 45, unheld: 1}, false, true},
		"a tenth of the ticks is not held":    {burden{calls: 400, readings: 60, unheld: 6}, false, true},
		"more than a tenth of them is not":    {burden{calls: 400, readings: 60, unheld: 7}, true, false},
		"two of few ticks were not, but late": {burden{calls: 40, readings: 10, unheld: 2}, false, false},
	} {
		if got := c.burden.isStrained(); got != c.strained {
			t.Errorf("%s: strained %t", name, got)
		}
		if got := c.burden.isCalm(); got != c.calm {
			t.Errorf("%s: calm %t", name, got)
		}
	}
}

// strained lives through a time of readings with a burden each, and gives the times at which the cut changed.
func strained(s *strain, now time.Time, lasts time.Duration, each burden) (end time.Time, cuts []time.Duration) {
	start := now
	each.readings = 1
	for ; now.Sub(start) < lasts; now = now.Add(time.Second) {
		if changed, _ := s.take(now, each); changed {
			cuts = append(cuts, now.Sub(start))
		}
	}
	return now, cuts
}

func TestStrainCutsQuicklyAndRestoresSlowly(t *testing.T) {
	var s strain
	slow, well := burden{calls: 7, slow: 1, uneasy: 1}, burden{calls: 7}
	now, cuts := strained(&s, time.Unix(1e9, 0), 2*time.Minute, slow)
	if want := []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}; !slices.Equal(cuts, want) || s.cut != cutTicks {
		t.Errorf("cuts at %v, to %d", cuts, s.cut)
	}
	now, cuts = strained(&s, now, 10*time.Minute, well)
	if len(cuts) != 3 || s.cut != noCut || cuts[0] < time.Minute || cuts[1]-cuts[0] < time.Minute || cuts[2]-cuts[1] < time.Minute {
		t.Errorf("restored at %v, to %d: want a minute of calm before each", cuts, s.cut)
	}

	// Each time that more was too much, it takes longer, up to a bound.
	var took []time.Duration
	for range 6 {
		now, _ = strained(&s, now, 11*time.Second, slow)
		calm := now
		for s.cut != noCut {
			now, _ = strained(&s, now, time.Second, well)
		}
		took = append(took, now.Sub(calm).Round(time.Minute))
	}
	if want := []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 16 * time.Minute, 16 * time.Minute}; !slices.Equal(took, want) {
		t.Errorf("restored after %v, want %v", took, want)
	}
	now, _ = strained(&s, now, relapseWithin+time.Minute, well)
	if strained(&s, now, 11*time.Second, slow); s.patience != firstPatience {
		t.Errorf("patience of %s for what is no relapse", s.patience)
	}
}

func TestStrainBetweenTheBoundsChangesNothing(t *testing.T) {
	var s strain
	now, _ := strained(&s, time.Unix(1e9, 0), 11*time.Second, burden{calls: 7, slow: 1, uneasy: 1})
	if s.cut != cutRings {
		t.Fatalf("cut %d", s.cut)
	}
	if _, cuts := strained(&s, now, time.Hour, burden{calls: 7, uneasy: 1}); len(cuts) > 0 {
		t.Errorf("changed at %v: calls take longer than half the bound", cuts)
	}
}

// TestSlowDriverIsReadLess: of the one GPU that is slow, bit by bit, and all again when it is well.
func TestSlowDriverIsReadLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(2)
		slow := d.devices[1]
		slow.profile = func(values []gpu.ProfileValue) gpu.Return {
			for i := range values {
				values[i].Return, values[i].Value = gpu.Success, 50
			}
			return gpu.Success
		}
		s := startSampler(t, opening(d))
		wait(20*time.Second + 500*time.Millisecond)
		slow.change(func() { slow.delay = 60 * time.Millisecond })
		wait(time.Minute)
		if got := s.Stats().Reduced.Cut(); got != 3 || s.Stats().Reduced.GPUs() != 1 {
			t.Errorf("cut %d of %d GPUs, want the deepest of one", got, s.Stats().Reduced.GPUs())
		}
		before := len(s.rowsOf("GPU-1"))
		wait(20 * time.Second)
		rows := s.rowsOf("GPU-1")
		if got := len(rows) - before; got != 10 {
			t.Errorf("%d rows in 20 ticks, want every second", got)
		}
		last := rows[len(rows)-1]
		if last["sm_active_permille"].OK || last["interval_milliseconds"].Int != 2000 || !last["memory_temperature_celsius"].OK || last["quality"].Int&schema.QualityReduced == 0 {
			t.Errorf("row of every second tick: %v", last)
		}
		slow.change(func() { slow.delay = 0 })
		wait(6 * time.Minute)
		s.stop()
		events := s.rows.events()
		if count(events, "sampling_reduced") != 3 || count(events, "sampling_restored") != 1 {
			t.Errorf("events %v: want three cuts and one end", events)
		}
		for _, e := range s.rows.of(schema.EventsID) {
			if kind := e["kind"].Text; kind == "sampling_reduced" && uint64(e["gpu_id"].Int) != wire.GPUID("GPU-1") {
				t.Errorf("event %v of another GPU", e)
			}
		}
		if got := len(s.rowsOf("GPU-0")); got != 20+60+20+360 {
			t.Errorf("the GPU that is well has %d rows in 460 ticks", got)
		}
		rows = s.rowsOf("GPU-1")
		if last := rows[len(rows)-1]; last["sm_active_permille"].Int != 500 || last["interval_milliseconds"].Int != 1000 {
			t.Errorf("row after all was well again: %v", last)
		}
		if got := s.Stats().Reduced.GPUs(); got != 0 {
			t.Errorf("%d GPUs are read less", got)
		}
	})
}

// TestHealthIsReadAtHalfTheTicks: what is due at a tick is not left out.
func TestHealthIsReadAtHalfTheTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(1)
		d.devices[0].delay = 60 * time.Millisecond
		s := startSampler(t, opening(d), func(c *Config) { c.HealthInterval = 5 * time.Second })
		wait(time.Minute + 500*time.Millisecond)
		before := len(s.rows.of(schema.HealthID))
		wait(time.Minute)
		s.stop()
		if got := len(s.rows.of(schema.HealthID)) - before; got != 12 {
			t.Errorf("%d rows of gpu_health in a minute, want one each 5 s", got)
		}
	})
}

// hookSink runs what a test asks for in Run's goroutine.
type hookSink struct {
	*recorder
	hooks chan func()
}

func hooked(c *Config) *hookSink {
	h := &hookSink{recorder: c.Sink.(*recorder), hooks: make(chan func(), 1)}
	c.Sink = h
	return h
}

// do returns when f has run, at the next tick.
func (h *hookSink) do(f func()) {
	done := make(chan struct{})
	h.hooks <- func() { f(); close(done) }
	<-done
}

func (h *hookSink) FlushDue(now time.Time) error {
	select {
	case f := <-h.hooks:
		f()
	default:
	}
	return h.recorder.FlushDue(now)
}

// TestRingsThatWereLeftOut: while they are, getters stand in; later they begin anew, with no sample of the gap.
func TestRingsThatWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		var hook *hookSink
		s := startSampler(t, open, func(c *Config) { c.Flush, hook = 5*time.Second, hooked(c) })
		wait(20*time.Second + 500*time.Millisecond)
		driver := node.Driver()
		devices, _ := driver.Devices()
		uuid := devices[0].UUID()
		driver.Close()
		hook.do(func() { s.known[uuid].strain = strain{cut: cutGPM, patience: time.Hour} })
		cutAt := len(s.rowsOf(uuid))
		wait(30 * time.Second)
		hook.do(func() { s.known[uuid].strain = strain{} })
		wait(20 * time.Second)
		s.stop()
		rows := s.rowsOf(uuid)
		var told int
		for _, r := range rows[cutAt+6 : cutAt+26] {
			if r["power_max_watts"].OK || r["sm_active_permille"].OK || r["quality"].Int&schema.QualityRing != 0 {
				t.Errorf("row while rings and GPM are left out: %v", r)
			}
			if r["gpu_utilization_permille"].OK {
				told++
			}
		}
		if told != 10 {
			t.Errorf("the utilisation is told in %d of 20 rows, want every second", told)
		}
		last := rows[len(rows)-6]
		if last["quality"].Int&^schema.QualitySnapshot != schema.QualityRing || !last["power_max_watts"].OK || !last["sm_active_permille"].OK {
			t.Errorf("row after rings and GPM are read again: %v", last)
		}
		var gap int
		for _, sample := range s.rows.of(schema.SubsecondID) {
			if uint64(sample["gpu_id"].Int) == wire.GPUID(uuid) && sample["ts"].Int/1e6 > rows[cutAt+6]["ts"].Int/1e3 && sample["ts"].Int/1e6 < rows[cutAt+24]["ts"].Int/1e3 {
				gap++
			}
		}
		if gap > 0 {
			t.Errorf("%d samples of the time in which rings were left out", gap)
		}
	})
}

// TestWindowOverAGapIsNone: the first window after performance monitoring was left out covers the gap.
func TestWindowOverAGapIsNone(t *testing.T) {
	d := newFakeDriver(1)
	d.devices[0].profile = func(values []gpu.ProfileValue) gpu.Return {
		for i := range values {
			values[i].Return, values[i].Value = gpu.Success, 50
		}
		return gpu.Success
	}
	w := newWorker(d.devices[0], manner{branch: 580, interval: time.Second, slow: slowCall, now: time.Now, clocks: clocksSince(time.Now())}, 1)
	active := cellIndex(schema.SamplesID)["sm_active_permille"]
	for i, c := range []struct {
		cut     cut
		there   bool
		quality int64
	}{{noCut, true, 0}, {cutGPM, false, schema.QualityReduced}, {cutTicks, false, schema.QualityReduced}, {noCut, false, schema.QualityProfileWindow}, {noCut, true, 0}} {
		if ret := w.serve(request{attach: i == 0, cut: c.cut}); !ret.OK() {
			t.Fatal(ret)
		}
		if w.sampleCells[active].OK != c.there || w.quality != c.quality {
			t.Errorf("reading %d: there %t, quality %d", i, w.sampleCells[active].OK, w.quality)
		}
	}
}

// TestPartsShareTheStrainOfTheirGPU: one board, one judgement.
func TestPartsShareTheStrainOfTheirGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.H100)
		split(t, node, 0, 3, 3)
		var hook *hookSink
		s := startSampler(t, open, func(c *Config) { hook = hooked(c) })
		wait(10*time.Second + 500*time.Millisecond)
		for uuid, gpu := range s.rows.inventory() {
			if gpu["gpu_index"].OK && gpu["gpu_index"].Int == 0 {
				hook.do(func() { s.known[uuid].strain = strain{cut: cutTicks, patience: time.Hour} })
			}
		}
		before := map[string]int{}
		for uuid := range s.rows.inventory() {
			before[uuid] = len(s.rowsOf(uuid))
		}
		wait(20 * time.Second)
		s.stop()
		var halved int
		for uuid, rows := range before {
			if len(s.rowsOf(uuid))-rows < 15 {
				halved++
			}
		}
		if halved != 3 {
			t.Errorf("%d GPUs and instances are read at half the ticks, want one GPU and its two", halved)
		}
	})
}

// TestLateTicksCutEveryGPU: the process is short of CPU.
func TestLateTicksCutEveryGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(3)
		s := startSampler(t, opening(d), func(c *Config) { c.Sink = &slowSink{recorder: c.Sink.(*recorder)} })
		wait(2 * time.Minute)
		s.stop()
		if got := s.Stats().Reduced.GPUs(); got != 3 {
			t.Errorf("%d GPUs are read less, want all", got)
		}
	})
}

// slowSink holds each tick up.
type slowSink struct{ *recorder }

func (s *slowSink) FlushDue(now time.Time) error {
	wait(1200 * time.Millisecond)
	return s.recorder.FlushDue(now)
}

func TestCallsHaveKnownNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, open := simulated(t, sim.A100)
		split(t, node, 0, 3, 3)
		s := startSampler(t, open, func(c *Config) { c.Usage, c.UsageInterval = func(Usage) {}, 5*time.Second })
		names := CallNames()
		told := make(chan string, 1<<16)
		s.Stats().ObserveCalls(func(call string, _ time.Duration) { told <- call })
		wait(time.Minute + 500*time.Millisecond)
		if err := node.Inject(sim.Fault{Kind: sim.SplitGPU, GPU: 1, Sevenths: []int{3}}); err != nil { // it is probed again
			t.Fatal(err)
		}
		wait(5 * time.Second)
		s.stop()
		close(told)
		seen := map[string]int{}
		for call := range told {
			seen[call]++
			if !slices.Contains(names, call) {
				t.Fatalf("call %q is not among the names", call)
			}
		}
		for _, name := range []string{callFields, callSamples, callParts, callProcesses, callIdentity, callProbe, "nvmlDeviceGetMemoryInfo_v2"} {
			if seen[name] == 0 {
				t.Errorf("no call %s: %v", name, seen)
			}
		}
	})
}
