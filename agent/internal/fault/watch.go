// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// Sink takes the rows of a node.
type Sink interface {
	Append(table uint8, cells []batch.Cell) error
	FlushDue(now time.Time) error
}

// Watch stands between those who make rows and the sink that takes them, and looks at what passes: counters and
// states that change are faults, reasons for low clocks that come and go are events, and inventory tells what
// GPUs there are. It may be used by several goroutines.
type Watch struct {
	Sink
	journal Writer
	devices *Devices
	boot    string
	file    string // keeps states over restarts; "": nothing does
	logger  *slog.Logger
	places  places

	mu     sync.Mutex         // guards what is known of GPUs
	held   map[int64]*heldGPU // by gpu_id
	states *states
}

// heldGPU is what the rows of one GPU said last of its clocks.
type heldGPU struct {
	reasons int64     // that hold them down
	since   time.Time // when the first of them came
}

// step is a counter or state of gpu_health that means a fault when it rises.
type step struct {
	column, kind string
	counter      bool   // column holds increments
	message      string // %d is the increment, or the new state
}

// steps lists what is watched. Counters of corrected errors are not among it: they rise on healthy GPUs.
var steps = []step{
	{"ecc_volatile_uncorrected_errors_delta", "ecc_uncorrectable", true, "%d uncorrectable memory errors"},
	{"remapped_rows_corrected_delta", "row_remapped", true, "%d rows remapped after corrected errors"},
	{"remapped_rows_uncorrected_delta", "row_remapped", true, "%d rows remapped after uncorrectable errors"},
	{"row_remap_pending", "row_remap_pending", false, "a row remapping waits for a reset of the GPU (%d)"},
	{"row_remap_failure", "row_remap_failed", false, "a row could not be remapped (%d)"},
	{"sram_threshold_exceeded", "sram_threshold", false, "uncorrectable SRAM errors exceed the driver's threshold (%d)"},
	{"nvlink_recovery_errors_delta", "nvlink_error", true, "%d NVLink recoveries"},
	{"nvlink5_recoveries_failed_delta", "nvlink_error", true, "%d NVLink recoveries failed"},
	{"pcie_fatal_errors_delta", "pcie_fatal", true, "%d fatal PCIe errors"},
	{"recovery_action", "recovery_action", false, "the driver asks for recovery action %d"},
}

// heldDown are the bits of clocks_event_reasons that cost performance without being asked for: hardware slowdown,
// software and hardware thermal slowdown, power brake. The power cap is not among them: GPUs at work live there.
var heldDown = []struct {
	bit  int64
	name string
}{
	{0x8, "hardware slowdown"}, {0x20, "software thermal slowdown"}, {0x40, "hardware thermal slowdown"}, {0x80, "power brake"},
}

// places are where the columns that are watched stand among the cells of their tables.
type places struct {
	steps                               []int // in gpu_health, by step
	gpu, reasons                        int   // in gpu_samples
	healthGPU                           int
	inventoryGPU, uuid, parent, address int // in gpu_inventory
	driver                              int // in node_inventory
}

func placesOf() places {
	place := func(table uint8, column string) int {
		t, _ := schema.TableByID(table)
		i := slices.IndexFunc(t.WireColumns(), func(c schema.Column) bool { return c.Name == column })
		if i < 0 {
			panic(fmt.Sprintf("fault: table %s has no column %s", t.Name, column))
		}
		return i
	}
	p := places{
		gpu: place(schema.SamplesID, schema.ColumnGPU), reasons: place(schema.SamplesID, "clocks_event_reasons"),
		healthGPU:    place(schema.HealthID, schema.ColumnGPU),
		inventoryGPU: place(schema.GPUInventoryID, schema.ColumnGPU), uuid: place(schema.GPUInventoryID, "gpu_uuid"),
		parent: place(schema.GPUInventoryID, "parent_gpu_uuid"), address: place(schema.GPUInventoryID, "pci_bus_id"),
		driver: place(schema.NodeInventoryID, "driver_version"),
	}
	for _, s := range steps {
		p.steps = append(p.steps, place(schema.HealthID, s.column))
	}
	return p
}

// NewWatch makes a watch before a sink. boot names the boot of the node, and file keeps the states that last over
// restarts of the agent; "" keeps none.
func NewWatch(sink Sink, journal Writer, devices *Devices, boot, file string, logger *slog.Logger) *Watch {
	w := &Watch{
		Sink: sink, journal: journal, devices: devices, boot: boot, file: file, logger: logger, places: placesOf(),
		held: make(map[int64]*heldGPU), states: newStates(boot),
	}
	if file != "" {
		if err := w.states.load(file); err != nil {
			logger.Warn("states of GPUs that last are told anew", "error", err)
		}
	}
	return w
}

