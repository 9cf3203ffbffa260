// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// heldReasons are the bits of clocks_event_reasons that tell of clocks that are held down: those of slowdowns, and the
// power cap.
const (
	heldReasons    = slowdownReasons | powerCapReason
	powerCapReason = 0x4
)

// capPause is how many ticks after slow fields were read the power cap alone has them read again out of turn: a GPU that
// works a second of each two reaches its cap as often.
const capPause = 5

// slowdowns are the counters that count while the hardware or heat holds the clocks down. What the power cap
// does is everyday.
var slowdowns = sync.OnceValue(func() (metrics []int) {
	for i, m := range allMetrics() {
		if slices.Contains([]string{
			"throttle_software_thermal_microseconds", "throttle_hardware_thermal_microseconds", "throttle_power_brake_microseconds",
		}, m.Name) {
			metrics = append(metrics, i)
		}
	}
	return metrics
})

// readSlow reads the fields for which the driver asks the GPU's own processor, a millisecond and more each: energy and
// the counters of held clocks. It does so when they are due, and when the reasons of the clocks, which cost nothing,
// show that something holds them down, or does no more:
//
//	tick       0  1  2  3  4  5  6  7  8  9  10 ...
//	reasons    ·  ·  ·  ■  ■  ■  ■  ·  ·  ·  ·
//	slow       ●        ●           ●  ●     ●
//	                   begin        end └ has it ended?
//
// A slowdown may be too short for the reasons, and the counters miss none: as long as they count though no reason is
// shown they are read at each tick, until it is over.
func (w *worker) readSlow(due bool) gpu.Return {
	edge := false
	if r := w.readings[reasonsMetric()]; r.ok {
		now := r.value & heldReasons
		changed := now ^ w.reasons
		edge = changed&slowdownReasons != 0 || changed != 0 && w.tick-w.slowTick >= capPause
		due = due || w.throttling && now&slowdownReasons == 0
		w.reasons = now
	}
	if (due || edge) && len(w.plans.slow.fields) > 0 {
		w.slowTick = w.tick
		if ret := w.readFields(&w.plans.slow, callSlow); w.ends(ret) {
			return ret
		}
	}
	w.throttling = w.slowdownsCount()
	return gpu.Success
}

// slowdownsCount tells that a slowdown counter that was just read has counted since it was read before.
func (w *worker) slowdownsCount() bool {
	return slices.ContainsFunc(slowdowns(), func(i int) bool {
		c := &w.sampleCounters[i]
		return w.readings[i].ok && c.have && w.readings[i].value > c.last
	})
}
