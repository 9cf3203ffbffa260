// SPDX-License-Identifier: Apache-2.0

package sampler

import "time"

// CallObserver is told of each call into the driver: its symbol in libnvidia-ml, and how long it took. It is
// called by the goroutines that read GPUs, at the same time.
type CallObserver func(call string, took time.Duration)

// ObserveCalls has every call into the driver told from now on.
func (s *Stats) ObserveCalls(observe CallObserver) { s.observer.Store(&observe) }

// called counts calls that were made since a time, and tells how long they took.
func (w *worker) called(call string, calls uint64, started time.Time) {
	took := time.Since(started)
	w.calls += calls
	w.inDriver += took
	if w.observer == nil {
		return
	}
	if observe := w.observer.Load(); observe != nil {
		(*observe)(call, took)
	}
}
