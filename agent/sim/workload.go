// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"time"
)

// The simulation advances on a fixed grid of absolute time, so that what a GPU does at an instant does
// not depend on when it is asked.
const (
	quantum          = 50 * time.Millisecond
	quantaPerSecond  = int64(time.Second / quantum)
	secondsPerQuanta = 1 / float64(quantaPerSecond)
	quantaPerDay     = 24 * 3600 * quantaPerSecond
)

// Workload is what a node is used for.
type Workload uint8

// The workloads.
const (
	Training  Workload = iota // one job after another; its phases move all GPUs of the job together
	Inference                 // requests: a daily wave with bursts on top
	Idle                      // nothing runs
	Burn                      // one even full load, as gpu-burn makes it
)

// demand is what the work asks of one GPU during one quantum.
type demand struct {
	resident          bool    // a process holds the GPU, so clocks stay up
	busy              float64 // share of time in which a kernel runs
	sm, tensor, dram  float64 // share of what the unit can do
	nvlink            float64 // share of the links' bandwidth, each direction
	pcieSent, pcieGot float64 // bytes per second
	integer           float64 // share of the tensor work that is done in integers or 8-bit floats
}

// The phases of a job. PCIe rates stay under 2^32 bytes per second, so that a 32-bit counter that is read
// each second wraps at most once between two readings. A GPU that nobody uses still moves some 350 kB/s
// (H100 capture, idle); gpu-burn moves 3 MB/s out and 6 MB/s in (same capture, under load).
var (
	phaseOff        = demand{pcieSent: 352e3, pcieGot: 329e3}
	phaseLoad       = demand{resident: true, busy: 0.22, sm: 0.05, dram: 0.06, pcieSent: 2e7, pcieGot: 1.3e9}
	phaseFetch      = demand{resident: true, busy: 0.10, sm: 0.03, dram: 0.03, pcieSent: 5e6, pcieGot: 6e8}
	phaseCompute    = demand{resident: true, busy: 1, sm: 0.92, tensor: 0.55, dram: 0.35, nvlink: 0.12, pcieSent: 4e7, pcieGot: 1.6e8}
	phaseReduce     = demand{resident: true, busy: 1, sm: 0.34, tensor: 0.01, dram: 0.25, nvlink: 0.66, pcieSent: 2e8, pcieGot: 2e8}
	phaseCheckpoint = demand{resident: true, busy: 0.07, sm: 0.02, dram: 0.08, pcieSent: 1.7e9, pcieGot: 1e7}
	phaseEvaluate   = demand{resident: true, busy: 0.98, sm: 0.72, tensor: 0.36, dram: 0.46, nvlink: 0.05, pcieSent: 2e7, pcieGot: 1.2e8}
	phaseServe      = demand{resident: true, busy: 1.15, sm: 0.74, tensor: 0.24, dram: 0.68, nvlink: 0.09, pcieSent: 3e7, pcieGot: 6e7, integer: 0.6}
	phaseBurn       = demand{resident: true, busy: 1, sm: 0.99, tensor: 0.62, dram: 0.10, pcieSent: 3.1e6, pcieGot: 6.3e6}
)

// plan is the work of a group of GPUs: one job at a time over all of them.
type plan struct {
	seed      uint64
	kind      Workload
	gpus      int64   // in the group
	slot      int64   // quanta from the start of one job to the start of the next
	offset    int64   // quanta by which the group's slots are shifted
	utcOffset float64 // hours, for the daily wave
}

// servingSlot is for how long the level of requests stays the same.
const servingSlot = 10 * quantaPerSecond

func newPlan(seed uint64, kind Workload, gpus int64, utcOffset float64) plan {
	p := plan{seed: seed, kind: kind, gpus: gpus, utcOffset: utcOffset, slot: quantaPerDay}
	switch kind {
	case Training:
		p.slot = wholeBetween(hash(seed, 1), 1800, 7200) * quantaPerSecond
		p.offset = wholeBetween(hash(seed, 2), 0, p.slot-1)
	case Inference:
		p.slot = servingSlot
	case Idle, Burn:
	}
	return p
}

// job is what the group does from start up to end. All lengths are quanta.
type job struct {
	kind            Workload
	start, end      int64
	chance          uint64  // seed of the job's own chance
	memory          float64 // share of the free memory that it holds
	loading, ending int64
	iteration       int64 // one training step: fetch, compute, all-reduce
	fetched         int64 // within the iteration
	computed        int64 // within the iteration
	checkpointEvery int64
	checkpointTakes int64
	evaluateEvery   int64
	evaluateTakes   int64
	intensity       float64 // of the tensor work: some jobs reach the power limit
	load            float64 // of requests
	straggler       int64   // rank of the slow GPU; -1 if there is none
	pace            float64 // of the straggler, as a share of full speed
}

