// SPDX-License-Identifier: Apache-2.0

package sampler

import "github.com/gpufleet/gpufleet/agent/gpu"

// turn is the place of a call in the rotation: it is made at tick numbers that leave rest after division by
// every. The zero turn is made at every tick.
type turn struct{ every, rest uint64 }

// due tells whether the call is made at a tick.
func (t turn) due(tick uint64) bool { return t.every == 0 || tick%t.every == t.rest }

// turns spread the readings that no field has, and that change slowly or take the driver long, over ten ticks, so that none makes more than one
// of these calls. What is not here, and of which the driver has a copy at hand, is read at each tick: the temperature,
// the clock, and the reasons of the clocks, which tell when to read what is slow. Why these, and what it costs, is in docs/adr/006-driver-calls.md.
var turns = map[gpu.Getter]turn{
	gpu.GetMemoryInfo:        {5, 0},
	gpu.GetMarginTemperature: {10, 7},

	// Of GPUs that have no rings.
	gpu.GetClockMemory: {10, 8},
}

// secondaryTurn is how often, in harvests, secondary rings are read.
const secondaryTurn = 6

// secondary are the rings of which a glance now and then will do: the memory's clock hardly ever changes, and where
// there is performance monitoring it tells of the memory's traffic at each tick. A glance takes the samples of the
// latest tick alone.
func (w *worker) secondary() ringSet {
	set := ringsOf(uint32(gpu.RingMemoryClock))
	if len(w.plans.second.profiles) > 0 {
		set |= ringsOf(uint32(gpu.RingMemoryUtilization))
	}
	return set
}

// standIns are the turns of the calls that stand in for rings that are left out, or empty.
var standIns = map[gpu.Getter]turn{
	gpu.GetUtilizationRates: {2, 1},
	gpu.GetClockMemory:      {8, 4},
}
