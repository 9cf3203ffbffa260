// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// burstFields are read in a burst in one call, with the signals that they are.
var burstFields = []struct{ field, signal string }{
	{"DEV_POWER_INSTANT", "power_instant_milliwatts"},
	{"DEV_MEMORY_TEMP", "memory_temperature_celsius"},
}

// burstGetters are read with a call each, parts in order. What the driver's rings hold is left to them: they have
// it as often, without a call.
var burstGetters = []struct {
	getter  gpu.Getter
	signals []string
	every   uint64 // reads; the driver measures some no more often
}{
	{gpu.GetTemperature, []string{"temperature_celsius"}, 1},
	{gpu.GetClocksEventReasons, []string{"clocks_event_reasons"}, 1},
	{gpu.GetClockSM, []string{"sm_clock_megahertz"}, 1},
	{gpu.GetClockMemory, []string{"memory_clock_megahertz"}, 5},
	{gpu.GetUtilizationRates, []string{"gpu_utilization_percent", "memory_busy_percent"}, 2},
}

// burstSample is one reading of a burst.
type burstSample struct {
	at     int64 // wall time, µs
	signal string
	value  int64
}

// burstReader is the memory of a worker for reads of a burst. It belongs to its goroutine between a request and the
// result, as the worker does.
type burstReader struct {
	profiler bool // the driver says that somebody else has the GPU's performance monitoring

	reads   uint64
	fields  []gpu.FieldValue
	signals []string // of fields
	samples []burstSample
}

// readBurst reads the few metrics that change within a second. Only a GPU that is gone is a failure: what does not
// answer this time has no sample.
func (w *worker) readBurst() gpu.Return {
	w.calls, w.inDriver, w.burden = 0, 0, burden{}
	b := &w.burst.burstReader
	b.samples = b.samples[:0]
	b.reads++
	if ret := w.readBurstFields(b); stops(ret) {
		return ret
	}
	for _, g := range burstGetters {
		if b.reads%g.every != 0 || !w.burstAsks(g.getter) {
			continue
		}
		started := time.Now()
		ret := w.device.Get(g.getter, &w.parts)
		w.called(gpu.Getters[g.getter].Symbol, 1, started)
		if stops(ret) {
			return ret
		}
		if !ret.OK() {
			continue
		}
		at := w.now().UnixMicro()
		for part, signal := range g.signals {
			b.samples = append(b.samples, burstSample{at, signal, w.parts[part]})
		}
	}
	return gpu.Success
}

func (w *worker) readBurstFields(b *burstReader) gpu.Return {
	b.fields, b.signals = b.fields[:0], b.signals[:0]
	for _, f := range burstFields {
		if id, ok := gpu.FieldID(f.field, w.plans.numbering); ok && w.plans.asksField(id) {
			b.fields, b.signals = append(b.fields, gpu.FieldValue{FieldID: id}), append(b.signals, f.signal)
		}
	}
	if len(b.fields) == 0 {
		return gpu.Success
	}
	started := time.Now()
	ret := w.device.Fields(b.fields)
	w.called(callFields, 1, started)
	if !ret.OK() {
		return ret
	}
	at := w.now().UnixMicro()
	for i := range b.fields {
		if value, ok := b.fields[i].Int(); ok && b.fields[i].Return.OK() {
			b.samples = append(b.samples, burstSample{at, b.signals[i], value})
		}
	}
	return ret
}

// asksField tells that the GPU has a field.
func (p *plans) asksField(id uint32) bool {
	has := func(v gpu.FieldValue) bool { return v.FieldID == id && v.ScopeID == 0 }
	return slices.ContainsFunc(p.second.fields, has) || slices.ContainsFunc(p.slow.fields, has) || slices.ContainsFunc(p.minute.fields, has)
}

// burstAsks tells that the GPU has a getter, and no ring that says the same.
func (w *worker) burstAsks(g gpu.Getter) bool {
	there := slices.ContainsFunc(w.plans.second.getters, func(q question) bool { return q.getter == g })
	inRings := ringsFor(g) & w.plans.rings &^ w.secondary() // of which most samples are not read
	return there && (inRings == 0 || inRings&w.emptyRings() != 0)
}

// ofBurst lays a reading of a burst out as the wire columns of gpu_subsecond.
func (row *subsecondRow) ofBurst(id batch.Cell, s burstSample, clock *driverClock) (table uint8, cells []batch.Cell) {
	row[0] = batch.Number(s.at)
	row[1] = id
	row[2] = batch.Text(s.signal)
	row[3] = batch.Number(clock.driver(s.at))
	row[4] = batch.Number(s.value)
	row[5], row[6] = batch.Number(1), batch.Cell{} // burst and fault_id
	return schema.SubsecondID, row[:]
}

// driver is the driver's time at a wall time, in µs; the wall time itself as long as the driver has shown none.
func (c *driverClock) driver(wall int64) int64 { return wall - c.offset }

var reasonsMetric = sync.OnceValue(func() int {
	return slices.IndexFunc(allMetrics(), func(m metric) bool { return m.Name == "clocks_event_reasons" })
})

// countsThrottling tells that a counter of slowdowns was read.
func (w *worker) countsThrottling() bool {
	return slices.ContainsFunc(slowdowns(), func(i int) bool { return w.readings[i].ok })
}
