// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"sync"
	"sync/atomic"
)

// Stepping a GPU that was not read for longer than fineQuanta takes strides of coarseQuanta first, so that
// reading a fleet again after a day costs milliseconds per GPU.
const (
	fineQuanta   = 60 * quantaPerSecond
	coarseQuanta = 10 * quantaPerSecond
)

// Thermal inertia, calibrated on the H100 capture: 41 °C to 59 °C within 13 s of full load, 65 °C after 25 s;
// memory from 48 °C to 55 °C and 59 °C.
const (
	dieSeconds = 15
	hbmSeconds = 25
)

// Bits of the clocks event reasons (nvml.h).
const (
	reasonIdle            = 0x1
	reasonPowerCap        = 0x4
	reasonHardware        = 0x8
	reasonSoftwareThermal = 0x20
	reasonHardwareThermal = 0x40
)

// board is one simulated GPU. Its state is a function of the seed, of the quanta that passed and of the
// faults that were injected; advance brings it up to a quantum.
type board struct {
	blocked atomic.Uint64 // callSet that does not return

	mu    sync.Mutex // guards the fields below, except those marked constant
	index int        // constant; on the node
	uuid  string     // constant
	spec  *spec      // constant
	plan  *plan      // constant
	rank  int64      // constant; of this GPU in the plan's group
	seed  uint64     // constant
	born  int64      // constant; quantum from which the lifelong counters count

	efficiency float64 // constant; of the silicon: power for the same work
	inlet      float64 // constant; °C that this place is warmer than the reference

	quantum int64 // the last one that is complete
	job     job
	demand  demand // of the last quantum

	die, hbm      float64 // °C
	thermalFactor float64 // clock factor left by the thermal controller
	watts         float64 // in the last quantum
	clock         uint16  // MHz
	reasons       uint32

	count  counters
	done   totals
	rings  rings
	slices []slice // MIG instances; none if the GPU is whole
	fault  faultState
}

// counters are what the driver counts since it was loaded.
type counters struct {
	loaded          int64  // quantum at which it was loaded
	energy          uint64 // µJ
	powerCap        uint64 // ns, as are the next ones
	thermal         uint64
	softwareThermal uint64
	hardwareThermal uint64
	lowUtilization  uint64
	belowMaximum    uint64
	belowBase       uint64
	pcieSent        uint64 // bytes, as are the next ones
	pcieGot         uint64
	nvlinkSent      uint64
	nvlinkGot       uint64
}

// totals are what performance monitoring takes differences of. They outlive the driver.
type totals struct {
	quanta                 int64
	busy, sm, tensor, dram float64 // quanta of full use
	integer                float64 // part of tensor that is integer or 8-bit float
	pcieSent, pcieGot      float64 // bytes
	nvlinkSent, nvlinkGot  float64

	cycles, smCycles            float64 // of all multiprocessors; with a warp
	tensorCycles, integerCycles float64 // as tensor and integer above
}

// faultState is what injected faults left behind.
type faultState struct {
	lost, resetRequired bool
	uncorrected         uint64 // DRAM errors since the driver was loaded
	uncorrectedLifetime uint64
	remapped            uint32 // rows
	remapPending        bool
	linkErrors          uint64 // since the driver was loaded
	linkDown            int    // 1 + number of the link that is down; 0 if none is
	recovery            uint32 // action that the driver asks for
	pace                float64
	heat                float64 // °C
	heatUntil           int64   // quantum
	profiledUntil       int64   // quantum
}

