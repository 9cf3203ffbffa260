// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// ringDevice has rings that a test fills.
type ringDevice struct {
	*fakeDevice
	rings map[gpu.RingKind][]gpu.RingSample
	ret   gpu.Return // of a ring that is not there
	delay func()     // happens in each call
}

func (d *ringDevice) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if d.delay != nil {
		d.delay()
	}
	samples, ok := d.rings[kind]
	if !ok {
		return into, d.ret
	}
	for _, s := range samples {
		if s.DriverTimeMicroseconds > since {
			into = append(into, s)
		}
	}
	return into, gpu.Success
}

// ringWorker reads a device whose clock is now, before its first tick.
func ringWorker(ret gpu.Return, subsecond bool, now *time.Time) (*worker, *ringDevice) {
	d := &ringDevice{fakeDevice: newFakeDriver(1).devices[0], rings: map[gpu.RingKind][]gpu.RingSample{}, ret: ret}
	how := manner{branch: 580, interval: time.Second, subsecond: subsecond, now: func() time.Time { return *now }}
	return newWorker(d, how, 1), d
}

func sampleRow(t *testing.T, w *worker) row {
	t.Helper()
	r := newRecorder()
	if err := r.Append(schema.SamplesID, w.sampleCells); err != nil {
		t.Fatal(err)
	}
	return r.rows[schema.SamplesID][0]
}

func TestFirstHarvestIsOfOneTickAndFillsTheRowWithoutSubsecond(t *testing.T) {
	for _, subsecond := range []bool{false, true} {
		now := time.Unix(1000, 0)
		w, d := ringWorker(gpu.NotSupported, subsecond, &now)
		for i := range uint64(100) { // ten seconds, 100 ms apart, of a power that rises by 1 W
			d.rings[gpu.RingTotalPower] = append(d.rings[gpu.RingTotalPower], gpu.RingSample{DriverTimeMicroseconds: 1 + i*100_000, Value: int64(i * 1000)})
		}
		serve(t, w, request{attach: true})
		r := sampleRow(t, w)
		if r["power_min_watts"].Int != 90 || r["power_max_watts"].Int != 99 {
			t.Errorf("power from %v to %v, want 90 to 99", r["power_min_watts"], r["power_max_watts"])
		}
		want := 0
		if subsecond {
			want = 10
		}
		if len(w.raw) != want {
			t.Errorf("%d samples kept, want %d", len(w.raw), want)
		}
		if r["quality"].Int != schema.QualityRing {
			t.Errorf("quality %d: the one ring that there is was read", r["quality"].Int)
		}
	}
}

func TestQualityOfRings(t *testing.T) {
	for ret, want := range map[gpu.Return]int64{gpu.NotSupported: 0, gpu.NotFound: schema.QualityIdleRing, gpu.Unknown: 0} {
		now := time.Unix(1000, 0)
		w, _ := ringWorker(ret, true, &now)
		serve(t, w, request{attach: true})
		if got := sampleRow(t, w)["quality"].Int; got != want {
			t.Errorf("rings answer %v: quality %d, want %d", ret, got, want)
		}
	}
}

func TestRingIsTwoDriverCalls(t *testing.T) {
	now := time.Unix(1000, 0)
	w, _ := ringWorker(gpu.NotFound, true, &now)
	serve(t, w, request{attach: true})
	serve(t, w, request{})
	if w.calls != 5 {
		t.Errorf("%d driver calls for fields and two rings, want 5", w.calls)
	}
}

func TestRingSampleHasTheTimeAfterTheCall(t *testing.T) {
	now := time.Unix(1000, 0)
	w, d := ringWorker(gpu.NotSupported, true, &now)
	d.delay = func() { now = now.Add(5 * time.Second) }
	d.rings[gpu.RingTotalPower] = []gpu.RingSample{{DriverTimeMicroseconds: 7, Value: 1}}
	serve(t, w, request{attach: true})
	if got, want := w.raw[0].wallMicros, time.Unix(1005, 0).UnixMicro(); got != want {
		t.Errorf("sample at %d, want %d", got, want)
	}
}

func TestRingClockFollowsTheWallClock(t *testing.T) {
	var c ringClock
	start := time.Unix(1000, 0)
	for i := range 200 {
		at := time.Duration(i) * time.Second
		if i >= 100 { // set forward
			at += 5 * time.Second
		}
		c.align(uint64(i)*1_000_000, start.Add(at))
	}
	if want := start.Add(5 * time.Second).UnixMicro(); c.offsetMicroseconds != want {
		t.Errorf("offset is %d µs off, 100 harvests after the clock was set", c.offsetMicroseconds-want)
	}
}
