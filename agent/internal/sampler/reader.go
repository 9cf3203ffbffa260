// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// Reader reads one GPU when it is asked, without a clock and goroutines of its own: for loads that
// run faster than time. It harvests the rings with each row.
type Reader struct {
	worker *worker
	clock  driverClock
	row    []batch.Cell
}

// NewReader probes a GPU that is to be read once a second. The clock gives the times of the rows.
func NewReader(device gpu.Device, system gpu.System, clock func() time.Time) (*Reader, gpu.Return) {
	start := clock()
	how := manner{
		branch: gpu.DriverBranch(system.DriverVersion), interval: time.Second, slow: slowCall, now: clock,
		clocks: func() instant { return wallInstant(clock(), start) },
	}
	w := newWorker(device, how, 1)
	ret := w.serve(request{attach: true})
	return &Reader{worker: w, clock: newDriverClock()}, ret
}

// Read gives the rows of one tick, the one of gpu_health only if it is asked for. They are valid
// until the next call.
func (r *Reader) Read(health bool) (samples, healths []batch.Cell, ret gpu.Return) {
	w := r.worker
	if ret = w.serve(request{health: health, harvest: true, slow: w.tick%schema.SlowSeconds == 0}); !ret.OK() {
		return nil, nil, ret
	}
	w.held.add(w)
	if w.newest != 0 {
		r.clock.align(w.newest, w.harvestAt)
	}
	for ring := range w.rings {
		if s := &w.rings[ring]; s.outcome == whole || s.outcome == overrun {
			w.held.merge(ring, s.samples, &r.clock)
		}
	}
	w.held.judge(&w.rings)
	_ = w.held.release(func(cells []batch.Cell) error { // it cannot fail
		r.row = append(r.row[:0], cells...)
		return nil
	})
	if health {
		healths = w.healthCells
	}
	return r.row, healths, gpu.Success
}
