// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wait lets virtual time pass in a bubble of synctest.
func wait(d time.Duration) { <-time.After(d) }

const (
	gpuA, gpuB = "GPU-a", "GPU-b"
	addressA   = "00000000:3B:00.0" // as NVML writes it
)

// written keeps the events that were written.
type written struct {
	mu    sync.Mutex
	rows  []event.Event
	fails error
}

func (w *written) Write(e event.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows = append(w.rows, e)
	return w.fails
}

func (w *written) all() []event.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.rows)
}

// judge calls everything what it is.
type judge struct{}

func (judge) Judge(e event.Event, branch int) Verdict {
	if strings.HasPrefix(e.Message, "Fatal") {
		return Verdict{Severity: "critical", Class: e.Kind, Action: "reset_gpu", Version: "1"}
	}
	v := Verdict{Severity: "warning", Class: e.Kind, Action: "none", Version: "1"}
	if e.Fault.RecoveryAction != nil && branch >= 565 {
		v.Action = "as the driver says"
	}
	return v
}

// fixture is a journal of a node with two GPUs.
type fixture struct {
	*Journal
	out    *written
	faults []event.Event // that OnFault was told of
}

func newFixture(epoch uint64) *fixture {
	f := &fixture{out: &written{}}
	devices := NewDevices()
	devices.Learn(1, gpuA, addressA, false)
	devices.Learn(2, gpuB, "00000000:5E:00.0", false)
	devices.SetBranch(580)
	f.Journal = NewJournal(Config{
		Node: "node-1", Epoch: epoch, Writer: f.out, Judge: judge{}, Devices: devices,
		OnFault: func(e event.Event) { f.faults = append(f.faults, e) }, Logger: slog.New(slog.DiscardHandler),
	})
	return f
}

// say writes events a little apart, and waits until they are written.
func (f *fixture) say(t *testing.T, events ...event.Event) []event.Event {
	t.Helper()
	for _, e := range events {
		if err := f.Write(e); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Millisecond)
	}
	wait(stormGather)
	return f.out.all()
}

// fromKernel is an XID as the kernel's log has it.
func fromKernel(code, sequence int64) event.Event {
	return event.Event{
		Kind: "xid", Source: schema.SourceKernel, XID: &code, Message: "NVRM: Xid (PCI:0000:3b:00): a long line of the log",
		Fault: &event.Fault{PCIBusID: "0000:3b:00", ProcessID: new(int64(4711)), ProcessName: "python", KernelSequence: &sequence, Name: "boot " + string(rune('0'+sequence))},
	}
}

func fromDriver(code int64) event.Event {
	return event.Event{Kind: "xid", Source: schema.SourceDriver, XID: &code, UUID: gpuA}
}

