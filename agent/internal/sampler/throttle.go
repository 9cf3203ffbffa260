// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"
)

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

// throttleBegins tells that a slowdown has begun since the tick before. It asks counters, which miss none
// however short it was; the bits of clocks_event_reasons are read at the same tick, to say why.
func (w *worker) throttleBegins() bool {
	counts := false
	for _, i := range slowdowns() {
		c := &w.sampleCounters[i]
		counts = counts || w.readings[i].ok && c.have && w.readings[i].value > c.last
	}
	began := counts && !w.throttling
	w.throttling = counts
	return began
}