// jobAt is the job that runs at quantum q.
func (p *plan) jobAt(q int64) job {
	index := (q - p.offset) / p.slot // q counts from 1970, so it is not negative
	start := index*p.slot + p.offset
	j := job{kind: p.kind, start: start, end: start + p.slot, chance: hash(p.seed, uint64(index)), straggler: -1, pace: 1}
	switch p.kind {
	case Training:
		p.train(&j)
	case Inference:
		j.memory = between(hash(p.seed, 3), 0.78, 0.93) // weights and cache stay for the node's life
		j.load = p.load(start, j.chance)
	case Burn:
		j.memory = 0.2443 // 19,818 MiB of 81,081 MiB in the H100 capture
	case Idle:
	}
	return j
}

// train chooses the shape of a training job.
func (p *plan) train(j *job) {
	chance := func(salt uint64) uint64 { return hash(j.chance, salt) }
	if unit(chance(1)) < 0.06 { // nobody took the nodes
		j.kind = Idle
		return
	}
	j.memory = between(chance(2), 0.58, 0.96)
	j.loading = wholeBetween(chance(3), 20, 60) * quantaPerSecond
	j.ending = wholeBetween(chance(4), 15, 40) * quantaPerSecond
	j.iteration = wholeBetween(chance(5), 24, 160)
	j.fetched = max(1, int64(between(chance(6), 0.02, 0.06)*float64(j.iteration)))
	j.computed = j.fetched + int64(between(chance(7), 0.58, 0.80)*float64(j.iteration))
	j.checkpointEvery = wholeBetween(chance(8), 600, 1800) * quantaPerSecond
	j.checkpointTakes = wholeBetween(chance(9), 8, 30) * quantaPerSecond
	j.evaluateEvery = wholeBetween(chance(10), 1200, 3600) * quantaPerSecond
	j.evaluateTakes = wholeBetween(chance(11), 20, 60) * quantaPerSecond
	j.intensity = between(chance(12), 0.80, 1.36)
	if unit(chance(13)) < 0.08 {
		j.straggler = wholeBetween(chance(14), 0, p.gpus-1)
		j.pace = between(chance(15), 0.72, 0.90)
	}
}

// load is the level of requests from quantum q on: highest in the local afternoon, with bursts.
func (p *plan) load(q int64, chance uint64) float64 {
	hour := float64(q%quantaPerDay)/float64(quantaPerDay)*24 + p.utcOffset
	level := 0.48 + 0.34*math.Sin((hour-9)*math.Pi/12)
	if unit(hash(chance, 1)) < 0.08 {
		level *= 1.7
	}
	return level * between(hash(p.seed, 4), 0.7, 1.15)
}

// demand is what the job asks at quantum q of the GPU with the given rank in the group.
func (j *job) demand(q, rank int64) demand {
	var d demand
	switch j.kind {
	case Training:
		d = j.phase(q)
		d.tensor *= j.intensity
		if rank == j.straggler {
			d.sm *= j.pace
		}
	case Inference:
		d = j.serving(q)
	case Burn:
		d = phaseBurn
	case Idle:
		d = phaseOff
	}
	return d
}

// phase is what a training job does at quantum q.
func (j *job) phase(q int64) demand {
	t := q - j.start
	if t < j.loading {
		return phaseLoad
	}
	if q >= j.end-j.ending {
		return phaseOff
	}
	t -= j.loading
	if t%j.checkpointEvery >= j.checkpointEvery-j.checkpointTakes {
		return phaseCheckpoint
	}
	if t%j.evaluateEvery >= j.evaluateEvery-j.evaluateTakes {
		return phaseEvaluate
	}
	switch step := t % j.iteration; {
	case step < j.fetched:
		return phaseFetch
	case step < j.computed:
		return phaseCompute
	default:
		return phaseReduce
	}
}

// serving is the work of requests at quantum q: batches that come and go within fractions of a second.
func (j *job) serving(q int64) demand {
	const batch = 5 // quanta that one batch of requests lasts
	level := min(1, j.load*between(hash(j.chance, uint64(q/batch)), 0.3, 1.7))
	d := phaseServe
	d.busy = min(1, d.busy*level)
	d.sm *= level
	d.tensor *= level
	d.dram *= level
	d.nvlink *= level
	d.pcieSent *= level
	d.pcieGot *= level
	return d
}