func TestSourcesOfOneFault(t *testing.T) {
	counted := func(kind string) event.Event {
		return event.Event{Kind: kind, Source: schema.SourceCounter, UUID: gpuA, Count: new(int64(3)), Message: "3 of them"}
	}
	lost := event.Event{Kind: "gpu_lost", UUID: gpuA}
	doubleBit := event.Event{Kind: "ecc_double_bit", Source: schema.SourceDriver, UUID: gpuA}
	off := event.Event{Kind: "gpu_off_bus", Source: schema.SourceKernel, Fault: &event.Fault{PCIBusID: "0000:3b:00.0"}}
	tests := map[string]struct {
		events  []event.Event
		want    string // kind xid source of each row
		sources int    // pieces of evidence of the last row
	}{
		"the driver, then the kernel":      {[]event.Event{fromDriver(79), fromKernel(79, 1)}, "xid 79 kernel,nvml", 2},
		"the kernel, then the driver":      {[]event.Event{fromKernel(79, 1), fromDriver(79)}, "xid 79 kernel,nvml", 2},
		"lost first, the code later":       {[]event.Event{lost, fromKernel(79, 1)}, "xid 79 agent,kernel; gpu_lost agent", 2},
		"the code first, lost later":       {[]event.Event{fromKernel(79, 1), lost}, "xid 79 agent,kernel; gpu_lost agent", 2},
		"lost after another fault":         {[]event.Event{fromDriver(48), lost}, "xid 48 agent,nvml; gpu_lost agent", 2},
		"an error that does not explain":   {[]event.Event{lost, fromKernel(13, 1)}, "gpu_lost agent; xid 13 kernel", 1},
		"one source, code and symptom":     {[]event.Event{fromDriver(48), doubleBit}, "xid 48 nvml", 2},
		"one source, symptom and code":     {[]event.Event{doubleBit, fromDriver(48)}, "xid 48 nvml", 2},
		"two of each":                      {[]event.Event{fromDriver(48), doubleBit, fromDriver(48), doubleBit}, "xid 48 nvml ×2; ecc_double_bit nvml", 1},
		"off the bus without a code":       {[]event.Event{off, lost}, "gpu_off_bus agent,kernel; gpu_lost agent", 2},
		"two codes are two faults":         {[]event.Event{fromKernel(48, 1), fromKernel(63, 2)}, "xid 48 kernel; xid 63 kernel", 1},
		"a double bit error and its count": {[]event.Event{fromDriver(48), counted("ecc_uncorrectable")}, "xid 48 counter,nvml", 2},
		"the verdict of the driver":        {[]event.Event{fromKernel(48, 1), fromKernel(154, 2)}, "xid 48 kernel", 2},
		"a verdict on what was only seen":  {[]event.Event{lost, fromKernel(154, 1)}, "gpu_lost agent,kernel", 2},
		"a verdict on nothing":             {[]event.Event{fromKernel(154, 2)}, "xid 154 kernel", 1},
		"a code that the driver lacks": {
			[]event.Event{{Kind: "xid", Source: schema.SourceDriver, UUID: gpuA}, fromKernel(119, 1)}, "xid 119 kernel,nvml", 2,
		},
		"a counter alone":   {[]event.Event{counted("row_remapped")}, "row_remapped counter", 1},
		"not a fault":       {[]event.Event{{Kind: "ticks_missed", Count: new(int64(2))}}, "ticks_missed ", 0},
		"three equal lines": {[]event.Event{fromKernel(31, 1), fromKernel(31, 2), fromKernel(31, 3)}, "xid 31 kernel ×3", 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rows := newFixture(1).say(t, tt.events...)
				var got []string
				for _, r := range rows {
					got = append(got, describe(r))
				}
				if joined := strings.Join(got, "; "); joined != tt.want {
					t.Errorf("got %q, want %q", joined, tt.want)
				}
				last := rows[len(rows)-1]
				for _, r := range rows {
					if r.Fault != nil {
						last = r
					}
				}
				if last.Fault != nil && len(evidenceOf(t, last)) != tt.sources {
					t.Errorf("evidence %s, want %d pieces", last.Fault.Evidence, tt.sources)
				}
			})
		})
	}
}

func describe(e event.Event) string {
	text := e.Kind + " "
	if e.XID != nil {
		text += string(rune('0'+*e.XID/100)) + string(rune('0'+*e.XID/10%10)) + string(rune('0'+*e.XID%10)) + " "
	}
	text = strings.ReplaceAll(text, " 0", " ")
	text += e.Source
	if e.Fault != nil && *e.Fault.Occurrences > 1 {
		text += " ×" + string(rune('0'+*e.Fault.Occurrences))
	}
	return text
}

func evidenceOf(t *testing.T, e event.Event) (said []evidence) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.Fault.Evidence), &said); err != nil {
		t.Fatal(err)
	}
	return said
}

