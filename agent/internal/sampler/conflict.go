// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// profileColumns are the columns of gpu_samples that GPM alone fills, and the places of those that can be held
// against each other.
type profileColumns struct {
	all                   []int
	graphics, sm, dram    int // shares of time by GPM
	utilization, utilized int // the newest and the mean by the driver's own sampling
}

var profileCells = sync.OnceValue(func() (p profileColumns) {
	for _, m := range allMetrics() {
		if m.sample < 0 || !slices.ContainsFunc(m.Sources, func(s schema.Source) bool { return s.Kind == schema.FromProfile }) {
			continue
		}
		p.all = append(p.all, m.sample)
	}
	samples := cellIndex(schema.SamplesID)
	p.graphics, p.sm, p.dram = samples["graphics_active_permille"], samples["sm_active_permille"], samples["dram_active_permille"]
	p.utilization, p.utilized = samples["gpu_utilization_permille"], samples["gpu_utilization_mean_permille"]
	return p
})

// busyPermille is the utilisation from which on a GPU cannot be idle by GPM.
const busyPermille = 200

// distrustProfile takes the GPM values out of a row that shows a busy GPU as idle: the counters do not count,
// as when another profiler holds them, and the zeros are none. A GPU of which only the copy engines work is busy by the
// driver's sampling too, without a kernel: its memory shows it. Most rows do not have the graphics engine's share.
func (r *heldRow) distrustProfile() {
	p := profileCells()
	zero := func(cell int) bool { return r.cells[cell].OK && r.cells[cell].Int == 0 }
	if r.cells[p.graphics].OK && !zero(p.graphics) || !zero(p.sm) || r.cells[p.dram].OK && !zero(p.dram) {
		return
	}
	used := r.cells[p.utilized]
	if !used.OK {
		used = r.cells[p.utilization]
	}
	if !used.OK || used.Int < busyPermille {
		return
	}
	for _, cell := range p.all {
		r.cells[cell] = batch.Cell{}
	}
	r.quality |= schema.QualityProfileConflict
}
