// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"sync/atomic"
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
	harvest   bool // also read all rings
	slow      bool // also read the fields that take the driver long
	parts     bool // also look how the GPU is split
	cut       cut  // what is left out
	burst     bool // read what a burst reads, and nothing else
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
	rings    [ringCount]ringState
	parts    gpu.Parts
	stale    bool   // the latest probe failed: do it again
	tick     uint64 // requests so far, for the turns of getters
	harvests uint64 // of all rings so far

	// The result of the latest request.
	request      request
	ret          gpu.Return // anything but Success: nothing was read
	identity     gpu.Identity
	identityRead bool
	sampleCells  []batch.Cell
	healthCells  []batch.Cell
	usage        Usage
	looks        uint64           // at who uses the GPU
	kinds        gpu.ProcessKinds // of contexts that the latest look saw
	instances    []gpu.Device     // MIG instances, if partsRead
	partsRead    bool
	partsKnown   bool
	quality      int64   // bits of the row but for those of rings, which the harvest decides
	snapshots    ringSet // that getters stood in for
	harvested    bool    // all rings were read
	harvestAt    instant // just after a ring gave samples
	newest       uint64  // driver time of the newest of them; 0: none were given
	reset        bool    // a counter went down
	calls        uint64
	spent        time.Duration // from request to result
	inDriver     time.Duration // of it
	burden       burden        // its calls
	cut          cut           // of the request
	profileGap   bool          // performance monitoring was left out since it was last read

	sampleCounters, healthCounters []counter // by metric
	counterEpoch                   int64
	sampleAt, healthAt             time.Time // when the reading came
	lastSample, lastHealth         time.Time
	throttling                     bool   // a throttle counter counted when they were
	reasons                        int64  // of heldReasons, when they were last read
	slowTick                       uint64 // at which slow fields were read
	burst                          burstState

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
	held        hold       // rows that wait for a harvest
	owesHarvest bool       // it was busy when one was due
	owesSlow    bool       // likewise
	owesParts   bool       // it has to look how it is split
	owesProbe   bool       // it has been split otherwise
	rested      bool       // it was left out at the tick before
	parent      *worker    // of a MIG instance; nil of a GPU
	retired     bool       // an instance that is gone
}