// TestAFaultKnowsWhatAnySourceKnew reads the row of a fault of two sources.
func TestAFaultKnowsWhatAnySourceKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		rows := f.say(t, fromDriver(79), fromKernel(79, 1))
		r := rows[0]
		if r.UUID != gpuA || r.Fault.PCIBusID != "0000:3b:00.0" || *r.Fault.ProcessID != 4711 || r.Fault.ProcessName != "python" || *r.Fault.KernelSequence != 1 {
			t.Errorf("row %+v, fault %+v", r, r.Fault)
		}
		if r.Fault.Severity != "warning" || r.Fault.CatalogVersion != "1" || r.Fault.ID == 0 || !strings.Contains(r.Message, "long line") {
			t.Errorf("row %+v, fault %+v", r, r.Fault)
		}
		if len(f.faults) != 1 || f.faults[0].Fault.ID != r.Fault.ID {
			t.Errorf("told of %v", f.faults)
		}
	})
}

// TestLateEvidenceIsAnotherRow has the counter of the minute come long after the code.
func TestLateEvidenceIsAnotherRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		f.say(t, fromDriver(48))
		wait(time.Minute)
		rows := f.say(t, event.Event{Kind: "ecc_uncorrectable", Source: schema.SourceCounter, UUID: gpuA, Count: new(int64(1)), Message: "1 error"})
		if len(rows) != 2 || rows[0].Fault.ID != rows[1].Fault.ID || describe(rows[1]) != "xid 48 counter,nvml" || len(evidenceOf(t, rows[1])) != 2 {
			t.Fatalf("rows %v", rows)
		}
		wait(3 * time.Minute)
		rows = f.say(t, event.Event{Kind: "ecc_uncorrectable", Source: schema.SourceCounter, UUID: gpuA, Count: new(int64(1)), Message: "1 error"})
		if len(rows) != 3 || rows[2].Fault.ID == rows[1].Fault.ID || len(f.faults) != 2 {
			t.Errorf("rows %v, told of %d faults: minutes later it is another fault", rows, len(f.faults))
		}
	})
}

// TestRowsOfAFaultShareTimeAndGPU, or it would not be found by them: what comes later has a time of its own, earlier or
// not. How often it happened, and when it was last reported, is what changes.
func TestRowsOfAFaultShareTimeAndGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		began := time.Now()
		for _, late := range []time.Duration{-4 * time.Second, time.Second} {
			f.say(t, fromDriver(48), fromDriver(48)) // a fault of its own each time
			e := fromKernel(48, 1)
			e.Time = time.Now().Add(late - stormGather)
			f.say(t, e)
		}
		rows := f.out.all()
		for i := 0; i < len(rows); i += 2 {
			first, second := rows[i], rows[i+1]
			if first.Fault.ID != second.Fault.ID || !first.Time.Equal(second.Time) || first.UUID != gpuA || second.UUID != gpuA {
				t.Errorf("rows of one fault: %v and %v", first, second)
			}
			if *first.Fault.Occurrences != 2 || *second.Fault.Occurrences != 2 || second.Fault.LastSeen.Before(first.Fault.LastSeen) {
				t.Errorf("happened %d and %d times, last at %s and %s after the start", *first.Fault.Occurrences, *second.Fault.Occurrences,
					first.Fault.LastSeen.Sub(began), second.Fault.LastSeen.Sub(began))
			}
		}
		if last := rows[3].Fault.LastSeen; len(rows) != 4 || !last.After(rows[2].Fault.LastSeen) {
			t.Errorf("%d rows, last seen at %s after the start", len(rows), last.Sub(began))
		}
	})
}

// TestFaultsOfTwoGPUs are two, whatever they have in common.
func TestFaultsOfTwoGPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := fromDriver(79)
		other.UUID = gpuB
		unknown := fromKernel(79, 1)
		unknown.Fault.PCIBusID = "0000:ff:00"
		if rows := newFixture(1).say(t, fromDriver(79), other, unknown); len(rows) != 3 || rows[2].UUID != "" {
			t.Errorf("rows %v", rows)
		}
	})
}

