// SPDX-License-Identifier: Apache-2.0

package sampler

// slowdownReasons are the bits of clocks_event_reasons that tell of a slowdown: hardware, heat, power brake. All but the
// first have counters.
const (
	slowdownReasons = 0x8 | countedReasons
	countedReasons  = 0x20 | 0x40 | 0x80
)

// heed looks at what a tick's reading tells that matters to bursts: whether a profiler has the GPU, and whether it begins
// to be held down by heat or by the hardware.
func (r *session) heed(w *worker) {
	w.burst.contested = w.burst.profiler
	if r.cfg.Slowdown == nil || !w.heedReasons() {
		return
	}
	now := w.throttling || w.burst.reasons != 0
	began := now && !w.burst.heldDown
	w.burst.heldDown = now
	if began {
		r.cfg.Slowdown(w.uuid)
	}
}

// heedReasons keeps what the reasons tell of slowdowns until they are read again, which may fail. What has a counter, and what came together with it, is over when that counts no more. It tells whether anything was read.
func (w *worker) heedReasons() bool {
	counts := w.countsThrottling()
	if reasons := w.readings[reasonsMetric()]; reasons.ok {
		w.burst.reasons = reasons.value & slowdownReasons
		return true
	}
	if counts && w.burst.reasons&countedReasons != 0 {
		w.burst.reasons = 0
	}
	return counts
}
