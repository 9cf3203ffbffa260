// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait lets virtual time pass in a bubble of synctest.
func wait(d time.Duration) { <-time.After(d) }

// sink keeps what is sent: the kinds of each batch, with commas between them.
type sink struct {
	open, sent []string
	at         []time.Time
	fails      error
}

func (s *sink) Append(table uint8, cells []batch.Cell) error {
	if table != schema.EventsID {
		return errors.New("not a row of gpu_events")
	}
	s.open = append(s.open, cells[2].Text)
	return nil
}

func (s *sink) FlushTable(uint8) error {
	s.sent, s.at = append(s.sent, strings.Join(s.open, ",")), append(s.at, time.Now())
	s.open = nil
	return s.fails
}

func TestEventsOfOneMomentShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := &sink{}, time.Now()
		j := NewJournal(s)
		for _, kind := range []string{"a", "b"} {
			if err := j.Write(Event{Kind: kind}); err != nil {
				t.Fatal(err)
			}
			wait(sendWithin / 2)
		}
		wait(sendWithin)
		if err := j.Write(Event{Kind: "c"}); err != nil {
			t.Fatal(err)
		}
		if err := j.Flush(); err != nil {
			t.Fatal(err)
		}
		wait(time.Hour) // no timer sends an empty batch
		if !slices.Equal(s.sent, []string{"a,b", "c"}) || s.at[0].Sub(began) != sendWithin {
			t.Errorf("sent %q, the first after %s", s.sent, s.at[0].Sub(began))
		}
	})
}

// TestAFlushLeavesNoTimerBehind that would send what is written after it too early.
func TestAFlushLeavesNoTimerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		j := NewJournal(s)
		write := func(kind string) {
			if err := j.Write(Event{Kind: kind}); err != nil {
				t.Fatal(err)
			}
		}
		write("a")
		wait(sendWithin / 2)
		if err := j.Flush(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		write("b")
		wait(sendWithin * 3 / 4)
		write("c")
		wait(sendWithin)
		synctest.Wait()
		if !slices.Equal(s.sent, []string{"a", "b,c"}) || s.at[1].Sub(began) != sendWithin {
			t.Errorf("sent %q, the second %s after the flush", s.sent, s.at[1].Sub(began))
		}
	})
}

func TestAClosedJournalTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		j := NewJournal(s)
		if err := errors.Join(j.Write(Event{Kind: "a"}), j.Close(), j.Close()); err != nil && !errors.Is(err, errClosed) {
			t.Fatal(err)
		}
		if err := j.Write(Event{Kind: "b"}); !errors.Is(err, errClosed) {
			t.Errorf("written after the end: %v", err)
		}
		wait(time.Hour)
		if !slices.Equal(s.sent, []string{"a"}) {
			t.Errorf("sent %q", s.sent)
		}
		s.fails = errors.New("cannot encode")
		j = NewJournal(s)
		if err := errors.Join(j.Write(Event{Kind: "a"}), j.Close()); !errors.Is(err, s.fails) {
			t.Errorf("closed with %v", err)
		}
	})
}

// TestAFlushThatFailsIsTold has the timer's flush fail: nobody waits for it.
func TestAFlushThatFailsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{fails: errors.New("cannot encode")}
		j := NewJournal(s)
		if err := j.Write(Event{Kind: "a"}); err != nil {
			t.Fatal(err)
		}
		wait(2 * sendWithin)
		for _, err := range []error{j.Write(Event{Kind: "b"}), j.Flush()} {
			if !errors.Is(err, s.fails) {
				t.Errorf("got %v, want the flush's error", err)
			}
		}
	})
}

// TestCellsFitTheirColumns gives every field a value, and looks for it under the column's name.
func TestCellsFitTheirColumns(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	at := time.UnixMilli(1_790_000_000_000)
	whole := Event{
		Time: at, UUID: "GPU-1", Kind: "xid", Source: "kernel", XID: n(79), GPUInstance: n(1), ComputeInstance: n(2), Count: n(3), Message: "m",
		NoticeID: "notice", NotBefore: at, NetworkDevice: "mlx5_0", NetworkPort: n(4),
		Fault: &Fault{
			ID: ^uint64(0), Severity: "critical", Class: "pcie", Action: "reboot_node", SXID: n(5), Link: n(6), Subcode: "sub", PCIBusID: "bus",
			ProcessID: n(7), ProcessName: "python", RecoveryAction: n(8), KernelSequence: n(9), Evidence: "[]", CatalogVersion: "1", Occurrences: n(10), LastSeen: at,
		},
	}
	want := map[string]batch.Cell{
		"ts": batch.Milliseconds(at), "gpu_id": batch.ID(wire.GPUID("GPU-1")), "kind": batch.Text("xid"), "source": batch.Text("kernel"),
		"xid": batch.Number(79), "gpu_instance": batch.Number(1), "compute_instance": batch.Number(2), "count": batch.Number(3), "message": batch.Text("m"),
		"fault_id": batch.Number(-1), "severity": batch.Text("critical"), "class": batch.Text("pcie"), "action": batch.Text("reboot_node"),
		"sxid": batch.Number(5), "subcode": batch.Text("sub"), "link": batch.Number(6), "pci_bus_id": batch.Text("bus"), "process_id": batch.Number(7),
		"process_name": batch.Text("python"), "recovery_action": batch.Number(8), "kernel_sequence": batch.Number(9), "evidence": batch.Text("[]"),
		"catalog_version": batch.Text("1"), "occurrences": batch.Number(10), "last_seen": batch.Milliseconds(at), "notice_id": batch.Text("notice"), "not_before": batch.Milliseconds(at),
		"network_device": batch.Text("mlx5_0"), "network_port": batch.Number(4),
	}
	table, _ := schema.TableByID(schema.EventsID)
	cells, columns := whole.Cells(), table.WireColumns()
	bare := Event{Kind: "agent_started"}.Cells()
	if len(cells) != len(columns) || len(bare) != len(columns) {
		t.Fatalf("%d and %d cells for %d columns", len(cells), len(bare), len(columns))
	}
	for i, c := range columns {
		if cells[i] != want[c.Name] {
			t.Errorf("%s is %v, want %v", c.Name, cells[i], want[c.Name])
		}
		if bare[i].OK == c.Nullable {
			t.Errorf("%s of an event that has none: there is %v, nullable %v", c.Name, bare[i].OK, c.Nullable)
		}
	}
}
