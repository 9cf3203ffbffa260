// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/gpufleet/gpufleet/agent/gpu"

// ringDepth is how many quanta are kept: 6 s.
const ringDepth = 120

// ringPace is how a model's driver fills its rings.
type ringPace struct {
	power       int64 // µs between two samples of the power
	powerDepth  int64 // samples that are kept; what is not harvested in time is overwritten
	utilization int64 // quanta in every utilized samples of the utilization
	utilized    int64
	depth       int64 // samples of the utilization
	sleeps      bool  // the rings of an idle GPU are empty
	clocks      bool  // clocks are sampled, as often as the power; else their ring is always empty
	realtime    bool  // samples are stamped with the wall clock; else with the time since the boot
}

var (
	// measuredPace is that of an H200 (driver 580.159.04, testdata/recordings): 2.4 s of power at 50 Hz and 14 s of
	// utilization at 5 Hz, of an idle GPU too, and nothing in the rings of the clocks.
	measuredPace = ringPace{power: 20_000, powerDepth: 119, utilization: 4, utilized: 1, depth: 71, realtime: true}
	// describedPace is what nvml.h allows (utilization between each 1/6 s and each second) and what was told of older
	// drivers: rings that are empty while the GPU idles. 6 s of power and clocks at 20 Hz, 20 s of utilization.
	describedPace = ringPace{power: 50_000, powerDepth: ringDepth, utilization: 10, utilized: 3, depth: ringDepth, sleeps: true, clocks: true}
)

func (s *spec) pace() *ringPace {
	if s.gpm {
		return &measuredPace
	}
	return &describedPace
}

// utilizationTick is the number of utilization samples that are complete at quantum q.
func (p *ringPace) utilizationTick(q int64) int64 { return q * p.utilized / p.utilization }

// powerTick is likewise that of power samples.
func (p *ringPace) powerTick(q int64) int64 { return q * quantum.Microseconds() / p.power }

// powerQuantum is the quantum in which a power sample was taken.
func (p *ringPace) powerQuantum(tick int64) int64 {
	return (tick*p.power + quantum.Microseconds() - 1) / quantum.Microseconds()
}

// rings are the driver's ring buffers. A slot belongs to a quantum or tick by its number modulo ringDepth, so
// no times are stored. Power and clocks are always recorded, for the average; what a reader sees begins at
// awake, and where rings sleep it ends ringDepth quanta after the GPU fell idle.
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
	for i := range ringDepth {
		r.busy[i], r.dram[i] = r.lastBusy, r.lastDRAM
	}
}

// percent rounds a share to a percentage.
func percent(share float64) uint8 { return uint8(100*share + 0.5) }

// record takes the samples of the quanta that just passed.
func (r *rings) record(b *board, quanta int64) {
	q, p := b.quantum, b.spec.pace()
	switch {
	case !p.sleeps:
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
	if tick := p.utilizationTick(q); tick > p.utilizationTick(q-quanta) {
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
	r, p := &b.rings, b.spec.pace()
	var newest, oldest, depth int64
	switch kind {
	case gpu.RingGPUUtilization, gpu.RingMemoryUtilization:
		newest, oldest, depth = p.utilizationTick(b.quantum), p.utilizationTick(r.awake-1)+1, p.depth
	case gpu.RingProcessorClock, gpu.RingMemoryClock:
		if !p.clocks {
			return into, gpu.NotFound
		}
		fallthrough
	case gpu.RingTotalPower:
		newest, oldest, depth = p.powerTick(b.quantum), p.powerTick(r.awake-1)+1, p.powerDepth
	default:
		return into, gpu.NotSupported
	}
	asleep := p.sleeps && r.idleSince != noIdle && b.quantum-r.idleSince >= ringDepth
	if asleep || oldest > newest {
		return into, gpu.NotFound
	}
	oldest = max(oldest, newest-depth+1)
	first := newest + 1
	for first > oldest && clock.at(p, kind, first-1) > since {
		first--
	}
	for i := first; i <= newest; i++ {
		into = append(into, gpu.RingSample{DriverTimeMicroseconds: clock.at(p, kind, i), Value: b.sample(kind, i)})
	}
	return into, gpu.Success
}

// powerNoise is how far, in parts, two samples of the power of one quantum lie apart.
const powerNoise = 0.004

// sample is sample i of a ring.
func (b *board) sample(kind gpu.RingKind, i int64) int64 {
	p := b.spec.pace()
	switch kind {
	case gpu.RingTotalPower:
		milliwatts := float64(b.rings.power[p.powerQuantum(i)%ringDepth])
		if p.power < quantum.Microseconds() {
			milliwatts *= 1 + powerNoise*spread(hash(b.seed, uint64(i)))
		}
		return int64(milliwatts)
	case gpu.RingProcessorClock:
		return int64(b.rings.clock[p.powerQuantum(i)%ringDepth])
	case gpu.RingGPUUtilization:
		return int64(b.rings.busy[i%ringDepth])
	case gpu.RingMemoryUtilization:
		return int64(b.rings.dram[i%ringDepth])
	default:
		return int64(b.spec.memoryMegahertz)
	}
}

// driverClock is the clock that the driver stamps samples with: the wall clock, or one that counts from the boot of
// the machine and runs a few parts per million fast or slow.
type driverClock struct {
	origin          int64 // quantum at which boot is right
	boot            int64 // µs that it shows at origin
	partsPerMillion int64
}

// newDriverClock gives a node that is up since some days a clock.
func newDriverClock(p *ringPace, seed uint64, q int64) driverClock {
	if p.realtime {
		return driverClock{origin: q, boot: q * quantum.Microseconds()}
	}
	return driverClock{
		origin:          q,
		boot:            wholeBetween(hash(seed, 1), 3600, 40*24*3600) * 1e6,
		partsPerMillion: wholeBetween(hash(seed, 2), -40, 40),
	}
}

// at is the driver's time, in µs, of sample i of a ring.
func (c *driverClock) at(p *ringPace, kind gpu.RingKind, i int64) uint64 {
	period, times := p.power, int64(1)
	if kind == gpu.RingGPUUtilization || kind == gpu.RingMemoryUtilization {
		period, times = p.utilization*quantum.Microseconds(), p.utilized
	}
	elapsed := i*period/times - c.origin*quantum.Microseconds()
	return uint64(c.boot + elapsed + elapsed*c.partsPerMillion/1_000_000)
}
