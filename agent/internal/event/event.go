// SPDX-License-Identifier: Apache-2.0

// Package event writes what happens on a node into gpu_events. A Journal promises that an event is on its
// way to the collector within a tenth of a second, whatever the flush interval of readings is, and that the
// events of one moment share a batch. It owns a timer and no goroutine.
package event

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

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

	Fault         *Fault    // nil if nothing of it is known
	NoticeID      string    // of a cloud's notice
	NotBefore     time.Time // when what a notice announces begins; zero if it does not say
	NetworkDevice string
	NetworkPort   *int64
}

// Fault is what is known of a fault besides what every event has. Empty and nil are "not known".
type Fault struct {
	ID                       uint64 // rows of one fault share it; 0: this is not a fault
	Severity, Class, Action  string
	SXID, Link               *int64
	Subcode, PCIBusID        string
	ProcessID                *int64
	ProcessName              string
	RecoveryAction           *int64
	KernelSequence           *int64
	Name                     string // if not empty the ID is made of it: the same fault, seen again by a later life of the agent, has the same
	Evidence, CatalogVersion string // Evidence is a JSON array
	Occurrences              *int64
	LastSeen                 time.Time
}

// Cells lays the event out as the wire columns of gpu_events.
func (e Event) Cells() []batch.Cell {
	at := e.Time
	if at.IsZero() {
		at = time.Now()
	}
	source := e.Source
	if source == "" {
		source = schema.SourceAgent
	}
	gpuID := batch.Cell{}
	if e.UUID != "" {
		gpuID = batch.ID(wire.GPUID(e.UUID))
	}
	cells := []batch.Cell{
		batch.Milliseconds(at), gpuID, batch.Text(e.Kind), batch.Text(source), batch.NumberOrNull(e.XID),
		batch.NumberOrNull(e.GPUInstance), batch.NumberOrNull(e.ComputeInstance), batch.NumberOrNull(e.Count), batch.Text(e.Message),
	}
	cells = append(cells, e.Fault.cells()...)
	return append(cells, batch.TextOrNull(e.NoticeID), batch.MillisecondsOrNull(e.NotBefore), batch.TextOrNull(e.NetworkDevice), batch.NumberOrNull(e.NetworkPort))
}

// cells lays the fault out as its columns; of no fault all are NULL.
func (f *Fault) cells() []batch.Cell {
	if f == nil {
		f = &Fault{}
	}
	id := batch.ID(f.ID)
	id.OK = f.ID != 0
	return []batch.Cell{
		id, batch.TextOrNull(f.Severity), batch.TextOrNull(f.Class), batch.TextOrNull(f.Action), batch.NumberOrNull(f.SXID),
		batch.TextOrNull(f.Subcode), batch.NumberOrNull(f.Link), batch.TextOrNull(f.PCIBusID), batch.NumberOrNull(f.ProcessID),
		batch.TextOrNull(f.ProcessName), batch.NumberOrNull(f.RecoveryAction), batch.NumberOrNull(f.KernelSequence),
		batch.TextOrNull(f.Evidence), batch.TextOrNull(f.CatalogVersion), batch.NumberOrNull(f.Occurrences), batch.MillisecondsOrNull(f.LastSeen),
	}
}
