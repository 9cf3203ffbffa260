// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/gpufleet/gpufleet/agent/gpu"

// ringDepth is how many samples the driver keeps of each kind: 6 s of power and clocks at 20 Hz, 20 s of
// utilization at 6 Hz. What is not harvested in time is overwritten.
const ringDepth = 120

// Utilization is sampled each sixth of a second (nvml.h: between 1/6 s and 1 s). A quantum is 3/10 of that.
const (
	utilizationPerSecond = 6
	utilizationQuanta    = 10 // quanta per utilizationTicks samples
	utilizationTicks     = 3
)

// utilizationTick is the number of utilization samples that are complete at quantum q.
func utilizationTick(q int64) int64 { return q * utilizationTicks / utilizationQuanta }

// rings are the driver's ring buffers. A slot belongs to a quantum or tick by its number modulo ringDepth, so
// no times are stored. Power and clocks are always recorded, for the average; what a reader sees begins at
// awake and ends ringDepth quanta after the GPU fell idle.
type rings struct {
	power [ringDepth]uint32 // mW
	clock [ringDepth]uint16 // MHz
	busy  [ringDepth]uint8  // percent
	dram  [ringDepth]uint8  // percent

	awake     int64 // first quantum that a reader sees
	idleSince int64 // quantum at which the present idle spell began; noIdle if there is none

	busySum, dramSum float64 // of the quanta since the last utilization sample
	summed           float64 // quanta
	lastBusy         uint8   // percent, last utilization sample
	lastDRAM         uint8
}

const noIdle = int64(-1)

// sleep empties the rings at quantum q, as for a GPU that was idle.
func (r *rings) sleep(q int64) {
	r.awake, r.idleSince = q+1, q-ringDepth
}

// fill sets all samples to the present ones, so that the first averages are right.
func (r *rings) fill(b *board) {
	for i := range ringDepth {
		r.power[i], r.clock[i] = b.milliwatts(), b.clock
	}
	r.lastBusy, r.lastDRAM = percent(b.demand.busy), percent(b.demand.dram)
}

// percent rounds a share to a percentage.
func percent(share float64) uint8 { return uint8(100*share + 0.5) }

// record takes the samples of the quanta that just passed.
func (r *rings) record(b *board, quanta int64) {
	q := b.quantum
	switch {
	case !b.demand.resident && r.idleSince == noIdle:
		r.idleSince = q
	case b.demand.resident && r.idleSince != noIdle:
		if q-r.idleSince >= ringDepth {
			r.awake = q
		}
		r.idleSince = noIdle
	}
	r.power[q%ringDepth] = b.milliwatts()
	r.clock[q%ringDepth] = b.clock

	r.busySum += b.demand.busy
	r.dramSum += b.demand.dram
	r.summed++
	if tick := utilizationTick(q); tick > utilizationTick(q-quanta) {
		r.lastBusy, r.lastDRAM = percent(r.busySum/r.summed), percent(r.dramSum/r.summed)
		r.busy[tick%ringDepth], r.dram[tick%ringDepth] = r.lastBusy, r.lastDRAM
		r.busySum, r.dramSum, r.summed = 0, 0, 0
	}
}

// averageMilliwatts is the mean power over the last second.
func (r *rings) averageMilliwatts(q int64) uint32 {
	var sum uint64
	for i := range quantaPerSecond {
		sum += uint64(r.power[(q-i)%ringDepth])
	}
	return uint32(sum / uint64(quantaPerSecond))
}

// samples appends the samples of one kind that are newer than since. The first of them is found by walking back
// until since, the depth of the ring or the moment at which the GPU woke up.
func (b *board) samples(kind gpu.RingKind, clock *driverClock, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	r := &b.rings
	newest, oldest := b.quantum, r.awake
	switch kind {
	case gpu.RingGPUUtilization, gpu.RingMemoryUtilization:
		newest, oldest = utilizationTick(newest), utilizationTick(oldest-1)+1
	case gpu.RingTotalPower, gpu.RingProcessorClock, gpu.RingMemoryClock:
	default:
		return into, gpu.NotSupported
	}
	if asleep := r.idleSince != noIdle && b.quantum-r.idleSince >= ringDepth; asleep || oldest > newest {
		return into, gpu.NotFound
	}
	oldest = max(oldest, newest-ringDepth+1)
	first := newest + 1
	for first > oldest && clock.at(kind, first-1) > since {
		first--
	}
	for i := first; i <= newest; i++ {
		into = append(into, gpu.RingSample{DriverTimeMicroseconds: clock.at(kind, i), Value: b.sample(kind, i)})
	}
	return into, gpu.Success
}

// sample is the sample of quantum or tick i.
func (b *board) sample(kind gpu.RingKind, i int64) int64 {
	slot := i % ringDepth
	switch kind {
	case gpu.RingTotalPower:
		return int64(b.rings.power[slot])
	case gpu.RingProcessorClock:
		return int64(b.rings.clock[slot])
	case gpu.RingGPUUtilization:
		return int64(b.rings.busy[slot])
	case gpu.RingMemoryUtilization:
		return int64(b.rings.dram[slot])
	default:
		return int64(b.spec.memoryMegahertz)
	}
}

// driverClock is the clock that the driver stamps samples with. It counts from the boot of the machine and runs
// a few parts per million fast or slow.
type driverClock struct {
	origin          int64 // quantum at which boot is right
	boot            int64 // µs since the boot at origin
	partsPerMillion int64
}

// newDriverClock gives a node that is up since some days a clock of its own.
func newDriverClock(seed uint64, q int64) driverClock {
	return driverClock{
		origin:          q,
		boot:            wholeBetween(hash(seed, 1), 3600, 40*24*3600) * 1e6,
		partsPerMillion: wholeBetween(hash(seed, 2), -40, 40),
	}
}

// at is the driver's time, in µs, of sample i of a ring.
func (c *driverClock) at(kind gpu.RingKind, i int64) uint64 {
	elapsed := (i - c.origin) * quantum.Microseconds()
	if kind == gpu.RingGPUUtilization || kind == gpu.RingMemoryUtilization {
		elapsed = i*1_000_000/utilizationPerSecond - c.origin*quantum.Microseconds()
	}
	return uint64(c.boot + elapsed + elapsed*c.partsPerMillion/1_000_000)
}
