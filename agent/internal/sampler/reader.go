// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
)

// Reader reads one GPU when it is asked, without a clock and goroutines of its own: for loads that
// run faster than time.
type Reader struct{ worker *worker }

// NewReader probes a GPU that is to be read once a second. The clock gives the times of the rows.
func NewReader(device gpu.Device, system gpu.System, clock func() time.Time) (*Reader, gpu.Return) {
	w := newWorker(device, manner{branch: gpu.DriverBranch(system.DriverVersion), interval: time.Second, now: clock}, 1)
	ret := w.serve(request{attach: true})
	return &Reader{w}, ret
}

// Read gives the rows of one tick, the one of gpu_health only if it is asked for. They are valid
// until the next call.
func (r *Reader) Read(health bool) (samples, healths []batch.Cell, ret gpu.Return) {
	if ret = r.worker.serve(request{health: health}); !ret.OK() {
		return nil, nil, ret
	}
	if health {
		healths = r.worker.healthCells
	}
	return r.worker.sampleCells, healths, gpu.Success
}
