// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// rings are the driver's ring buffers that are harvested, with the name of their samples in
// gpu_subsecond.
var rings = [...]ring{
	{gpu.RingTotalPower, "power_milliwatts"},
	{gpu.RingGPUUtilization, "gpu_utilization_percent"},
	{gpu.RingMemoryUtilization, "memory_busy_percent"},
	{gpu.RingProcessorClock, "sm_clock_megahertz"},
	{gpu.RingMemoryClock, "memory_clock_megahertz"},
	{gpu.RingModulePower, "module_power_milliwatts"},
}

type ring struct {
	kind   gpu.RingKind
	signal string
}

const ringCount = len(rings)

// ringSet is a set of rings, one bit each by its index.
type ringSet uint8

func (s ringSet) has(ring int) bool { return s>>ring&1 == 1 }

// ringsOf is the ring with the driver's number, if it is harvested.
func ringsOf(kind uint32) ringSet {
	i := slices.IndexFunc(rings[:], func(r ring) bool { return uint32(r.kind) == kind })
	if i < 0 {
		return 0
	}
	return 1 << i
}

// askRings tells which rings a GPU has. An empty one is there.
func askRings(device gpu.Device) (ringSet, gpu.Return) {
	ring, ok := device.(gpu.Ring)
	if !ok {
		return 0, gpu.Success
	}
	var there ringSet
	var scratch []gpu.RingSample
	for i := range rings {
		samples, ret := ring.Samples(rings[i].kind, 0, scratch[:0])
		scratch = samples
		if stops(ret) {
			return 0, ret
		}
		if !ret.Unsupported() {
			there |= 1 << i
		}
	}
	return there, gpu.Success
}

// outcome is what came of a ring at a request.
type outcome uint8

const (
	notAsked   outcome = iota
	whole              // samples holds all since the harvest before
	overrun            // samples holds what was not overwritten since
	empty              // the ring holds nothing new: the GPU idles
	unanswered         // the call failed
)

// ringState is how far one ring of one GPU was read.
type ringState struct {
	since    uint64           // driver time of the newest sample that was read
	before   uint64           // since, before the latest harvest
	samples  []gpu.RingSample // of the latest harvest
	outcome  outcome          // of the latest request
	idle     bool             // the ring was empty when it was last read
	fellIdle bool             // it became so at the latest request
	read     time.Time        // when that was

	most   int       // samples that it gave at once
	sized  bool      // most is what it holds
	active time.Time // when it first gave samples
	period uint64    // between two samples, µs; 0: unknown
}

// sizeAfter is how long a GPU has worked when its rings are read whole once more: they are full by then.
const sizeAfter = 30 * time.Second

// overdue tells whether samples would be overwritten if the ring were not read before the next tick, or before
// one that is half a tick late. Until the ring was measured it is taken to hold no more than it gave at once: of a GPU
// that worked before it was first read that is all.
func (s *ringState) overdue(now time.Time, interval time.Duration) bool {
	holds := time.Duration(s.period) * time.Duration(s.most) * time.Microsecond
	return holds > 0 && !s.idle && now.Sub(s.read)+interval+interval/2 > holds
}

// harvest reads the GPU's rings, all of them or those that cannot wait. It stops when the GPU is gone.
func (w *worker) harvest(all bool) gpu.Return {
	ring, ok := w.device.(gpu.Ring)
	if !ok || w.plans.rings == 0 {
		w.harvested = true // there is nothing to wait for
		return gpu.Success
	}
	if w.cut >= cutRings {
		w.forgetRings()
		return gpu.Success
	}
	glance, secondary := w.harvests%secondaryTurn == 0, w.secondary()
	for i := range rings {
		s := &w.rings[i]
		switch {
		case !w.plans.rings.has(i), !all && !s.overdue(w.now(), w.interval):
			continue
		case secondary.has(i) && (!all || !glance):
			continue
		case secondary.has(i):
			s.since = 0
		}
		if ret := w.harvestOne(ring, i); stops(ret) {
			return ret
		}
	}
	if all {
		w.harvests++
		w.harvested = true
	}
	return gpu.Success
}

// forgetRings leaves the rings out. When they are read again, what they hold of before belongs to no row.
func (w *worker) forgetRings() {
	for i := range w.rings {
		w.rings[i].since, w.rings[i].idle = 0, false
	}
	w.harvested = true
}

func (w *worker) harvestOne(ring gpu.Ring, i int) gpu.Return {
	s := &w.rings[i]
	now := w.now()
	size := !s.sized && !s.active.IsZero() && now.Sub(s.active) >= sizeAfter
	from := s.since
	if size {
		from = 0
	}
	started := time.Now()
	samples, ret := ring.Samples(rings[i].kind, from, s.samples[:0])
	w.called(callSamples, 1, started)
	s.samples, s.read = samples, w.now()
	switch {
	case ret == gpu.NotFound, ret.OK() && len(samples) == 0:
		s.fellIdle = !s.idle
		s.outcome, s.idle = empty, true
		return ret
	case !ret.OK():
		s.outcome = unanswered
		return ret
	}
	w.harvestAt = w.clocks()
	s.take(size, w.interval, s.read)
	w.newest = max(w.newest, s.since)
	return ret
}

// take judges the samples that a harvest gave. Those of a first one, or of one that measures the ring, hold
// more than is new.
func (s *ringState) take(size bool, interval time.Duration, now time.Time) {
	before, most, wasIdle := s.since, s.most, s.idle
	s.before = before
	s.learn()
	s.since, s.idle, s.outcome = s.samples[len(s.samples)-1].DriverTimeMicroseconds, false, whole
	s.sized = s.sized || size
	if s.active.IsZero() {
		s.active = now
	}
	switch {
	case before == 0:
		s.samples = newer(s.samples, s.since-min(s.since, uint64(interval.Microseconds())))
	case size:
		s.samples = newer(s.samples, before)
		if len(s.samples) == 0 {
			s.outcome, s.idle = empty, true
		}
	case !wasIdle && len(s.samples) >= most && s.samples[0].DriverTimeMicroseconds > before+s.period+s.period/2:
		s.outcome = overrun // the ring is full of samples that do not join on to what was read before
	}
}

// learn takes the ring's size and period from a harvest. The usual step counts: a GPU that was idle left
// a gap.
func (s *ringState) learn() {
	s.most = max(s.most, len(s.samples))
	if len(s.samples) < 3 {
		return
	}
	shortest := ^uint64(0)
	for i := 1; i < len(s.samples); i++ {
		if step := s.samples[i].DriverTimeMicroseconds - s.samples[i-1].DriverTimeMicroseconds; step > 0 {
			shortest = min(shortest, step)
		}
	}
	last := len(s.samples) - 1
	mean := (s.samples[last].DriverTimeMicroseconds - s.samples[0].DriverTimeMicroseconds) / uint64(last)
	s.period = min(mean, 2*shortest)
}

// newer are the samples after a driver time; they are in order.
func newer(samples []gpu.RingSample, after uint64) []gpu.RingSample {
	i := slices.IndexFunc(samples, func(s gpu.RingSample) bool { return s.DriverTimeMicroseconds > after })
	if i < 0 {
		return samples[:0]
	}
	return samples[i:]
}
