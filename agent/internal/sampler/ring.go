// SPDX-License-Identifier: Apache-2.0

package sampler

import (
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

// ringClock maps the driver's clock to wall time: the smallest offset seen is the one with the least
// delay between the driver's stamp and our reading of it.
type ringClock struct {
	known              bool
	offsetMicroseconds int64
}

// align learns from the newest sample of a harvest and maps nothing yet known to now.
func (c *ringClock) align(newest uint64, now time.Time) {
	offset := now.UnixMicro() - int64(newest)
	// A step of more than a minute is a clock that was set, or a driver that was loaded again.
	if !c.known || offset < c.offsetMicroseconds || offset-c.offsetMicroseconds > int64(time.Minute/time.Microsecond) {
		c.known, c.offsetMicroseconds = true, offset
	}
}

// rawSample is one row of gpu_subsecond.
type rawSample struct {
	signal     string
	wallMicros int64
	driver     uint64
	value      int64
}

// harvest reads the rings and returns the quality bits of the row.
func (w *worker) harvest(at time.Time) int64 {
	ring, ok := w.device.(gpu.Ring)
	if !ok || !w.subsecond {
		return 0
	}
	var quality int64
	for i := range harvested {
		quality |= w.harvestOne(ring, i, at)
	}
	if quality&(schema.QualityIdleRing|schema.QualityOverrun) == 0 {
		quality |= schema.QualityRing
	}
	return quality
}

func (w *worker) harvestOne(ring gpu.Ring, i int, at time.Time) int64 {
	state := &w.rings[i]
	if state.unsupported {
		return 0
	}
	w.calls++
	var ret gpu.Return
	before := state.since
	state.samples, ret = ring.Samples(harvested[i].kind, before, state.samples[:0])
	if ret.Unsupported() {
		state.unsupported = true
		return 0
	}
	if !ret.OK() || len(state.samples) == 0 {
		return schema.QualityIdleRing
	}
	newest := state.samples[len(state.samples)-1].DriverTimeMicroseconds
	state.since = newest
	state.clock.align(newest, at)
	for _, s := range state.samples {
		w.raw = append(w.raw, rawSample{
			signal: harvested[i].signal, driver: s.DriverTimeMicroseconds, value: s.Value,
			wallMicros: int64(s.DriverTimeMicroseconds) + state.clock.offsetMicroseconds,
		})
	}
	w.takeRing(harvested[i].kind, state.samples)
	if before != 0 && gapped(before, state.samples) {
		return schema.QualityOverrun
	}
	return 0
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
		textCell(r.signal),
		{Int: int64(r.driver), OK: true},
		{Int: r.value, OK: true},
	}
}
