// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestStored(t *testing.T) {
	f := serve(t, nil)
	for _, table := range schema.Tables() {
		a := f.agent(t, func(a *agent) { a.table = table })
		for s := uint64(1); s <= 3; s++ {
			a.send(a.batch(s))
			a.want(wire.Stored, s)
		}
		if err := a.put.CloseSend(); err != nil {
			t.Fatal(err)
		}
		a.wantEnd(codes.OK)
	}
	n := len(schema.Tables())
	if keys := f.submitted(); len(keys) != 3*n {
		t.Errorf("submitted %v", keys)
	}
	if rows := f.rowCount(); rows != int64(15*n) {
		t.Errorf("%d rows were submitted", rows)
	}
	if files := f.files(t); len(files) != 0 {
		t.Errorf("quarantine holds %v", files)
	}
}

func TestOutOfOrder(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	for _, s := range []uint64{3, 1, 5, 2, 4} {
		a.send(a.batch(s))
		a.want(wire.Stored, s)
	}
	if len(f.submitted()) != 5 {
		t.Errorf("submitted %v", f.submitted())
	}
}

func TestBatchSentTwice(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	f.set(func() { f.hold = true })
	a.send(a.batch(1))
	a.send(a.batch(1)) // while the first is on its way
	a.send(a.batch(2))
	f.await(t, "batch 2", func() bool { return len(f.held) == 2 })
	f.settle()
	a.want(wire.Stored, 1) // one answer for both
	a.want(wire.Stored, 2)
	a.send(a.batch(1)) // after it was stored
	a.want(wire.Stored, 1)
	if keys := f.submitted(); !slices.Equal(keys, []wire.Key{a.key(1), a.key(2)}) {
		t.Errorf("submitted %v", keys)
	}
}

func TestLedgerKnows(t *testing.T) {
	f := serve(t, nil)
	f.ledger = []uint64{4, 6}
	a := f.agent(t, func(a *agent) { a.from = 4 })
	for _, s := range []uint64{4, 5, 6} {
		a.send(a.batch(s))
		a.want(wire.Stored, s)
	}
	if keys := f.submitted(); !slices.Equal(keys, []wire.Key{a.key(5)}) {
		t.Errorf("submitted %v", keys)
	}
}

// TestAnswersAfterCloseSend is what any Flight client does: it sends, says that this was all, and reads the answers.
func TestAnswersAfterCloseSend(t *testing.T) {
	f := serve(t, nil)
	f.set(func() { f.hold = true })
	a := f.agent(t, nil)
	for s := uint64(1); s <= 3; s++ {
		a.send(a.batch(s))
	}
	if err := a.put.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.await(t, "three batches", func() bool { return len(f.held) == 3 })
	f.settle()
	for s := uint64(1); s <= 3; s++ {
		a.want(wire.Stored, s)
	}
	a.wantEnd(codes.OK)
}

// TestReconnect breaks a stream while its batch waits for the store, and sends it on another: whoever brings it to an
// end must answer on the stream that is left.
func TestReconnect(t *testing.T) {
	f := serve(t, nil)
	stalled := make(chan struct{})
	f.set(func() { f.stalled[schema.EventsID] = stalled })
	first := f.agent(t, nil)
	first.send(first.batch(1))
	f.await(t, "the first stream", func() bool { return f.waiting == 1 })
	second := f.agent(t, nil)
	second.send(second.batch(1)) // flies already
	second.send(second.batch(2)) // when this one waits, that one has been looked at
	f.await(t, "the second stream", func() bool { return f.waiting == 2 })
	first.leave()
	second.want(wire.Retry, 1)
	f.set(func() { delete(f.stalled, schema.EventsID) })
	close(stalled)
	second.send(second.batch(1))
	got := []uint64{second.answer().Sequence, second.answer().Sequence}
	slices.Sort(got)
	if !slices.Equal(got, []uint64{1, 2}) || len(f.submitted()) != 2 {
		t.Errorf("answers to %v, submitted %v", got, f.submitted())
	}
}

// TestReconnectWhileStored breaks a stream whose batch is being stored.
func TestReconnectWhileStored(t *testing.T) {
	f := serve(t, nil)
	f.set(func() { f.hold = true })
	first := f.agent(t, nil)
	first.send(first.batch(1))
	f.await(t, "the batch", func() bool { return len(f.held) == 1 })
	first.leave()
	second := f.agent(t, nil)
	second.send(second.batch(1))
	second.send(second.batch(2))
	f.await(t, "the second batch", func() bool { return len(f.held) == 2 })
	f.settle()
	second.want(wire.Stored, 1)
	second.want(wire.Stored, 2)
	if len(f.submitted()) != 2 {
		t.Errorf("submitted %v", f.submitted())
	}
}