// start puts the board into the state of a GPU whose driver was loaded a while before quantum q.
func (b *board) start(q int64) {
	s := b.spec
	b.efficiency = between(hash(b.seed, 1), 0.95, 1.06)
	b.inlet = between(hash(b.seed, 2), -3, 3)
	b.thermalFactor, b.fault.pace = 1, 1
	b.quantum, b.born = q, q-lifeDays*quantaPerDay
	b.job = b.plan.jobAt(q)
	b.rings.sleep(q)
	up := wholeBetween(hash(b.seed, 3), 2*3600, 20*24*3600) // seconds since the driver was loaded
	b.count = counters{
		loaded:         q - up*quantaPerSecond,
		energy:         uint64(float64(up) * between(hash(b.seed, 4), 0.35, 0.6) * s.limitWatts * 1e6),
		powerCap:       uint64(float64(up) * between(hash(b.seed, 5), 0, 0.01) * 1e9),
		lowUtilization: uint64(float64(up) * between(hash(b.seed, 6), 0.02, 0.2) * 1e9),
		pcieSent:       uint64(float64(up) * 2e8),
		pcieGot:        uint64(float64(up) * 2.5e8),
		nvlinkSent:     uint64(float64(up) * 0.2 * s.linkBytesPerSecond()),
		nvlinkGot:      uint64(float64(up) * 0.2 * s.linkBytesPerSecond()),
	}
	b.count.belowMaximum = b.count.powerCap
	b.die, b.hbm = s.idleCelsius+b.inlet, s.memoryIdleCelsius+b.inlet
	b.step(1)
	b.die, b.hbm = b.dieTarget(), b.hbmTarget()
	b.rings.fill(b)
	if !b.spec.pace().sleeps {
		b.rings.awake = q - ringDepth // the driver is loaded since long
	}
}

// linkBytesPerSecond is the bandwidth of all NVLinks in one direction.
func (s *spec) linkBytesPerSecond() float64 { return float64(s.links) * float64(s.linkMegabytes) * 1e6 }

// advance brings the board up to quantum q.
func (b *board) advance(q int64) {
	for b.quantum < q {
		stride := int64(1)
		if q-b.quantum > fineQuanta {
			stride = coarseQuanta
		}
		b.step(stride)
	}
}

// step lets the given number of quanta pass.
func (b *board) step(quanta int64) {
	b.quantum += quanta
	q := b.quantum
	if q >= b.job.end {
		b.job = b.plan.jobAt(q)
	}
	d := b.job.demand(q, b.rank)
	chance := hash(b.seed, uint64(q))
	if d.tensor > 0 || d.sm > 0 {
		wobble := 1 + 0.02*spread(mix(chance))
		d.sm = min(1, d.sm*wobble*b.fault.pace)
		d.tensor = min(1, d.tensor*wobble)
	}
	b.demand = d
	b.run(&d, quanta, chance)
	b.warm(quanta)
	b.add(&d, quanta)
	b.rings.record(b, quanta)
}

// run finds the clocks and the power at which the work is done, within the power and thermal limits.
func (b *board) run(d *demand, quanta int64, chance uint64) {
	s := b.spec
	b.reasons = 0
	if !d.resident {
		b.watts = s.idleWatts*b.efficiency + 0.3*spread(chance)
		b.clock = uint16(s.idleMegahertz)
		b.reasons = reasonIdle
		b.count.lowUtilization += uint64(quanta) * uint64(quantum)
		b.cool(quanta)
		return
	}
	fixed := (s.idleWatts + 0.065*s.limitWatts) * b.efficiency // clocks are up, little runs
	full := s.limitWatts * b.efficiency * (0.39*d.sm + 0.55*d.tensor + 0.12*d.dram + 0.08*d.nvlink)
	full *= 1 + 0.06*spread(chance)
	factor := b.throttle(quanta) * b.fault.pace
	if b.rank == b.job.straggler {
		factor *= b.job.pace
	}
	if fixed+full*factor*factor > s.limitWatts { // power falls with the square of the clock
		factor = math.Sqrt((s.limitWatts - fixed) / full)
		b.reasons |= reasonPowerCap
		b.count.powerCap += uint64(quanta) * uint64(quantum)
	}
	b.watts = fixed + full*factor*factor
	megahertz := math.Floor(s.maxMegahertz*factor/s.stepMegahertz) * s.stepMegahertz
	b.clock = uint16(megahertz)
	if factor < 1 {
		b.count.belowMaximum += uint64(quanta) * uint64(quantum)
	}
	if megahertz < s.baseMegahertz {
		b.count.belowBase += uint64(quanta) * uint64(quantum)
	}
}

