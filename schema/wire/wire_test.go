// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/synthetic"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const startMilliseconds = 1_790_000_000_000

var codecs = []wire.Codec{wire.Uncompressed, wire.Zstd}

// link is both ends of a stream of one table.
type link struct {
	table   schema.Table
	encoder *wire.Encoder
	decoder *wire.Decoder
}

func newLink(t testing.TB, id uint8) link {
	t.Helper()
	table, ok := schema.TableByID(id)
	if !ok {
		t.Fatalf("no table has id %d", id)
	}
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return link{table: table, encoder: e, decoder: wire.NewDecoder(table.WireSchema(), z)}
}

func (l link) identity() wire.Identity {
	return wire.Identity{Table: l.table.ID, Node: wire.NodeID("node-1"), Epoch: startMilliseconds, Sequence: 7}
}

func (l link) random(t testing.TB, rows int) arrow.RecordBatch {
	t.Helper()
	r := synthetic.Random(l.table.WireColumns(), rows, uint64(rows), startMilliseconds)
	t.Cleanup(r.Release)
	return r
}

func (l link) encode(t testing.TB, codec wire.Codec, record arrow.RecordBatch) *wire.Batch {
	t.Helper()
	encode := wire.EncodePlain
	if codec == wire.Zstd {
		encode = l.encoder.Encode
	}
	b, err := encode(record, l.identity())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// receive is what a collector does with a batch.
func (l link) receive(metadata, header, body []byte) (arrow.RecordBatch, error) {
	identity, err := wire.ParseIdentity(metadata, header, body)
	if err != nil {
		return nil, err
	}
	return l.decoder.Decode(identity, header, body)
}

// receiveSealed is receive for bytes that an attacker made up, with the checksum that belongs to them.
func (l link) receiveSealed(identity wire.Identity, header, body []byte) (arrow.RecordBatch, error) {
	return l.receive(identity.AppendTo(nil, header, body), header, body)
}

// wantRefused fails unless err is one of the package's own, and no panic was behind it.
func wantRefused(t *testing.T, err error, what string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: accepted", what)
	case !errors.Is(err, wire.ErrChecksum) && !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLarge):
		t.Errorf("%s: %v, want one of this package's errors", what, err)
	case strings.Contains(err.Error(), "panic"):
		t.Errorf("%s: %v", what, err)
	}
}

func wantRecord(t *testing.T, got, want arrow.RecordBatch) {
	t.Helper()
	if !array.RecordEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for i, c := range got.Columns() {
		if err := array.ValidateFull(c); err != nil {
			t.Errorf("column %s: %v", got.ColumnName(i), err)
		}
	}
}

func TestBatchesComeBackAsTheyWere(t *testing.T) {
	for _, table := range schema.Tables() {
		l := newLink(t, table.ID)
		for _, codec := range codecs {
			for _, rows := range []int{1, 3, 8, 9, 80, 1000} {
				record := l.random(t, rows)
				b := l.encode(t, codec, record)
				got, err := l.receive(b.Metadata, b.Header, b.Body)
				if err != nil {
					t.Fatalf("%s, codec %d, %d rows: %v", table.Name, codec, rows, err)
				}
				wantRecord(t, got, record)
				got.Release()
				if n := len(b.Metadata) + len(b.Header) + len(b.Body); b.Bytes() != n {
					t.Errorf("batch of %d bytes says %d", n, b.Bytes())
				}
			}
		}
	}
}

func TestSlicesOfRecordsComeBack(t *testing.T) {
	l := newLink(t, schema.NodeInventoryID)
	whole := l.random(t, 40)
	for from := range int64(10) {
		part := whole.NewSlice(from, from+17)
		for _, codec := range codecs {
			b := l.encode(t, codec, part)
			got, err := l.receive(b.Metadata, b.Header, b.Body)
			if err != nil {
				t.Fatalf("rows from %d: %v", from, err)
			}
			wantRecord(t, got, part)
			got.Release()
		}
		part.Release()
	}
}

func TestIdentityComesBack(t *testing.T) {
	l := newLink(t, schema.EventsID)
	for _, codec := range codecs {
		b := l.encode(t, codec, l.random(t, 5))
		got, err := wire.ParseIdentity(b.Metadata, b.Header, b.Body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b.Identity, got); diff != "" {
			t.Errorf("identity (-sent +received):\n%s", diff)
		}
		want := l.identity().Key()
		if got.Key() != want || got.Rows != 5 || got.Codec != codec {
			t.Errorf("got %+v, want key %v, 5 rows, codec %d", got, want, codec)
		}
	}
	if got, want := l.identity().Key().String(), "4-4a02bbe9e61b9735-1790000000000-7"; got != want {
		t.Errorf("key %q, want %q", got, want)
	}
}

func TestEncodeRefusesWhatCannotBeReceived(t *testing.T) {
	l := newLink(t, schema.SubsecondID)
	small := l.random(t, 1)
	manyRows := l.random(t, wire.MaxRows+1)
	noRows := small.NewSlice(0, 0)
	defer noRows.Release()
	events := newLink(t, schema.EventsID)
	long := hugeText(t, events.table)
	tests := []struct {
		name     string
		record   arrow.RecordBatch
		sequence uint64
		want     error
	}{
		{"no rows", noRows, 1, wire.ErrMalformed},
		{"too many rows", manyRows, 1, wire.ErrTooLarge},
		{"too many bytes", long, 1, wire.ErrTooLarge},
		{"no sequence", small, 0, wire.ErrMalformed},
	}
	for _, tt := range tests {
		identity := wire.Identity{Table: 1, Node: 1, Epoch: 1, Sequence: tt.sequence}
		if _, err := l.encoder.Encode(tt.record, identity); !errors.Is(err, tt.want) {
			t.Errorf("%s, compressed: %v, want %v", tt.name, err, tt.want)
		}
		if _, err := wire.EncodePlain(tt.record, identity); !errors.Is(err, tt.want) {
			t.Errorf("%s, uncompressed: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// hugeText is a record of events whose message is over the limit of a frame.
func hugeText(t *testing.T, table schema.Table) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.WireSchema())
	defer b.Release()
	for _, f := range b.Fields() {
		switch f := f.(type) {
		case *array.StringBuilder:
			f.Append(strings.Repeat("x", wire.MaxFrameBytes/3+1))
		default:
			f.AppendEmptyValue()
		}
	}
	r := b.NewRecordBatch()
	t.Cleanup(r.Release)
	return r
}

// TestPackedMessagesAreEncodedBatches: packing what EncodePlain made gives the bytes that Encode gives.
func TestPackedMessagesAreEncodedBatches(t *testing.T) {
	for _, table := range schema.Tables() {
		l := newLink(t, table.ID)
		for _, rows := range []int{1, 9, 80} {
			record := l.random(t, rows)
			plain, want := l.encode(t, wire.Uncompressed, record), l.encode(t, wire.Zstd, record)
			got, err := l.encoder.Pack(plain.Header, plain.Body, record.NumRows(), l.identity())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %d rows: (-encoded +packed)\n%s", table.Name, rows, diff)
			}
		}
	}
	l := newLink(t, schema.SamplesID)
	if _, err := l.encoder.Pack(nil, nil, wire.MaxRows+1, l.identity()); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("too many rows: %v", err)
	}
}
