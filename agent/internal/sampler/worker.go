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
	attach    bool // probe the GPU first
	reprobe   bool // probe the GPU again: links come and go
	health    bool // also read what is read each minute
	identity  bool // also read what seldom changes
	inventory bool // write it even if it has not changed
	usage     bool // also read who uses the GPU
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
	manner
	device   gpu.Device
	uuid     string
	id       batch.Cell // gpu_id
	plans    plans
	readings []reading // by metric
	rings    [ringKinds]ringState
	parts    gpu.Parts
	stale    bool // the latest probe failed: do it again

	// The result of the latest request.
	request      request
	ret          gpu.Return // anything but Success: nothing was read
	identity     gpu.Identity
	identityRead bool
	sampleCells  []batch.Cell
	healthCells  []batch.Cell
	raw          []rawSample
	usage        Usage
	reset        bool // a counter went down
	calls        uint64
	spent        time.Duration

	sampleCounters, healthCounters []counter // by metric
	counterEpoch                   int64
	sampleAt, healthAt             time.Time // when the reading came
	lastSample, lastHealth         time.Time

	// Of Run's goroutine.
	requests    chan request
	busy        bool
	since       time.Time // of the request
	lost, stuck bool
	gone        bool       // the driver does not answer for it
	failed      gpu.Return // of the latest request, to tell each failure once
	attached    bool
	counted     bool       // among the GPUs that answer
	written     batch.Cell // hash of the latest row of gpu_inventory
}

// manner is how GPUs are read.
type manner struct {
	branch    int           // of the driver
	interval  time.Duration // between ticks
	subsecond bool          // keep the samples of rings
	now       func() time.Time
}

func newWorker(device gpu.Device, how manner, epoch int64) *worker {
	n := len(allMetrics())
	samples, _ := schema.TableByID(schema.SamplesID)
	health, _ := schema.TableByID(schema.HealthID)
	return &worker{
		device: device, uuid: device.UUID(), id: batch.Cell{Int: int64(wire.GPUID(device.UUID())), OK: true}, manner: how,
		readings: make([]reading, n), sampleCounters: make([]counter, n), healthCounters: make([]counter, n),
		sampleCells:  make([]batch.Cell, len(samples.WireColumns())),
		healthCells:  make([]batch.Cell, len(health.WireColumns())),
		counterEpoch: epoch, requests: make(chan request, 1),
	}
}

// run answers requests until there are no more.
func (w *worker) run(results chan<- *worker) {
	for r := range w.requests {
		started := time.Now()
		w.request, w.ret = r, w.serve(r)
		w.spent = time.Since(started)
		results <- w
	}
}

// stops tells that there is no sense in further calls: the GPU or its driver is gone.
func stops(ret gpu.Return) bool { return ret.Lost() || ret.Gone() }

func (w *worker) serve(r request) gpu.Return {
	w.calls, w.reset, w.identityRead, w.raw = 0, false, false, w.raw[:0]
	if r.attach || r.reprobe || w.stale {
		if ret := w.plan(); stops(ret) || r.attach && !ret.OK() {
			return ret
		}
	}
	if r.identity {
		identity, ret := w.device.Identity()
		if stops(ret) {
			return ret
		}
		w.identity, w.identityRead = identity, ret.OK()
	}
	clear(w.readings)
	w.sampleAt, w.healthAt = time.Time{}, time.Time{}
	if ret := w.read(&w.plans.second, &w.sampleAt); stops(ret) {
		return ret
	}
	if r.health {
		if ret := w.read(&w.plans.minute, &w.healthAt); stops(ret) {
			return ret
		}
	}
	w.fill(w.harvest(), r.health)
	if r.usage {
		return w.readUsage()
	}
	return gpu.Success
}

// plan probes the GPU. A probe that fails leaves the plans as they are, and is done again at the next
// request.
func (w *worker) plan() gpu.Return {
	chosen, ret := probe(w.device, w.branch)
	w.stale = !ret.OK()
	if w.stale {
		return ret
	}
	for i := range w.readings {
		// A sum over other links than before is another counter.
		if !chosen.sameSource(&w.plans, i) {
			w.sampleCounters[i], w.healthCounters[i] = counter{}, counter{}
		}
	}
	w.plans = chosen
	return ret
}

// read carries out a plan, and tells when its first call returned: a call may hang, and what it brings
// is of the time at which it returns. A call that finds the GPU or the driver gone ends it.
func (w *worker) read(p *plan, at *time.Time) gpu.Return {
	if len(p.fields) > 0 {
		w.calls++
		ret := w.device.Fields(p.fields)
		*at = w.now()
		if stops(ret) {
			return ret
		}
		if ret.OK() {
			w.takeFields(p)
		}
	}
	for _, g := range p.getters {
		w.calls++
		ret := w.device.Get(g, &w.parts)
		if at.IsZero() {
			*at = w.now()
		}
		if stops(ret) {
			return ret
		}
		if ret.OK() {
			w.takeParts(p, g)
		}
	}
	ret := w.profile(p)
	if at.IsZero() {
		*at = w.now()
	}
	return ret
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