// manner is how GPUs are read.
type manner struct {
	branch   int           // of the driver
	interval time.Duration // between ticks
	slow     time.Duration // a call that takes longer is slow
	now      func() time.Time
	clocks   func() instant
	observer *atomic.Pointer[CallObserver] // nil: nobody is told of calls
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

// ends is stops, and of a MIG instance that it is not there any more.
func (w *worker) ends(ret gpu.Return) bool {
	return stops(ret) || w.parent != nil && (ret == gpu.NotFound || ret == gpu.InvalidArgument)
}

// begin forgets the result of the request before.
func (w *worker) begin() {
	w.calls, w.inDriver, w.burden, w.reset, w.identityRead, w.partsRead, w.quality = 0, 0, burden{}, false, false, false, 0
	w.snapshots, w.harvested, w.newest, w.harvestAt = 0, false, 0, instant{}
	for i := range w.rings {
		w.rings[i].outcome, w.rings[i].fellIdle = notAsked, false
	}
	clear(w.readings)
	w.sampleAt, w.healthAt = time.Time{}, time.Time{}
}

func (w *worker) serve(r request) gpu.Return {
	if r.burst {
		return w.readBurst()
	}
	w.begin()
	w.cut = r.cut
	if w.cut > noCut {
		w.quality |= schema.QualityReduced
	}
	if r.attach || r.reprobe || w.stale {
		if ret := w.plan(); w.ends(ret) || r.attach && !ret.OK() {
			return ret
		}
	}
	if r.identity {
		if ret := w.readIdentity(); w.ends(ret) {
			return ret
		}
	}
	if ret := w.readAll(r); w.ends(ret) {
		return ret
	}
	w.fill(r.health)
	if r.parts {
		if ret := w.readParts(); w.ends(ret) {
			return ret
		}
	}
	if r.usage {
		return w.readUsage()
	}
	return gpu.Success
}

// readAll takes all readings of a request. It stops when the GPU is gone.
func (w *worker) readAll(r request) gpu.Return {
	w.tick++
	if ret := w.read(&w.plans.second, callFields, &w.sampleAt); w.ends(ret) {
		return ret
	}
	slow := r.slow || r.attach
	if ret := w.readSlow(slow || r.health); w.ends(ret) {
		return ret
	}
	if ret := w.readProfiles(&w.plans.second, slow, &w.sampleAt); w.ends(ret) {
		return ret
	}
	if r.health {
		if ret := w.read(&w.plans.minute, callMinute, &w.healthAt); w.ends(ret) {
			return ret
		}
		if ret := w.readProfiles(&w.plans.minute, true, &w.healthAt); w.ends(ret) {
			return ret
		}
	}
	if ret := w.harvest(r.harvest || r.attach); w.ends(ret) {
		return ret
	}
	return w.standIn()
}

// identityCalls is about how many driver calls it takes to read what a GPU is.
const identityCalls = 28

func (w *worker) readIdentity() gpu.Return {
	started := time.Now()
	identity, ret := w.device.Identity()
	w.called(callIdentity, identityCalls, started)
	w.identity, w.identityRead = identity, ret.OK()
	return ret
}

// plan probes the GPU. A probe that fails leaves the plans as they are, and is done again at the next
// request.
func (w *worker) plan() gpu.Return {
	started := time.Now()
	chosen, calls, ret := probe(w.device, w.branch)
	w.tally(callProbe, calls, time.Since(started)) // no burden: most of it is not asked again
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

// read carries out a plan but for its profiles, and tells when its first call returned: a call may hang, and what it brings
// is of the time at which it returns. A call that finds the GPU or the driver gone ends it.
func (w *worker) read(p *plan, call string, at *time.Time) gpu.Return {
	if len(p.fields) > 0 {
		ret := w.readFields(p, call)
		*at = w.now()
		if w.ends(ret) {
			return ret
		}
	}
	for _, q := range p.getters {
		if !w.asks(q) {
			continue
		}
		if ret := w.get(p, q); w.ends(ret) {
			return ret
		}
		if at.IsZero() {
			*at = w.now()
		}
	}
	return gpu.Success
}

// readProfiles carries out the rest of a plan; what is slow of it only if that is due.
func (w *worker) readProfiles(p *plan, slow bool, at *time.Time) gpu.Return {
	ret := w.profile(p, slow)
	if at.IsZero() {
		*at = w.now()
	}
	return ret
}

func (w *worker) readFields(p *plan, call string) gpu.Return {
	started := time.Now()
	ret := w.device.Fields(p.fields)
	w.called(call, 1, started)
	if ret.OK() {
		w.takeFields(p)
	}
	return ret
}

// asks tells whether a getter is asked at this tick: at the first one, or when it is its turn.
func (w *worker) asks(q question) bool {
	switch {
	case q.rings == 0:
	case w.cut >= cutRings:
		return standIns[q.getter].due(w.tick)
	case q.getter == gpu.GetUtilizationRates: // each row has it, or a mean over rows would leave out idle ones
		return w.emptyRings()&q.rings != 0
	default:
		return w.emptyRings()&q.rings != 0 && standIns[q.getter].due(w.tick)
	}
	return w.tick == 1 || q.turn.due(w.tick)
}

// standIn asks at once what stands in for rings that were just found empty.
func (w *worker) standIn() gpu.Return {
	var found ringSet
	for i := range w.rings {
		if w.rings[i].fellIdle {
			found |= 1 << i
		}
	}
	if found == 0 {
		return gpu.Success
	}
	for _, q := range w.plans.second.getters {
		if q.rings&found == 0 {
			continue
		}
		if ret := w.get(&w.plans.second, q); stops(ret) {
			return ret
		}
	}
	return gpu.Success
}

// emptyRings are the rings that were empty when they were last read.
func (w *worker) emptyRings() (set ringSet) {
	for i := range w.rings {
		if w.rings[i].idle {
			set |= 1 << i
		}
	}
	return set
}

// ringsFor are the rings that a getter stands in for.
func ringsFor(g gpu.Getter) ringSet {
	switch g {
	case gpu.GetUtilizationRates:
		return ringsOf(uint32(gpu.RingGPUUtilization)) | ringsOf(uint32(gpu.RingMemoryUtilization))
	case gpu.GetClockSM:
		return ringsOf(uint32(gpu.RingProcessorClock))
	case gpu.GetClockMemory:
		return ringsOf(uint32(gpu.RingMemoryClock))
	default:
		return 0
	}
}

func (w *worker) get(p *plan, q question) gpu.Return {
	started := time.Now()
	ret := w.device.Get(q.getter, &w.parts)
	w.called(gpu.Getters[q.getter].Symbol, 1, started)
	if !ret.OK() {
		return ret
	}
	w.snapshots |= ringsFor(q.getter)
	w.takeParts(p, q.getter)
	return ret
}