// Append hands a row on, and looks at it.
func (w *Watch) Append(table uint8, cells []batch.Cell) error {
	if err := w.Sink.Append(table, cells); err != nil {
		return err
	}
	switch table {
	case schema.SamplesID:
		return w.clocks(cells)
	case schema.HealthID:
		return w.health(cells)
	case schema.GPUInventoryID:
		p := &w.places
		w.devices.Learn(cells[p.inventoryGPU].Int, cells[p.uuid].Text, cells[p.address].Text, cells[p.parent].OK)
	case schema.NodeInventoryID:
		if version := cells[w.places.driver]; version.OK {
			w.devices.SetBranch(branchOf(version.Text))
		}
	}
	return nil
}

// health tells of counters that went up, and of states that are worse than none and were not told before.
func (w *Watch) health(cells []batch.Cell) error {
	gpu, at := cells[w.places.healthGPU].Int, cells[0].Int
	var found []event.Event
	w.mu.Lock()
	for i, s := range steps {
		cell := cells[w.places.steps[i]]
		switch {
		case !cell.OK:
		case s.counter && cell.Int > 0:
			found = append(found, w.counterEvent(s, gpu, at, cell.Int))
		case !s.counter:
			if fault, began := w.states.take(stateKey{gpu, s.kind}, cell.Int, at); fault {
				found = append(found, w.stateEvent(s, gpu, at, began, cell.Int))
			}
		}
	}
	w.mu.Unlock()
	for _, e := range found {
		if err := w.journal.Write(e); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watch) stepEvent(s step, gpu, at, value int64) event.Event {
	return event.Event{
		Time: time.UnixMilli(at), UUID: w.devices.byID(gpu), Kind: s.kind, Source: schema.SourceCounter,
		Message: fmt.Sprintf(s.message, value), Fault: &event.Fault{},
	}
}

func (w *Watch) counterEvent(s step, gpu, at, value int64) event.Event {
	e := w.stepEvent(s, gpu, at, value)
	e.Count = &value
	return e
}

// stateEvent is named by when the state began, so that each time is a fault of its own; or, if nobody saw it begin, by
// the boot, so that all lives of an agent that keeps nothing mean the same.
func (w *Watch) stateEvent(s step, gpu, at, began, value int64) event.Event {
	e := w.stepEvent(s, gpu, at, value)
	e.Fault.Name = fmt.Sprintf("state %s %s %s %d", w.boot, e.UUID, s.kind, value)
	if began != 0 {
		e.Fault.Name = fmt.Sprintf("%s since %d", e.Fault.Name, began)
	}
	if s.kind == "recovery_action" {
		e.Fault.RecoveryAction = &value
	}
	return e
}

// clocks tells when a GPU begins to be held down, and when that ends. A state that lasts for less than a tick
// may be missed: the counters throttle_* have it all the same.
func (w *Watch) clocks(cells []batch.Cell) error {
	reasons := cells[w.places.reasons]
	if !reasons.OK {
		return nil
	}
	at, now := time.UnixMilli(cells[0].Int), reasons.Int&0xe8
	w.mu.Lock()
	state := w.held[cells[w.places.gpu].Int]
	if state == nil {
		state = &heldGPU{}
		w.held[cells[w.places.gpu].Int] = state
	}
	before, since := state.reasons, state.since
	state.reasons = now
	if before == 0 {
		state.since = at
	}
	w.mu.Unlock()
	e := event.Event{Time: at, Source: schema.SourceCounter}
	switch {
	case now == before || before != 0 && now != 0:
		return nil
	case now != 0:
		e.Kind, e.Message = "throttle_started", namesOf(now)
	default:
		e.Kind, e.Message = "throttle_ended", namesOf(before)
		if lasted := at.Sub(since).Milliseconds(); lasted >= 0 { // else the clock was set back meanwhile
			e.Count = &lasted
		}
	}
	e.UUID = w.devices.byID(cells[w.places.gpu].Int)
	return w.journal.Write(e)
}

func namesOf(reasons int64) string {
	var names []string
	for _, r := range heldDown {
		if reasons&r.bit != 0 {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, ", ")
}

// branchOf is the driver branch of a version such as 580.95.05; 0 if it has none.
func branchOf(version string) int {
	major, _, _ := strings.Cut(version, ".")
	branch, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return branch
}
