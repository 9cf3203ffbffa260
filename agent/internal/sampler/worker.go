// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// request is what a worker is to do next.
type request struct {
	attach   bool // probe the GPU first
	health   bool // also read what is read each minute
	identity bool // also read what seldom changes
}

// reading is what came of the metric at the latest request.
type reading struct {
	value int64 // in the driver's unit; of a bit error rate or a GPM metric the bits of a float64
	bits  int   // width of the counter
	ok    bool
}

// worker reads one GPU. Its goroutine owns it between a request and the result; Run's goroutine
// otherwise.
type worker struct {
	device    gpu.Device
	uuid      string
	id        batch.Cell // gpu_id
	branch    int
	subsecond bool
	now       func() time.Time
	plans     plans
	readings  []reading // by metric
	rings     [ringKinds]ringState
	parts     gpu.Parts

	// The result of the latest request.
	request      request
	ret          gpu.Return // Lost: nothing was read
	identity     gpu.Identity
	identityRead bool
	sampleCells  []batch.Cell
	healthCells  []batch.Cell
	raw          []rawSample
	reset        bool // a counter went down
	calls        uint64
	spent        time.Duration

	sampleCounters, healthCounters []counter // by metric
	counterEpoch                   int64
	lastSample, lastHealth         time.Time

	// Of Run's goroutine.
	requests    chan request
	busy        bool
	since       time.Time // of the request
	lost, stuck bool
	attached    bool
	counted     bool // among the GPUs that answer
}

func newWorker(device gpu.Device, branch int, subsecond bool, now func() time.Time) *worker {
	n := len(allMetrics())
	samples, _ := schema.TableByID(schema.SamplesID)
	health, _ := schema.TableByID(schema.HealthID)
	return &worker{
		device: device, uuid: device.UUID(), id: batch.Cell{Int: int64(wire.GPUID(device.UUID())), OK: true}, branch: branch, subsecond: subsecond, now: now,
		readings: make([]reading, n), sampleCounters: make([]counter, n), healthCounters: make([]counter, n),
		sampleCells:  make([]batch.Cell, len(samples.WireColumns())),
		healthCells:  make([]batch.Cell, len(health.WireColumns())),
		counterEpoch: 1, requests: make(chan request, 1),
	}
}

// run answers requests until there are no more.
func (w *worker) run(results chan<- *worker) {
	for r := range w.requests {
		started := time.Now()
		w.request, w.calls, w.reset, w.identityRead, w.raw = r, 0, false, false, w.raw[:0]
		w.ret = w.serve(r)
		w.spent = time.Since(started)
		results <- w
	}
}

func (w *worker) serve(r request) gpu.Return {
	if r.attach {
		chosen, ret := probe(w.device, w.branch)
		if ret.Lost() {
			return ret
		}
		w.plans = chosen
	}
	if r.identity {
		identity, ret := w.device.Identity()
		if ret.Lost() {
			return ret
		}
		w.identity, w.identityRead = identity, ret.OK()
	}
	clear(w.readings)
	at := w.now()
	if ret := w.read(&w.plans.second); ret.Lost() {
		return ret
	}
	if r.health {
		if ret := w.read(&w.plans.minute); ret.Lost() {
			return ret
		}
	}
	quality := w.harvest(at)
	w.fillSample(at, quality)
	if r.health {
		w.fillHealth(at)
	}
	return gpu.Success
}

// read carries out a plan. Any call's Lost ends it.
func (w *worker) read(p *plan) gpu.Return {
	if len(p.fields) > 0 {
		w.calls++
		ret := w.device.Fields(p.fields)
		if ret.Lost() {
			return ret
		}
		if ret.OK() {
			w.takeFields(p)
		}
	}
	for _, g := range p.getters {
		w.calls++
		ret := w.device.Get(g, &w.parts)
		if ret.Lost() {
			return ret
		}
		if ret.OK() {
			w.takeParts(p, g)
		}
	}
	return w.profile(p)
}

func (w *worker) takeFields(p *plan) {
	for _, s := range p.steps {
		switch s.source.Kind {
		case schema.FromField, schema.FromFieldPerLink:
			w.readings[s.metric] = combine(p.fields[s.first:s.first+s.count], s.source)
		case schema.FromGetter, schema.FromProfile, schema.FromRing:
		}
	}
}

