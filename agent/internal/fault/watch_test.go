// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// counted counts the rows that reach the sink.
type counted struct {
	rows  int
	fails error
}

func (c *counted) Append(uint8, []batch.Cell) error { c.rows++; return c.fails }
func (c *counted) FlushDue(time.Time) error         { return nil }

// watched is a watch of GPU 1, which is gpuA.
type watched struct {
	*Watch
	t    *testing.T
	sink *counted
	out  *written
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, sink: &counted{}, out: &written{}}
	w.start(t, "boot", "")
	return w
}

// start has the next life of the agent begin.
func (w *watched) start(t *testing.T, boot, file string) {
	t.Helper()
	w.Watch = NewWatch(w.sink, w.out, NewDevices(), boot, file, slog.New(slog.DiscardHandler))
	w.row(schema.GPUInventoryID, 0, map[string]batch.Cell{"gpu_uuid": batch.Text(gpuA), "pci_bus_id": batch.Text(addressA)})
}

// row writes a row of GPU 1, so many seconds after the first, and returns the kinds of all events so far.
func (w *watched) row(table uint8, second int64, cells map[string]batch.Cell) (kinds []string) {
	w.t.Helper()
	t, _ := schema.TableByID(table)
	var row []batch.Cell
	for _, c := range t.WireColumns() {
		cell := cells[c.Name]
		switch c.Name {
		case schema.ColumnTime:
			cell = batch.Number(1_790_000_000_000 + second*1000)
		case schema.ColumnGPU:
			cell = batch.Number(1)
		}
		row = append(row, cell)
	}
	if err := w.Append(table, row); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range w.out.all() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestCountersThatRiseAreFaults(t *testing.T) {
	w := newWatched(t)
	w.row(schema.HealthID, 0, map[string]batch.Cell{"ecc_volatile_uncorrected_errors_delta": {}, "pcie_fatal_errors_delta": batch.Number(0)})
	got := w.row(schema.HealthID, 60, map[string]batch.Cell{"ecc_volatile_uncorrected_errors_delta": batch.Number(3)})
	if !slices.Equal(got, []string{"ecc_uncorrectable"}) {
		t.Fatalf("events %v", got)
	}
	e := w.out.all()[0]
	if e.UUID != gpuA || *e.Count != 3 || e.Message != "3 uncorrectable memory errors" || e.Source != schema.SourceCounter || e.Time.UnixMilli() != 1_790_000_060_000 {
		t.Errorf("event %+v", e)
	}
	if got := w.row(schema.HealthID, 120, map[string]batch.Cell{"ecc_volatile_uncorrected_errors_delta": batch.Number(1)}); len(got) != 2 {
		t.Errorf("events %v: it rose again", got)
	}
}

func TestStatesThatGetWorseAreFaults(t *testing.T) {
	w := newWatched(t)
	state := func(second, value int64) []string {
		return w.row(schema.HealthID, second, map[string]batch.Cell{"recovery_action": batch.Number(value)})
	}
	for i, tt := range []struct {
		value int64
		want  int
	}{{0, 0}, {1, 1}, {1, 1}, {2, 2}, {0, 2}, {1, 3}} {
		if got := state(int64(i)*60, tt.value); len(got) != tt.want {
			t.Fatalf("after %d: events %v, want %d", tt.value, got, tt.want)
		}
	}
	all := w.out.all()
	if *all[1].Fault.RecoveryAction != 2 || all[0].Fault.Name == all[2].Fault.Name || all[0].Fault.Name == all[1].Fault.Name {
		t.Errorf("events %+v: each time that a state begins is a fault of its own", all)
	}
	w.row(schema.HealthID, 500, nil) // NULL is no state
	if got := state(600, 1); len(got) != 3 {
		t.Errorf("events %v: the state was unknown for a minute, and is the same", got)
	}
}

func TestThrottling(t *testing.T) {
	w := newWatched(t)
	reasons := func(second, bits int64) []string {
		return w.row(schema.SamplesID, second, map[string]batch.Cell{"clocks_event_reasons": batch.Number(bits)})
	}
	reasons(0, 0x4)  // the power cap is no throttling
	reasons(1, 0x48) // hardware slowdown, hardware thermal
	reasons(2, 0x44)
	w.row(schema.SamplesID, 3, nil)
	got := reasons(4, 0x1)
	if !slices.Equal(got, []string{"throttle_started", "throttle_ended"}) {
		t.Fatalf("events %v", got)
	}
	started, ended := w.out.all()[0], w.out.all()[1]
	if started.UUID != gpuA || started.Message != "hardware slowdown, hardware thermal slowdown" || *ended.Count != 3000 || ended.Message != "hardware thermal slowdown" {
		t.Errorf("events %+v and %+v", started, ended)
	}
}

// TestThrottlingWhileTheClockIsSetBack: nobody knows how long it lasted.
func TestThrottlingWhileTheClockIsSetBack(t *testing.T) {
	w := newWatched(t)
	for _, at := range []struct{ second, bits int64 }{{100, 0x40}, {10, 0x40}, {20, 0}} {
		w.row(schema.SamplesID, at.second, map[string]batch.Cell{"clocks_event_reasons": batch.Number(at.bits)})
	}
	if all := w.out.all(); len(all) != 2 || all[1].Kind != "throttle_ended" || all[1].Count != nil {
		t.Errorf("events %+v", all)
	}
}

func TestInventoryIsLearned(t *testing.T) {
	w := newWatched(t)
	w.row(schema.NodeInventoryID, 0, map[string]batch.Cell{"driver_version": batch.Text("575.57.08")})
	if got := w.devices.Branch(); got != 575 {
		t.Errorf("branch %d", got)
	}
	w.row(schema.NodeInventoryID, 1, nil)
	if got := w.devices.Branch(); got != 575 {
		t.Errorf("branch %d: what is not known now was known before", got)
	}
	if got := w.devices.byAddress("0000:3b:00"); got != gpuA {
		t.Errorf("at 0000:3b:00 is %q", got)
	}
	// A MIG instance sits at the address of its GPU, and is not what the kernel speaks of.
	instance := map[string]batch.Cell{"gpu_uuid": batch.Text("MIG-1"), "parent_gpu_uuid": batch.Text(gpuA), "pci_bus_id": batch.Text(addressA)}
	w.row(schema.GPUInventoryID, 2, instance)
	if got := w.devices.byAddress("0000:3b:00"); got != gpuA {
		t.Errorf("at 0000:3b:00 is %q", got)
	}
}

func TestRowsGoOn(t *testing.T) {
	w := newWatched(t)
	w.row(schema.SamplesID, 0, nil)
	if w.sink.rows != 2 {
		t.Errorf("%d rows reached the sink, want 2", w.sink.rows)
	}
	w.sink.fails = errors.New("no room")
	if err := w.Append(schema.EventsID, event.Event{}.Cells()); !errors.Is(err, w.sink.fails) {
		t.Errorf("got %v", err)
	}
}

// TestARowAllocatesNothing holds the watch against the rule of the hot path.
func TestARowAllocatesNothing(t *testing.T) {
	w := newWatched(t)
	table, _ := schema.TableByID(schema.SamplesID)
	row := make([]batch.Cell, len(table.WireColumns()))
	if allocs := testing.AllocsPerRun(100, func() { _ = w.Append(schema.SamplesID, row) }); allocs > 0 {
		t.Errorf("%v allocations for a row", allocs)
	}
}
