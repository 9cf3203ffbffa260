// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const eventsID = schema.EventsID

// Event is a row of gpu_events.
type Event struct {
	Time            time.Time // zero: now
	UUID            string    // of the GPU; "" if it concerns the node
	Kind            string    // see schema's list of event kinds
	Source          string    // "" for agent
	XID             *int64
	GPUInstance     *int64
	ComputeInstance *int64
	Count           *int64
	Message         string
}

// Cells lays the event out as the wire columns of gpu_events.
func (e Event) Cells() []batch.Cell {
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	source := e.Source
	if source == "" {
		source = "agent"
	}
	gpuID := batch.Cell{}
	if e.UUID != "" {
		gpuID = batch.Cell{Int: int64(wire.GPUID(e.UUID)), OK: true}
	}
	return []batch.Cell{
		{Int: at.UnixMilli(), OK: true},
		gpuID, textCell(e.Kind), textCell(source), optional(e.XID),
		optional(e.GPUInstance), optional(e.ComputeInstance), optional(e.Count), textCell(e.Message),
	}
}

func textCell(s string) batch.Cell { return batch.Cell{Text: s, OK: true} }

// absentIfEmpty is NULL for an empty text.
func absentIfEmpty(s string) batch.Cell { return batch.Cell{Text: s, OK: s != ""} }

func optional(v *int64) batch.Cell {
	if v == nil {
		return batch.Cell{}
	}
	return batch.Cell{Int: *v, OK: true}
}

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

func driverEvent(e gpu.Event) Event {
	row := Event{Time: e.Time, UUID: e.UUID, Kind: kindOf[e.Kind], Source: "nvml", Message: e.Message}
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
