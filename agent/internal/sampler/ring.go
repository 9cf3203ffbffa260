// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// harvested are the rings that are read at each tick, with the name of their samples in
// gpu_subsecond.
var harvested = [...]struct {
	kind   gpu.RingKind
	signal string
}{
	{gpu.RingTotalPower, "power_milliwatts"},
	{gpu.RingGPUUtilization, "gpu_utilization_percent"},
}

const ringKinds = len(harvested)

// ringState is how far one ring of one GPU was read.
type ringState struct {
	unsupported bool
	since       uint64           // driver time of the newest sample that was read
	samples     []gpu.RingSample // of this tick
	clock       ringClock
}

// ringClock maps the driver's clock to wall time. The smallest of the latest offsets is the one with
// the least delay between the driver's stamp and our reading of it; older ones are forgotten, so that
// it follows clocks that drift or are set.
type ringClock struct {
	latest             [60]int64 // offsets of harvests, µs
	known, next        int
	offsetMicroseconds int64
}

// align learns from the newest sample of a harvest.
func (c *ringClock) align(newest uint64, now time.Time) {
	offset := now.UnixMicro() - int64(newest)
	// A step of more than a minute is a clock that was set, or a driver that was loaded again.
	if c.known > 0 && offset-c.offsetMicroseconds > time.Minute.Microseconds() {
		c.known, c.next = 0, 0
	}
	c.latest[c.next] = offset
	c.next = (c.next + 1) % len(c.latest)
	c.known = min(c.known+1, len(c.latest))
	c.offsetMicroseconds = slices.Min(c.latest[:c.known])
}

// rawSample is one row of gpu_subsecond.
type rawSample struct {
	signal     string
	wallMicros int64
	driver     uint64
	value      int64
}

// harvest reads the rings and returns the quality bits of the row. QualityRing says that all of the
// GPU's rings were read, and nothing is missing.
func (w *worker) harvest() int64 {
	ring, ok := w.device.(gpu.Ring)
	if !ok {
		return 0
	}
	var quality int64
	complete, read := true, false
	for i := range harvested {
		state := &w.rings[i]
		if state.unsupported {
			continue
		}
		bits, ok := w.harvestOne(ring, i)
		quality |= bits
		complete = complete && (ok && bits == 0 || state.unsupported)
		read = read || ok
	}
	if complete && read {
		quality |= schema.QualityRing
	}
	return quality
}

// harvestOne reads one ring. !ok is a ring that did not answer.
func (w *worker) harvestOne(ring gpu.Ring, i int) (quality int64, ok bool) {
	state := &w.rings[i]
	w.calls += 2 // for the number of samples, and for the samples
	var ret gpu.Return
	before := state.since
	state.samples, ret = ring.Samples(harvested[i].kind, before, state.samples[:0])
	now := w.now()
	switch {
	case ret.Unsupported():
		state.unsupported = true
		return 0, false
	case ret == gpu.NotFound, ret.OK() && len(state.samples) == 0:
		return schema.QualityIdleRing, true
	case !ret.OK():
		return 0, false
	}
	newest := state.samples[len(state.samples)-1].DriverTimeMicroseconds
	state.since = newest
	state.clock.align(newest, now)
	samples := state.samples
	if before == 0 {
		samples = w.latest(samples, &state.clock, now)
	}
	if w.subsecond {
		for _, s := range samples {
			w.raw = append(w.raw, rawSample{
				signal: harvested[i].signal, driver: s.DriverTimeMicroseconds, value: s.Value,
				wallMicros: int64(s.DriverTimeMicroseconds) + state.clock.offsetMicroseconds,
			})
		}
	}
	w.takeRing(harvested[i].kind, samples)
	if before != 0 && gapped(before, samples) {
		return schema.QualityOverrun, true
	}
	return 0, true
}

// latest are the samples of one tick. A ring that is read for the first time holds many more, of a
// time that no row stands for, or that was stored before the agent was started again.
func (w *worker) latest(samples []gpu.RingSample, clock *ringClock, now time.Time) []gpu.RingSample {
	oldest := now.Add(-w.interval).UnixMicro() - clock.offsetMicroseconds
	first := slices.IndexFunc(samples, func(s gpu.RingSample) bool { return int64(s.DriverTimeMicroseconds) > oldest })
	return samples[first:] // the newest is never older
}

// gapped tells that the ring lost samples since the previous harvest: the step to its oldest sample
// is more than three times the usual one.
func gapped(before uint64, samples []gpu.RingSample) bool {
	if len(samples) < 3 || samples[0].DriverTimeMicroseconds <= before {
		return false
	}
	last := samples[len(samples)-1].DriverTimeMicroseconds
	usual := (last - samples[0].DriverTimeMicroseconds) / uint64(len(samples)-1)
	return samples[0].DriverTimeMicroseconds-before > 3*usual
}

// takeRing sets the readings of the metrics that come from a ring.
func (w *worker) takeRing(kind gpu.RingKind, samples []gpu.RingSample) {
	low, high := samples[0].Value, samples[0].Value
	for _, s := range samples[1:] {
		low, high = min(low, s.Value), max(high, s.Value)
	}
	for _, s := range w.plans.second.steps {
		if s.source.Kind != schema.FromRing || s.source.ID != uint32(kind) {
			continue
		}
		value := high
		if s.source.Combine == schema.Min {
			value = low
		}
		w.readings[s.metric] = reading{value: value, ok: true}
	}
}

// cells lays the sample out as the wire columns of gpu_subsecond.
func (r rawSample) cells(id batch.Cell) []batch.Cell {
	return []batch.Cell{
		{Int: r.wallMicros, OK: true},
		id,
		batch.Text(r.signal),
		{Int: int64(r.driver), OK: true},
		{Int: r.value, OK: true},
		{},
		{}, // burst and fault_id
	}
}
