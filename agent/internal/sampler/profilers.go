// SPDX-License-Identifier: Apache-2.0

package sampler

import "time"

// profilerInterval is the time between two looks for a profiler, while a GPU is read at 10 Hz.
const profilerInterval = time.Second

// lookForProfilers looks in a goroutine of its own: a node may have many processes.
func (r *session) lookForProfilers(now time.Time) {
	if r.cfg.Profiler == nil || r.looking || !due(now, &r.lastLook, profilerInterval) {
		return
	}
	r.looking = true
	r.done.Go(func() { r.profilers <- r.cfg.Profiler() })
}

// sawProfiler ends all bursts if a profiler runs.
func (r *session) sawProfiler(name string) {
	r.looking = false
	if name == "" {
		return
	}
	for _, w := range r.workers {
		if !w.burst.until.IsZero() {
			w.burst.until = time.Time{}
			r.cfg.Logger.Info("burst is ended", "gpu", w.uuid, "profiler", name)
		}
	}
}
