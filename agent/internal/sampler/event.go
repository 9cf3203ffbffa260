// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// kindOf maps the driver's kinds of events to ours.
var kindOf = map[gpu.EventKind]string{
	gpu.EventXID:            "xid",
	gpu.EventDoubleBitECC:   "ecc_double_bit",
	gpu.EventSingleBitStorm: "ecc_single_bit_storm",
	gpu.EventDRAMRetired:    "dram_retired",
	gpu.EventDRAMFailed:     "dram_retirement_failed",
	gpu.EventPowerSource:    "power_source",
	gpu.EventMIGConfig:      "mig_changed",
	gpu.EventUnavailable:    "gpu_unavailable",
	gpu.EventRecovery:       "recovery_action",
	gpu.EventPoison:         "poison_nonfatal",
	gpu.EventFatalPoison:    "poison_fatal",
}

// unknownXID is what the driver says when it does not know the code.
const unknownXID = 999

// counts tells that the data of this kind of driver event belongs into the column count.
func counts(kind string) bool {
	return slices.ContainsFunc(schema.EventKinds(), func(k schema.EventKind) bool { return k.Name == kind && k.Count != "" })
}

func driverEvent(e gpu.Event) event.Event {
	row := event.Event{Time: e.Time, UUID: e.UUID, Kind: kindOf[e.Kind], Source: schema.SourceDriver, Message: e.Message}
	if row.Kind == "" {
		row.Kind = "unknown"
	}
	data := int64(e.Data)
	switch {
	case e.Kind == gpu.EventXID && e.Data != unknownXID:
		row.XID = &data
	case counts(row.Kind):
		row.Count = &data
	}
	if e.GI != gpu.NoInstance {
		gi := int64(e.GI)
		row.GPUInstance = &gi
	}
	if e.CI != gpu.NoInstance {
		ci := int64(e.CI)
		row.ComputeInstance = &ci
	}
	return row
}