// throttle is the clock factor that temperature leaves. The software controller takes clocks away while the
// margin is used up and gives them back slowly; two degrees further on the hardware halves them.
func (b *board) throttle(quanta int64) float64 {
	elapsed := uint64(quanta) * uint64(quantum)
	margin := b.margin()
	switch {
	case margin < 1:
		b.thermalFactor = max(0.3, b.thermalFactor-0.005*float64(quanta))
	default:
		b.cool(quanta)
	}
	factor := b.thermalFactor
	if factor < 1 {
		b.reasons |= reasonSoftwareThermal
		b.count.softwareThermal += elapsed
	}
	if margin <= -2 {
		factor *= 0.5
		b.reasons |= reasonHardware | reasonHardwareThermal
		b.count.hardwareThermal += elapsed
	}
	if factor < 1 {
		b.count.thermal += elapsed
	}
	return factor
}

// cool gives clocks back once there is margin again.
func (b *board) cool(quanta int64) {
	if b.thermalFactor < 1 && b.margin() > 3 {
		b.thermalFactor = min(1, b.thermalFactor+0.001*float64(quanta))
	}
}

// margin is how many degrees the hottest spot is below the limit. The capture has 87 °C for the sum of
// temperature and margin at 70 W, 85 °C at 630 W: the hot spot runs ahead of the sensor.
func (b *board) margin() float64 {
	return b.spec.limitCelsius - b.die - 0.0036*max(0, b.watts-b.spec.idleWatts)
}

// dieTarget and hbmTarget are the temperatures that the present power would end at.
func (b *board) dieTarget() float64 {
	return b.spec.idleCelsius + b.inlet + b.heat() + b.spec.celsiusPerWatt*(b.watts-b.spec.idleWatts)
}

func (b *board) hbmTarget() float64 {
	return b.spec.memoryIdleCelsius + b.inlet + b.heat() + b.spec.memoryCelsiusPerWatt*(b.watts-b.spec.idleWatts)
}

func (b *board) heat() float64 {
	if b.quantum < b.fault.heatUntil {
		return b.fault.heat
	}
	return 0
}

// warm moves the temperatures towards their targets.
func (b *board) warm(quanta int64) {
	die, hbm := dieStep, hbmStep
	if quanta != 1 {
		seconds := float64(quanta) * secondsPerQuanta
		die, hbm = 1-math.Exp(-seconds/dieSeconds), 1-math.Exp(-seconds/hbmSeconds)
	}
	b.die += (b.dieTarget() - b.die) * die
	b.hbm += (b.hbmTarget() - b.hbm) * hbm
}

// dieStep and hbmStep are the shares of the way that one quantum covers.
var (
	dieStep = 1 - math.Exp(-secondsPerQuanta/dieSeconds)
	hbmStep = 1 - math.Exp(-secondsPerQuanta/hbmSeconds)
)

// milliwatts is the power in the last quantum, as the sensor gives it.
func (b *board) milliwatts() uint32 { return uint32(b.watts * 1000) }

// add counts what the quanta used and moved. The energy is that of the power which the sensor shows, so that
// the counter is the integral of the samples.
func (b *board) add(d *demand, quanta int64) {
	n := float64(quanta)
	seconds := n * secondsPerQuanta
	b.count.energy += uint64(b.milliwatts()) * uint64(quanta) * uint64(quantum.Milliseconds())

	b.done.quanta += quanta
	b.done.busy += n * d.busy
	b.done.sm += n * d.sm
	b.done.tensor += n * d.tensor
	b.done.integer += n * d.tensor * d.integer
	b.done.dram += n * d.dram

	cycles := seconds * float64(b.clock) * 1e6 * float64(b.spec.multiprocessors)
	b.done.cycles += cycles
	b.done.smCycles += cycles * d.sm
	b.done.tensorCycles += cycles * d.tensor
	b.done.integerCycles += cycles * d.tensor * d.integer

	nvlink := d.nvlink * b.spec.linkBytesPerSecond() * seconds
	b.count.nvlinkSent += uint64(nvlink)
	b.count.nvlinkGot += uint64(nvlink * 0.997)
	b.done.nvlinkSent += nvlink
	b.done.nvlinkGot += nvlink * 0.997
	b.count.pcieSent += uint64(d.pcieSent * seconds)
	b.count.pcieGot += uint64(d.pcieGot * seconds)
	b.done.pcieSent += d.pcieSent * seconds
	b.done.pcieGot += d.pcieGot * seconds
}
