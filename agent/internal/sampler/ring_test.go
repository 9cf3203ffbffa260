// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// ringDevice has rings that a test fills.
type ringDevice struct {
	*fakeDevice
	rings map[gpu.RingKind][]gpu.RingSample
	ret   gpu.Return // of a ring that is not there
	delay func()     // happens in each call
	read  map[gpu.RingKind]int
}

func newRingDevice(d *fakeDevice, ret gpu.Return) *ringDevice {
	return &ringDevice{fakeDevice: d, rings: map[gpu.RingKind][]gpu.RingSample{}, ret: ret, read: map[gpu.RingKind]int{}}
}

func (d *ringDevice) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if ret := d.enter(); !ret.OK() {
		return into, ret
	}
	if d.delay != nil {
		d.delay()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read[kind]++
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

// node is a worker and what Run's goroutine does with its rows, at a time that a test sets.
type node struct {
	*session
	*worker
	device *ringDevice
	rows   *recorder
	now    time.Time
	kept   map[gpu.RingKind]kept
}

// kept is what a ring holds at each time.
type kept struct {
	depth  int
	period time.Duration
}

// newNode reads a device whose missing rings answer ret. Its driver stamps with a clock of the machine.
func newNode(ret gpu.Return, change ...func(*Config)) *node {
	n := &node{device: newRingDevice(newFakeDriver(1).devices[0], ret), rows: newRecorder(), now: time.Unix(1000, 0), kept: map[gpu.RingKind]kept{}}
	cfg := Config{Interval: time.Second, Flush: 5 * time.Second, Subsecond: true, Sink: n.rows}
	for _, c := range change {
		c(&cfg)
	}
	n.session = &session{Sampler: New(cfg), clock: newDriverClock()}
	how := manner{branch: 580, interval: time.Second, now: func() time.Time { return n.now }, clocks: n.instant}
	n.worker = newWorker(n.device, how, 1)
	return n
}

func (n *node) instant() instant {
	now := wallInstant(n.now, time.Unix(0, 0))
	now[boottime], now[monotonic] = n.driverTime(n.now), n.driverTime(n.now)
	return now
}

// driverTime is what the driver's clock shows at a time.
func (n *node) driverTime(at time.Time) int64 { return at.UnixMicro() - 900_000_000 }

// fill has a ring hold the samples of the last while, a period apart; the value is the number of the sample.
func (n *node) fill(kind gpu.RingKind, depth int, period time.Duration) {
	n.kept[kind] = kept{depth, period}
	newest := n.now.UnixNano() / int64(period)
	samples := make([]gpu.RingSample, depth)
	for i := range samples {
		number := newest - int64(depth-1-i)
		samples[i] = gpu.RingSample{DriverTimeMicroseconds: uint64(n.driverTime(time.Unix(0, number*int64(period)))), Value: number}
	}
	n.device.rings[kind] = samples
}

// empty has a ring hold nothing.
func (n *node) empty(kind gpu.RingKind) {
	delete(n.kept, kind)
	delete(n.device.rings, kind)
}

// tick lets a second pass and reads.
func (n *node) tick(t *testing.T, r request) {
	t.Helper()
	n.now = n.now.Add(time.Second)
	for kind, k := range n.kept {
		n.fill(kind, k.depth, k.period)
	}
	n.serve(t, r)
}

func (n *node) serve(t *testing.T, r request) {
	t.Helper()
	serve(t, n.worker, r)
	if err := n.takeSample(n.worker); err != nil {
		t.Fatal(err)
	}
}

// samples are the rows of gpu_samples that were given out.
func (n *node) samples() []row { return n.rows.of(schema.SamplesID) }

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
		n := newNode(gpu.NotSupported, func(c *Config) { c.Subsecond = subsecond })
		n.fill(gpu.RingTotalPower, 100, 100*time.Millisecond)
		for i := range n.device.rings[gpu.RingTotalPower] { // 0 W to 99 W
			n.device.rings[gpu.RingTotalPower][i].Value = int64(i * 1000)
		}
		n.serve(t, request{attach: true})
		r := n.samples()[0]
		if r["power_min_watts"].Int != 90 || r["power_max_watts"].Int != 99 || r["power_mean_watts"].Int != 95 {
			t.Errorf("power from %v to %v, mean %v, want 90 to 99, mean 95", r["power_min_watts"], r["power_max_watts"], r["power_mean_watts"])
		}
		want := 0
		if subsecond {
			want = 10
		}
		if got := len(n.rows.of(schema.SubsecondID)); got != want {
			t.Errorf("%d samples kept, want %d", got, want)
		}
		if r["quality"].Int != schema.QualityRing {
			t.Errorf("quality %d: the one ring that there is was read", r["quality"].Int)
		}
	}
}

