// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// fuzzed is a receiver with one stream and no network. It is its own store and quarantine.
type fuzzed struct {
	grpc.ServerStream
	t        *testing.T
	receiver *Receiver
	stream   *stream

	submitted, kept, recorded int
}

func (f *fuzzed) Context() context.Context { return f.t.Context() }

func (f *fuzzed) Send(*flight.PutResult) error { return nil }

func (f *fuzzed) Recv() (*flight.FlightData, error) { panic("nobody receives") }

func (f *fuzzed) Claim(context.Context, uint8, uint64, uint64, uint64, bool) (store.Grant, error) {
	return store.Grant{Tenure: 1}, nil
}

// Submit holds what comes against all that the store relies on.
func (f *fuzzed) Submit(_ context.Context, i store.Item) error {
	f.submitted++
	if i.Key.Node != f.stream.node || i.Key.Epoch != f.stream.hello.Epoch || i.Key.Table != f.stream.table.ID || i.Key.Sequence == 0 {
		f.t.Errorf("submitted batch %v in the stream of node %016x, epoch %d", i.Key, f.stream.node, f.stream.hello.Epoch)
	}
	record := i.Columns.Record()
	defer i.Columns.Release()
	defer record.Release()
	if !record.Schema().Equal(f.stream.table.WireSchema()) || record.NumRows() < 1 || record.NumRows() > wire.MaxRows {
		f.t.Errorf("submitted %d rows of %v", record.NumRows(), record.Schema())
	}
	for n, column := range record.Columns() {
		if err := array.ValidateFull(column); err != nil {
			f.t.Errorf("column %s: %v", record.ColumnName(n), err)
		}
		for row := range column.Len() {
			column.ValueStr(row)
		}
	}
	for _, at := range record.Column(0).(*array.Timestamp).TimestampValues() {
		if ms := int64(at); ms < i.From.UnixMilli() || ms > i.To.UnixMilli() {
			f.t.Errorf("a row of %d lies outside %v to %v", ms, i.From, i.To)
		}
	}
	if i.From.Truncate(24*time.Hour) != i.To.Truncate(24*time.Hour) || i.From.Before(noon.Add(-7*24*time.Hour)) || i.To.After(noon.Add(5*time.Minute)) {
		f.t.Errorf("submitted rows from %v to %v", i.From, i.To)
	}
	i.Done(nil)
	return nil
}

func (f *fuzzed) Quarantined(context.Context, wire.Key, int64, string) error {
	f.recorded++
	return nil
}

func (f *fuzzed) Put(quarantine.Entry, quarantine.Data) (string, error) {
	f.kept++
	return "kept", nil
}

func newFuzzed(t *testing.T) *fuzzed {
	t.Helper()
	f := &fuzzed{t: t}
	r, err := newReceiver(t.Context(), Config{
		Name: "test", MaxMemoryBytes: 64 << 20, MaxAge: 7 * 24 * time.Hour, MaxAhead: 5 * time.Minute,
		Store: f, Index: index.New(f), Quarantine: f, Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	f.receiver = r
	table := batchtest.Table(t, schema.EventsID)
	f.stream = &stream{
		Receiver: r, put: f, awaited: map[uint64]struct{}{}, share: r.shares[0][table.ID], highest: 1, wake: make(chan struct{}, 1), node: wire.NodeID("node-1"), table: table,
		hello: wire.Hello{Table: table.ID, Epoch: 1000, Oldest: 1, Name: "node-1"}, decoder: wire.NewDecoder(table.WireSchema(), r.zstd),
	}
	if f.stream.guest, err = r.guests.enter(f.stream.node, "node-1", 1000, noon); err != nil {
		t.Fatal(err)
	}
	f.stream.hold, err = r.cfg.Index.Open(t.Context(), index.Life{Table: table.ID, Node: f.stream.node, Epoch: 1000}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// checksummed writes the right checksum over whatever it says.
func checksummed(metadata, header, body []byte) []byte {
	if len(metadata) != 44 {
		return metadata
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Checksum(metadata[:40], table), table, header)
	return binary.LittleEndian.AppendUint32(metadata[:40:40], crc32.Update(crc, table, body))
}

// FuzzHandleBatch hands the receiver what a hostile agent may send after its hello. Whatever it is, it ends the stream
// with a status that says why, or is answered once; nothing of it stays in memory; and only sound rows reach the store.
func FuzzHandleBatch(f *testing.F) {
	table := batchtest.Table(f, schema.EventsID)
	key := wire.Key{Table: table.ID, Node: wire.NodeID("node-1"), Epoch: 1000, Sequence: 1}
	for _, times := range [][]time.Time{{noon}, {noon, noon.Add(-time.Hour)}, {time.Unix(1, 0)}, {noon, noon.Add(-24 * time.Hour)}} {
		record := batchtest.RecordAt(table, 1, times...)
		b := batchtest.Encode(f, record, key)
		f.Add(b.Metadata, b.Header, b.Body, true)
		f.Add(b.Metadata, b.Header, b.Body[:len(b.Body)/2], false)
		plain, err := wire.EncodePlain(record, wire.Identity{Table: key.Table, Node: key.Node, Epoch: key.Epoch, Sequence: 2})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain.Metadata, plain.Header, plain.Body, true)
		f.Add(plain.Metadata, table.SchemaMessage(), plain.Body, true)
	}
	f.Add([]byte{}, []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, metadata, header, body []byte, repair bool) {
		if repair {
			metadata = checksummed(metadata, header, body)
		}
		x := newFuzzed(t)
		defer x.receiver.zstd.Close()
		err := x.stream.take(t.Context(), &flight.FlightData{AppMetadata: metadata, DataHeader: header, DataBody: body})
		checkTaken(t, x, err)
	})
}

// checkTaken looks at what is left after one batch.
func checkTaken(t *testing.T, x *fuzzed, err error) {
	t.Helper()
	answers := x.stream.answers
	switch {
	case err != nil:
		if code := status.Code(err); code != codes.InvalidArgument && code != codes.PermissionDenied && code != codes.DataLoss {
			t.Errorf("stream ended with %v", err)
		}
		if len(answers) != 0 || x.submitted != 0 || x.kept != 1 || x.recorded != 0 {
			t.Errorf("stream ended after %d answers, with %d submitted, %d kept and %d recorded", len(answers), x.submitted, x.kept, x.recorded)
		}
	case len(answers) != 1:
		t.Errorf("%d answers", len(answers))
	default:
		want := map[wire.AnswerKind][3]int{wire.Stored: {1, 0, 0}, wire.Rejected: {0, 1, 1}}
		if got := [3]int{x.submitted, x.kept, x.recorded}; got != want[answers[0].Kind] {
			t.Errorf("answer %d (%s) with %v submitted, kept, recorded", answers[0].Kind, answers[0].Reason, got)
		}
	}
	if held := x.stream.share.held.Load(); held != 0 || !x.stream.share.memory.TryAcquire(x.stream.share.budget) {
		t.Errorf("%d bytes are held", held)
	}
	if n := len(x.stream.awaited); n != 0 {
		t.Errorf("%d batches are awaited", n)
	}
}
