// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// TestDistrustProfile: zeros of performance monitoring beside a GPU that works are believed only if its memory shows that
// the copy engines alone work.
func TestDistrustProfile(t *testing.T) {
	places := cellIndex(schema.SamplesID)
	for name, c := range map[string]struct {
		row        map[string]int64
		distrusted bool
	}{
		"idle":             {map[string]int64{"graphics_active_permille": 0, "sm_active_permille": 0, "dram_active_permille": 0, "gpu_utilization_mean_permille": 0}, false},
		"works":            {map[string]int64{"graphics_active_permille": 990, "sm_active_permille": 960, "dram_active_permille": 170, "gpu_utilization_mean_permille": 990}, false},
		"another profiler": {map[string]int64{"graphics_active_permille": 0, "sm_active_permille": 0, "dram_active_permille": 0, "gpu_utilization_mean_permille": 990}, true},
		"between the shares of the graphics engine": {map[string]int64{"sm_active_permille": 0, "dram_active_permille": 0, "gpu_utilization_mean_permille": 990}, true},
		"graphics alone":      {map[string]int64{"graphics_active_permille": 5, "sm_active_permille": 0, "dram_active_permille": 0, "gpu_utilization_mean_permille": 990}, false},
		"no memory's share":   {map[string]int64{"graphics_active_permille": 0, "sm_active_permille": 0, "gpu_utilization_permille": 990}, true},
		"copies to the host":  {map[string]int64{"graphics_active_permille": 0, "sm_active_permille": 0, "dram_active_permille": 12, "gpu_utilization_mean_permille": 990}, false},
		"hardly busy":         {map[string]int64{"graphics_active_permille": 0, "sm_active_permille": 0, "dram_active_permille": 0, "gpu_utilization_mean_permille": 190}, false},
		"nothing is measured": {map[string]int64{"gpu_utilization_mean_permille": 990}, false},
	} {
		row := heldRow{cells: make([]batch.Cell, len(places))}
		for column, value := range c.row {
			row.cells[places[column]] = batch.Number(value)
		}
		row.distrustProfile()
		_, measured := c.row["sm_active_permille"]
		if got := row.quality&schema.QualityProfileConflict != 0; got != c.distrusted || row.cells[places["sm_active_permille"]].OK != (measured && !c.distrusted) {
			t.Errorf("%s: distrusted is %t", name, got)
		}
	}
}