// TestOneHarvestFillsTheRowsOfManyTicks: each driver sample is in the row of its time, and in no other.
func TestOneHarvestFillsTheRowsOfManyTicks(t *testing.T) {
	n := newNode(gpu.NotSupported)
	n.fill(gpu.RingTotalPower, 100, 100*time.Millisecond)
	n.serve(t, request{attach: true})
	for tick := range 15 {
		n.tick(t, request{harvest: tick%5 == 4})
		if want := 1 + (tick+1)/5*5; len(n.samples()) != want {
			t.Fatalf("%d rows given out after %d ticks, want %d", len(n.samples()), tick+2, want)
		}
	}
	for i, r := range n.samples()[1:] {
		at := int64(1001+i) * 10 // number of the sample that was taken as the row was read
		low, high := scaleBy1000(at-9), scaleBy1000(at)
		if r["power_min_watts"].Int != low || r["power_max_watts"].Int != high || r["quality"].Int != schema.QualityRing {
			t.Errorf("row %d has power from %v to %v, want %d to %d; quality %d", i, r["power_min_watts"], r["power_max_watts"], low, high, r["quality"].Int)
		}
	}
	if got := n.device.read[gpu.RingTotalPower]; got != 1+1+3 { // the probe, the first row, and each fifth
		t.Errorf("the ring was read %d times", got)
	}
	raw := n.rows.of(schema.SubsecondID)
	if len(raw) != 160 {
		t.Fatalf("%d samples kept in 16 seconds of 10", len(raw))
	}
	for i, s := range raw[1:] {
		if step := s["ts"].Int - raw[i]["ts"].Int; step != 100_000 {
			t.Errorf("samples %d and %d are %d µs apart", i, i+1, step)
		}
	}
}

func scaleBy1000(v int64) int64 { return scale(&schema.Source{Divide: 1000}, v) }

func TestQualityOfRings(t *testing.T) {
	for ret, want := range map[gpu.Return]int64{gpu.NotSupported: 0, gpu.NotFound: schema.QualityIdleRing, gpu.Unknown: 0} {
		n := newNode(ret)
		n.serve(t, request{attach: true})
		if got := n.samples()[0]["quality"].Int; got != want {
			t.Errorf("rings answer %v: quality %d, want %d", ret, got, want)
		}
	}
}

func TestRingIsOneDriverCall(t *testing.T) {
	n := newNode(gpu.NotFound)
	n.serve(t, request{attach: true})
	for i := 1; i <= 2*secondaryTurn; i++ {
		n.tick(t, request{harvest: true})
		want := uint64(1 + ringCount)
		if i%secondaryTurn != 0 { // the memory's clock is left out
			want--
		}
		if n.calls != want {
			t.Errorf("harvest %d: %d driver calls for fields and %d rings, want %d", i, n.calls, ringCount, want)
		}
	}
	n.tick(t, request{})
	if n.calls != 1 {
		t.Errorf("%d driver calls for a tick without a harvest, want 1", n.calls)
	}
}

// TestIdleGPUIsReadAsASnapshot: what the rings do not tell is asked at once, and at each tick until they do.
func TestIdleGPUIsReadAsASnapshot(t *testing.T) {
	n := newNode(gpu.NotFound)
	n.device.getters[gpu.GetUtilizationRates] = []int64{0, 3}
	n.fill(gpu.RingGPUUtilization, 20, 200*time.Millisecond)
	n.fill(gpu.RingMemoryUtilization, 20, 200*time.Millisecond)
	utilization := func() []int64 {
		var list []int64
		for _, r := range n.samples() {
			list = append(list, r["gpu_utilization_permille"].Int, r["quality"].Int&(schema.QualitySnapshot|schema.QualityIdleRing))
		}
		n.rows.rows[schema.SamplesID] = nil
		return list
	}
	n.serve(t, request{attach: true})
	busy := n.now.UnixNano() / int64(200*time.Millisecond) * 10
	if got := utilization(); got[0] != busy || got[1]&schema.QualitySnapshot != 0 {
		t.Errorf("a busy GPU has %v, want its newest sample %d", got, busy)
	}
	n.empty(gpu.RingGPUUtilization)
	n.empty(gpu.RingMemoryUtilization)
	n.tick(t, request{harvest: true})
	n.tick(t, request{})
	n.tick(t, request{harvest: true})
	both := int64(schema.QualitySnapshot | schema.QualityIdleRing)
	if got := utilization(); len(got) != 6 || got[1] != both || got[3] != both || got[5] != both || got[0]+got[2]+got[4] != 0 {
		t.Errorf("rows of an idle GPU have utilisation and quality %v, want 0 and %d", got, both)
	}
	n.fill(gpu.RingGPUUtilization, 20, 200*time.Millisecond)
	n.fill(gpu.RingMemoryUtilization, 20, 200*time.Millisecond)
	n.tick(t, request{harvest: true})
	if got := utilization(); got[0] == 0 || got[1]&schema.QualitySnapshot != 0 {
		t.Errorf("a GPU that woke up has %v", got)
	}
	n.tick(t, request{})
	if n.calls != 1 {
		t.Errorf("%d calls: the snapshot is asked for although the rings tell", n.calls)
	}
}