// TestTheGravestLineCounts: the longest line of a code is not the one that matters.
func TestTheGravestLineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fatal := fromKernel(145, 2)
		fatal.Message = "Fatal"
		for _, order := range [][]event.Event{{fromKernel(145, 1), fatal}, {fatal, fromKernel(145, 1)}} {
			rows := newFixture(1).say(t, order...)
			if len(rows) != 1 || rows[0].Fault.Severity != "critical" || rows[0].Fault.Action != "reset_gpu" {
				t.Errorf("rows %v, fault %+v", rows, rows[0].Fault)
			}
		}
	})
}

// TestTimeIsTheEarliest, and what is said too late is another fault.
func TestTimeIsTheEarliest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		first, second := fromDriver(79), fromKernel(79, 1)
		first.Time, second.Time = at, at.Add(-3*time.Second)
		if rows := newFixture(1).say(t, first, second); len(rows) != 1 || !rows[0].Time.Equal(second.Time) {
			t.Errorf("rows %v", rows)
		}
		second.Time = at.Add(-matchWithin - 2*time.Second)
		lost := event.Event{Kind: "gpu_lost", UUID: gpuA, Time: at}
		if rows := newFixture(1).say(t, lost, second); len(rows) != 2 {
			t.Errorf("rows %v: they are too far apart to be one", rows)
		}
	})
}

// TestVerdictsDoNotJoinEachOther: two verdicts on nothing that is known are two.
func TestVerdictsDoNotJoinEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		f.say(t, fromKernel(154, 1))
		if rows := f.say(t, event.Event{Kind: "gpu_unavailable", Source: schema.SourceDriver, UUID: gpuA, Time: time.Now().Add(-stormGather)}); len(rows) != 2 {
			t.Errorf("rows %v", rows)
		}
	})
}

// TestPendingFollows: the same counter row tells of a remapping, and that it waits for a reset.
func TestPendingFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := func(kind string) event.Event {
			return event.Event{Kind: kind, Source: schema.SourceCounter, UUID: gpuA, Message: kind}
		}
		if rows := newFixture(1).say(t, counted("row_remapped"), counted("row_remap_pending")); len(rows) != 1 || len(evidenceOf(t, rows[0])) != 2 {
			t.Errorf("rows %v", rows)
		}
	})
}

// TestPartsOfOneGPU has one code befall two links, two units of a link and two MIG instances: one of them may be
// harmless, and another not.
func TestPartsOfOneGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part := func(sequence, link int64, unit string, instance int64) event.Event {
			e := fromKernel(145, sequence)
			e.GPUInstance, e.Fault.Link, e.Fault.Subcode = &instance, &link, unit
			return e
		}
		known := part(1, 3, "RLW_REMAP", 1)
		for _, other := range []event.Event{part(2, 7, "RLW_REMAP", 1), part(3, 3, "RLW_SRC_TRACK", 1), part(4, 3, "RLW_REMAP", 2)} {
			if rows := newFixture(1).say(t, known, other); len(rows) != 2 {
				t.Errorf("rows %v, want one for each of %+v and %+v", rows, known.Fault, other.Fault)
			}
		}
		if rows := newFixture(1).say(t, known, part(5, 3, "RLW_REMAP", 1), fromDriver(145)); len(rows) != 1 {
			t.Errorf("rows %v, want one", rows)
		}
	})
}

// TestRepeatedLater is a fault of its own, even if nothing else is different.
func TestRepeatedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		f.say(t, fromKernel(31, 1))
		if rows := f.say(t, fromKernel(31, 2)); len(rows) != 2 || rows[0].Fault.ID == rows[1].Fault.ID {
			t.Errorf("rows %v", rows)
		}
	})
}

// TestBacklogIsNotOneFault has lines that are hours apart be read at once.
func TestBacklogIsNotOneFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early, late := fromKernel(31, 1), fromKernel(31, 2)
		early.Time, late.Time = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		if rows := newFixture(1).say(t, early, late); len(rows) != 2 {
			t.Errorf("rows %v", rows)
		}
	})
}

