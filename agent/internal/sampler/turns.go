// SPDX-License-Identifier: Apache-2.0

package sampler

import "github.com/gpufleet/gpufleet/agent/gpu"

// turn is the place of a call in the rotation: it is made at tick numbers that leave rest after division by
// every. The zero turn is made at every tick.
type turn struct{ every, rest uint64 }

// due tells whether the call is made at a tick.
func (t turn) due(tick uint64) bool { return t.every == 0 || tick%t.every == t.rest }

// turns share one call a tick among the readings that no field has and that change slowly, so that each
// tick makes one of them: memory at every second tick, temperature at every fourth, and so on like the lines
// of a ruler. Why these, and what it costs, is in docs/adr/006-driver-calls.md.
var turns = map[gpu.Getter]turn{
	gpu.GetMemoryInfo:         {2, 0},
	gpu.GetTemperature:        {4, 1},
	gpu.GetClocksEventReasons: {8, 3}, // and at once when a throttle counter begins to count
	gpu.GetMarginTemperature:  {8, 7},

	// Of GPUs that have no rings.
	gpu.GetClockSM:     {2, 1},
	gpu.GetClockMemory: {8, 5},
}

// standIns are the turns of the calls that stand in for rings while those are left out. While a ring is empty its
// call is made at every tick: the GPU idles.
var standIns = map[gpu.Getter]turn{
	gpu.GetUtilizationRates: {2, 1},
	gpu.GetClockSM:          {4, 2},
	gpu.GetClockMemory:      {8, 4},
}