// TestShortRingIsReadMoreOften: nothing is overwritten, from the first second on, in a ring that was full then and in one
// that fills up.
func TestShortRingIsReadMoreOften(t *testing.T) {
	for name, first := range map[string]int{"full": 30, "fills up": 7} {
		n := newNode(gpu.NotSupported)
		n.fill(gpu.RingTotalPower, first, 100*time.Millisecond)
		n.serve(t, request{attach: true})
		reads := n.device.read[gpu.RingTotalPower]
		for tick := range 120 {
			n.kept[gpu.RingTotalPower] = kept{min(30, first+10*(tick+1)), 100 * time.Millisecond}
			n.tick(t, request{harvest: tick%5 == 4})
			for _, r := range n.samples() {
				if r["quality"].Int&schema.QualityOverrun != 0 || tick > 0 && !r["power_mean_watts"].OK {
					t.Errorf("%s: samples are overwritten after %d ticks", name, tick)
				}
			}
			n.rows.rows[schema.SamplesID] = nil
		}
		if reads = n.device.read[gpu.RingTotalPower] - reads; reads > 100 {
			t.Errorf("%s: %d reads in 120 ticks", name, reads)
		}
	}
}

func TestOverrunMarksTheRowsThatLackSamples(t *testing.T) {
	n := newNode(gpu.NotSupported)
	n.fill(gpu.RingTotalPower, 30, 100*time.Millisecond)
	n.serve(t, request{attach: true})
	n.worker.rings[0].period = 0 // as if it had given one sample: it is not known to be short
	for tick := range 5 {
		n.tick(t, request{harvest: tick == 4}) // the ring holds the last three seconds
	}
	var marks []bool
	for _, r := range n.samples()[1:6] {
		marks = append(marks, r["quality"].Int&schema.QualityOverrun != 0)
	}
	for i, want := range []bool{true, true, true, false, false} {
		if marks[i] != want {
			t.Errorf("rows of five seconds are marked %v, the first two lack all samples, and the third one may", marks)
			break
		}
	}
}

func TestRingSampleHasTheTimeAfterTheCall(t *testing.T) {
	n := newNode(gpu.NotSupported)
	n.worker.clocks = func() instant { return wallInstant(n.now, time.Unix(0, 0)) } // the driver has a clock of its own
	n.device.rings[gpu.RingTotalPower] = []gpu.RingSample{{DriverTimeMicroseconds: 7, Value: 1}}
	n.device.delay = func() { n.now = n.now.Add(5 * time.Second) }
	n.serve(t, request{attach: true})
	probed := time.Duration(ringCount) * 5 * time.Second
	if got, want := n.rows.of(schema.SubsecondID)[0]["ts"].Int, time.Unix(1005, 0).Add(probed).UnixMicro(); got != want {
		t.Errorf("sample at %d, want %d", got, want)
	}
}

func TestRowsOfALostGPUAreNotKept(t *testing.T) {
	n := newNode(gpu.NotSupported)
	n.fill(gpu.RingTotalPower, 100, 100*time.Millisecond)
	n.serve(t, request{attach: true})
	n.tick(t, request{})
	n.tick(t, request{})
	if err := n.giveRows(n.worker); err != nil {
		t.Fatal(err)
	}
	rows := n.samples()
	if len(rows) != 3 {
		t.Fatalf("%d rows of 3", len(rows))
	}
	if c, ok := rows[2]["power_max_watts"]; ok || rows[2]["quality"].Int != 0 {
		t.Errorf("a row without a harvest has power %d and quality %d", c.Int, rows[2]["quality"].Int)
	}
}

// TestARingThatIsNeverFilled: there are drivers that have a ring of the clock and put nothing into it. The others hold
// all the same every sample.
func TestARingThatIsNeverFilled(t *testing.T) {
	n := newNode(gpu.NotFound)
	n.fill(gpu.RingTotalPower, 100, 100*time.Millisecond)
	n.serve(t, request{attach: true})
	for tick := range 10 {
		n.tick(t, request{harvest: tick%5 == 4})
	}
	rows := n.samples()
	if got := rows[len(rows)-1]["quality"].Int; got != schema.QualityRing {
		t.Errorf("quality %d, want %d", got, schema.QualityRing)
	}
	n.empty(gpu.RingTotalPower) // of a GPU that has fallen idle, it tells
	for tick := range 10 {
		n.tick(t, request{harvest: tick%5 == 4})
	}
	rows = n.samples()
	if got := rows[len(rows)-1]["quality"].Int; got != schema.QualityIdleRing {
		t.Errorf("quality %d of an idle GPU, want %d", got, schema.QualityIdleRing)
	}
}

func TestHoldAllocatesNothing(t *testing.T) {
	n := newNode(gpu.NotSupported)
	n.fill(gpu.RingTotalPower, 100, 100*time.Millisecond)
	n.serve(t, request{attach: true})
	var h hold
	give := func([]batch.Cell) error { return nil }
	if allocated := testing.AllocsPerRun(100, func() {
		h.add(n.worker)
		h.merge(0, n.device.rings[gpu.RingTotalPower], &n.session.clock)
		h.judge(&n.worker.rings)
		_ = h.release(give)
	}); allocated > 0 {
		t.Errorf("%.0f allocations a row", allocated)
	}
}