// TestALineReadTwiceIsOneFault has two lives of the agent read the same line of the kernel's log.
func TestALineReadTwiceIsOneFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newFixture(1).say(t, fromKernel(79, 1)), newFixture(2).say(t, fromKernel(79, 1))
		if one[0].Fault.ID != two[0].Fault.ID {
			t.Error("the same line makes two faults")
		}
		three := newFixture(2).say(t, fromKernel(79, 2))
		if three[0].Fault.ID == two[0].Fault.ID {
			t.Error("another line makes the same fault")
		}
		four, five := newFixture(1).say(t, fromDriver(79)), newFixture(2).say(t, fromDriver(79))
		if four[0].Fault.ID == five[0].Fault.ID {
			t.Error("events of two lives make the same fault")
		}
	})
}

// TestStorm has a GPU say the same thousands of times: nothing is dropped without being counted.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		const lines = 30_000
		for i := range lines {
			e := fromKernel(31, int64(i+1))
			if err := f.Write(e); err != nil {
				t.Fatal(err)
			}
			wait(2 * time.Millisecond) // a minute
		}
		wait(stormGather)
		var sum int64
		rows := f.out.all()
		for _, r := range rows {
			sum += *r.Fault.Occurrences
			if got := len(evidenceOf(t, r)); got > maxEvidence+1 {
				t.Fatalf("%d pieces of evidence", got)
			}
		}
		if sum != lines || len(rows) > 30 {
			t.Errorf("%d lines in %d rows, want %d in a few", sum, len(rows), lines)
		}
	})
}

// TestMemoryIsBounded has more devices fail than are remembered.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		for i := range 3 * maxRemembered {
			e := fromDriver(79)
			e.UUID = "GPU-" + time.Duration(i).String()
			if err := f.Write(e); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 {
				wait(time.Second)
			}
		}
		wait(stormGather)
		if got := len(f.out.all()); got != 3*maxRemembered || len(f.Journal.faults) > maxRemembered {
			t.Errorf("%d rows, %d faults remembered", got, len(f.Journal.faults))
		}
	})
}

func TestFlushWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		if err := errors.Join(f.Write(fromDriver(79)), f.Flush(), f.Flush()); err != nil {
			t.Fatal(err)
		}
		if got := len(f.out.all()); got != 1 {
			t.Errorf("%d rows, want 1", got)
		}
		wait(time.Minute)
		if got := len(f.out.all()); got != 1 {
			t.Errorf("a timer wrote it again: %d rows", got)
		}
	})
}

func TestAWriteThatFailsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		f.out.fails = errors.New("no room")
		f.say(t)
		if err := f.Write(fromDriver(79)); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if err := f.Write(fromDriver(48)); !errors.Is(err, f.out.fails) {
			t.Errorf("got %v", err)
		}
	})
}

func TestVerdictOfTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(1)
		verdict := fromKernel(154, 2)
		verdict.Fault.RecoveryAction, verdict.Message = new(int64(2)), strings.Repeat("recovery action changed ", 10)
		rows := f.say(t, fromKernel(95, 1), verdict)
		if len(rows) != 1 || rows[0].Message == verdict.Message || *rows[0].XID != 95 || rows[0].Fault.Action != "as the driver says" || *rows[0].Fault.RecoveryAction != 2 {
			t.Errorf("rows %v", rows)
		}
	})
}

func TestAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"00000000:3B:00.0": "0000:3b:00.0", "0000:3b:00": "0000:3b:00.0", "0001:3b:00.1": "0001:3b:00.1",
		"0000000A:01:00.0": "000a:01:00.0", "00010000:01:00.0": "10000:01:00.0", "": "", "nonsense": "nonsense",
	} {
		if got := normal(given); got != want {
			t.Errorf("normal(%q) = %q, want %q", given, got, want)
		}
	}
}
