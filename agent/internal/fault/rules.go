// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"slices"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// rule says which faults an event may be more evidence of.
type rule struct {
	xids    []int64  // faults with one of these codes
	kinds   []string // faults of one of these kinds
	any     bool     // any fault of the device
	follows bool     // even if the source has spoken of it: it tells what came of it
	outcome bool     // it says what became of the GPU, whatever the cause: that is not to be lost below a code
}

// recoveryXID is the code by which the driver tells its verdict on another fault.
const recoveryXID = 154

// memoryXIDs are the codes of uncorrectable memory errors.
var memoryXIDs = []int64{48, 94, 95, 140, 171, 172}

// lossXIDs are the codes that may come after the loss that they explain: the kernel's log is read later than the GPU.
var lossXIDs = []int64{79, 119, 120, 143}

// nvlinkXIDs are the codes of NVLink faults.
var nvlinkXIDs = []int64{74, 144, 145, 146, 147, 148, 149, 150, 155}

// rules has a row for each kind of event that is a fault. Events of a kind that is not here are passed on.
var rules = map[string]rule{
	"gpu_off_bus":            {xids: []int64{79}, kinds: []string{"gpu_off_bus", "gpu_lost"}},
	"gpu_lost":               {any: true, xids: lossXIDs, outcome: true},
	"gpu_stuck":              {xids: []int64{62, 119, 120}, kinds: []string{"gpu_stuck"}, outcome: true},
	"gpu_init_failed":        {xids: []int64{143}, kinds: []string{"gpu_init_failed"}},
	"gpu_unavailable":        {any: true, follows: true},
	"recovery_action":        {any: true, follows: true},
	"ecc_double_bit":         {xids: memoryXIDs, kinds: []string{"ecc_double_bit", "ecc_uncorrectable"}},
	"ecc_uncorrectable":      {xids: memoryXIDs, kinds: []string{"ecc_double_bit", "ecc_uncorrectable", "poison_nonfatal", "poison_fatal"}},
	"sram_threshold":         {xids: memoryXIDs, kinds: []string{"sram_threshold", "ecc_uncorrectable"}},
	"poison_nonfatal":        {xids: []int64{94}, kinds: []string{"poison_nonfatal"}},
	"poison_fatal":           {xids: []int64{95}, kinds: []string{"poison_fatal"}},
	"ecc_single_bit_storm":   {xids: []int64{92}, kinds: []string{"ecc_single_bit_storm"}},
	"dram_retired":           {xids: []int64{63}, kinds: []string{"dram_retired", "row_remapped", "row_remap_pending"}},
	"row_remapped":           {xids: []int64{63}, kinds: []string{"dram_retired", "row_remapped", "row_remap_pending"}},
	"row_remap_pending":      {xids: []int64{63}, kinds: []string{"dram_retired", "row_remapped", "row_remap_pending"}, follows: true},
	"dram_retirement_failed": {xids: []int64{64}, kinds: []string{"dram_retirement_failed", "row_remap_failed"}},
	"row_remap_failed":       {xids: []int64{64}, kinds: []string{"dram_retirement_failed", "row_remap_failed"}},
	"nvlink_error":           {xids: nvlinkXIDs, kinds: []string{"nvlink_error"}},
	"pcie_error":             {xids: []int64{79, 167}, kinds: []string{"pcie_error", "pcie_fatal", "gpu_off_bus"}},
	"pcie_fatal":             {xids: []int64{79, 167}, kinds: []string{"pcie_error", "pcie_fatal", "gpu_off_bus"}},
	"sxid":                   {},
	"xid":                    {},
}

// ruleFor is the rule of an event; false if the event is no fault.
func ruleFor(e event.Event) (rule, bool) {
	r, ok := rules[e.Kind]
	switch {
	case !ok || e.Kind != "xid":
		return r, ok
	case e.XID == nil: // the driver does not know which: the kernel's log may
		return rule{any: true}, true
	case *e.XID == recoveryXID:
		return rule{any: true, follows: true}, true
	}
	r.xids, r.kinds = []int64{*e.XID}, []string{"xid"}
	for kind, other := range rules { // symptoms that were seen before the code
		if slices.Contains(other.xids, *e.XID) {
			r.kinds = append(r.kinds, kind)
		}
	}
	return r, true
}

// joins tells that an event of the rule is more evidence of the fault.
func (r rule) joins(known event.Event) bool {
	if known.XID != nil && known.Kind == "xid" {
		return r.any && *known.XID != recoveryXID || slices.Contains(r.xids, *known.XID)
	}
	return r.any && known.Kind != "sxid" || slices.Contains(r.kinds, known.Kind)
}