// combine makes one reading of the values of one field. If one of several links does not answer
// there is none: a sum without it would look like a reset.
func combine(values []gpu.FieldValue, source *schema.Source) reading {
	var r reading
	for i := range values {
		v, ok := values[i].Int()
		if !values[i].Return.OK() || !ok {
			return reading{}
		}
		switch {
		case source.Decoding == schema.BitErrorRate:
			rate := max(bitErrorRate(v), math.Float64frombits(uint64(r.value)))
			r.value = int64(math.Float64bits(rate))
		case i == 0:
			r.value = v
		case source.Combine == schema.Max:
			r.value = max(r.value, v)
		case source.Combine == schema.Min:
			r.value = min(r.value, v)
		default:
			r.value += v
		}
		r.bits = values[i].Bits()
	}
	if len(values) > 1 {
		r.bits = 64 // a sum does not wrap where its parts do
	}
	r.ok = len(values) > 0
	return r
}

func (w *worker) takeParts(p *plan, g gpu.Getter) {
	for _, s := range p.steps {
		if s.source.Kind == schema.FromGetter && s.getter == g {
			w.readings[s.metric] = reading{value: w.parts[s.source.Part], bits: 64, ok: true}
		}
	}
}

// profile reads the GPM metrics. A GPU that has none is not asked again.
func (w *worker) profile(p *plan) gpu.Return {
	profiler, ok := w.device.(gpu.Profiler)
	if !ok || len(p.profiles) == 0 {
		return gpu.Success
	}
	w.calls += 2
	_, ret := profiler.Profile(p.profiles)
	if ret.Unsupported() {
		p.profiles = nil
		return gpu.Success
	}
	if !ret.OK() {
		return ret
	}
	for _, s := range p.steps {
		if s.source.Kind != schema.FromProfile {
			continue
		}
		v := p.profiles[s.first]
		if v.Return.OK() && !math.IsNaN(v.Value) && v.Value >= 0 && v.Value < 1<<40 {
			value := int64(math.Round(v.Value * float64(max(s.source.Multiply, 1))))
			w.readings[s.metric] = reading{value: value, ok: true}
		}
	}
	return gpu.Success
}

// level is the reading in the stored unit.
func (w *worker) level(i int, source *schema.Source) batch.Cell {
	r := w.readings[i]
	if !r.ok {
		return batch.Cell{}
	}
	if source.Kind == schema.FromProfile || source.Decoding == schema.BitErrorRate {
		return batch.Cell{Int: r.value, OK: true}
	}
	return batch.Cell{Int: scale(source, r.value), OK: true}
}

// increment is what the counter gained since its previous reading, in the stored unit.
func (w *worker) increment(counters []counter, i int, source *schema.Source) batch.Cell {
	r := w.readings[i]
	if !r.ok {
		return batch.Cell{}
	}
	delta, ok, reset := counters[i].next(r.value, r.bits, func(v int64) int64 { return scale(source, v) })
	w.reset = w.reset || reset
	return batch.Cell{Int: delta, OK: ok}
}

func (w *worker) fillSample(at time.Time, quality int64) {
	cells := w.sampleCells
	clear(cells[sampleHead:])
	for _, s := range w.plans.second.steps {
		m := &allMetrics()[s.metric]
		if m.Kind == schema.Counter {
			cells[m.sample] = w.increment(w.sampleCounters, s.metric, s.source)
		} else {
			cells[m.sample] = w.level(s.metric, s.source)
		}
	}
	if w.reset {
		w.counterEpoch++
	}
	w.head(cells, at, w.lastSample)
	cells[sampleHead-1] = batch.Cell{Int: quality, OK: true}
	w.lastSample = at
}

func (w *worker) fillHealth(at time.Time) {
	cells := w.healthCells
	clear(cells[healthHead:])
	for _, p := range []*plan{&w.plans.second, &w.plans.minute} {
		for _, s := range p.steps {
			m := &allMetrics()[s.metric]
			if m.total >= 0 {
				cells[m.total] = w.level(s.metric, s.source)
			}
			if m.delta >= 0 {
				cells[m.delta] = w.increment(w.healthCounters, s.metric, s.source)
			}
			if m.level >= 0 {
				cells[m.level] = w.level(s.metric, s.source)
			}
		}
	}
	w.head(cells, at, w.lastHealth)
	w.lastHealth = at
}

// Cells before the metrics: time, GPU, interval, counter epoch, and in gpu_samples the quality.
const (
	healthHead = 4
	sampleHead = 5
)

func (w *worker) head(cells []batch.Cell, at, previous time.Time) {
	cells[0] = batch.Cell{Int: at.UnixMilli(), OK: true}
	cells[1] = w.id
	cells[2] = batch.Cell{Int: at.Sub(previous).Milliseconds(), OK: !previous.IsZero()}
	cells[3] = batch.Cell{Int: w.counterEpoch, OK: true}
}