func TestWrongTimes(t *testing.T) {
	day := 24 * time.Hour
	midnight := noon.Truncate(day)
	for name, c := range map[string]struct {
		times []time.Time
		want  string // part of the reason; "" if it is stored
	}{
		"1970":              {[]time.Time{time.Unix(1, 0), noon}, "old"},
		"2100":              {[]time.Time{noon, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, "ahead"},
		"end of time":       {[]time.Time{time.UnixMilli(1<<63 - 1)}, "ahead"},
		"beginning":         {[]time.Time{time.UnixMilli(-1 << 63)}, "old"},
		"just too old":      {[]time.Time{noon.Add(-7*day - time.Millisecond)}, "old"},
		"just young":        {[]time.Time{noon.Add(-7 * day)}, ""},
		"just too far":      {[]time.Time{noon.Add(5*time.Minute + time.Millisecond)}, "ahead"},
		"just near":         {[]time.Time{noon.Add(5 * time.Minute)}, ""},
		"two days":          {[]time.Time{midnight, midnight.Add(-time.Millisecond)}, "UTC day"},
		"a whole day":       {[]time.Time{midnight.Add(-day), midnight.Add(-time.Millisecond)}, ""},
		"order is no fault": {[]time.Time{noon, noon.Add(-time.Hour), noon.Add(-time.Minute)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.agent(t, nil)
			sent := a.batchAt(1, c.times...)
			a.send(sent)
			if c.want == "" {
				a.want(wire.Stored, 1)
			} else {
				answer := a.want(wire.Rejected, 1)
				if !strings.Contains(answer.Reason, c.want) {
					t.Errorf("reason %q", answer.Reason)
				}
				f.wantQuarantined(t, sent, a.key(1))
				if recorded := f.recorded(); recorded[a.key(1)] != answer.Reason {
					t.Errorf("the ledger was told %v", recorded)
				}
			}
			a.send(a.batch(2))
			a.want(wire.Stored, 2)
		})
	}
}

func TestMicrosecondsHaveTimesToo(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, func(a *agent) { a.table = schema.Tables()[schema.SubsecondID-1] })
	a.send(a.batchAt(1, noon.Add(time.Hour)))
	a.want(wire.Rejected, 1)
	a.send(a.batchAt(2, noon.Add(-time.Hour)))
	a.want(wire.Stored, 2)
}

func TestRefusedByTheStore(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	f.set(func() {
		f.refuse = func(k wire.Key) error {
			if k.Sequence == 2 {
				return store.Refused{Reason: errors.New("value is no address")}
			}
			return nil
		}
	})
	sent := a.batch(2)
	a.send(a.batch(1))
	a.want(wire.Stored, 1)
	a.send(sent)
	if answer := a.want(wire.Rejected, 2); !strings.Contains(answer.Reason, "value is no address") {
		t.Errorf("reason %q", answer.Reason)
	}
	f.wantQuarantined(t, sent, a.key(2))
	a.send(a.batch(3))
	a.want(wire.Stored, 3)
	f.set(func() { f.refuse = nil }) // a person has mended the table
	a.send(sent)
	a.want(wire.Stored, 2)
}

// TestRefusedAndNotKept: what cannot be put into quarantine stays with the agent, which is to send it again.
func TestRefusedAndNotKept(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	f.set(func() {
		f.refuse = func(wire.Key) error { return store.Refused{Reason: errors.New("value is no address")} }
	})
	f.set(func() { f.deaf = errors.New("ClickHouse is away") })
	a.send(a.batch(1))
	a.want(wire.Retry, 1)
	f.set(func() { f.deaf = nil })
	a.send(a.batch(1))
	a.want(wire.Rejected, 1)
}

func TestLedgerIsAwayAtAReject(t *testing.T) {
	f := serve(t, nil)
	a := f.agent(t, nil)
	f.set(func() { f.deaf = errors.New("ClickHouse is away") })
	a.send(a.batchAt(1, time.Unix(1, 0)))
	if reason := a.wantEnd(codes.Unavailable); !strings.Contains(reason, "ClickHouse is away") {
		t.Error(reason)
	}
	f.set(func() { f.deaf = nil })
	b := f.agent(t, nil)
	b.send(b.batchAt(1, time.Unix(1, 0)))
	b.want(wire.Rejected, 1)
}

func TestQuarantineIsFull(t *testing.T) {
	f := serve(t, func(cfg *Config) {
		small, err := quarantine.Open(t.TempDir(), 100)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Quarantine = small
	})
	a := f.agent(t, nil)
	a.send(a.batchAt(1, time.Unix(1, 0)))
	if reason := a.wantEnd(codes.ResourceExhausted); !strings.Contains(reason, "quarantine is full") {
		t.Error(reason)
	}
	if len(f.recorded()) != 0 || len(f.submitted()) != 0 {
		t.Errorf("recorded %v, submitted %v", f.recorded(), f.submitted())
	}
}

// TestForeignFacts: an agent cannot give its node, or a GPU, the name of another.
func TestForeignFacts(t *testing.T) {
	for name, c := range map[string]struct {
		table  uint8
		column string
		says   string
	}{
		"another node's name": {schema.NodeInventoryID, "node_name", `names node "someone"`},
		"another GPU's id":    {schema.GPUInventoryID, "gpu_uuid", `gives GPU "someone" the id`},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, nil)
			a := f.agent(t, func(a *agent) { a.table = batchtest.Table(t, c.table) })
			record := batchtest.RecordAt(a.table, 1, noon, noon)
			b := array.NewStringBuilder(memory.DefaultAllocator)
			defer b.Release()
			at := record.Schema().FieldIndices(c.column)[0]
			b.AppendValues([]string{record.Column(at).ValueStr(0), "someone"}, nil)
			changed, err := record.SetColumn(at, b.NewArray())
			if err != nil {
				t.Fatal(err)
			}
			sent := data(batchtest.Encode(t, changed, a.key(1)))
			a.send(sent)
			if answer := a.want(wire.Rejected, 1); !strings.Contains(answer.Reason, c.says) {
				t.Errorf("reason %q", answer.Reason)
			}
			f.wantQuarantined(t, sent, a.key(1))
			a.send(a.batch(2))
			a.want(wire.Stored, 2)
		})
	}
}
