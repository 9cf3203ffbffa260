// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/internal/golden"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestBatchOfAnotherImplementation reads what Apache Arrow for JavaScript wrote: any Flight client can
// push.
func TestBatchOfAnotherImplementation(t *testing.T) {
	const recording, recorder = "testdata/foreign/gpu_events.arrows", "testdata/foreign/record.mjs"
	stream, err := os.ReadFile(recording)
	if err != nil {
		t.Fatalf("%v: record it with %s", err, recorder)
	}
	l := newLink(t, schema.EventsID)
	schemaMessage, rest := cutMessage(t, stream)
	if err := wire.CheckSchema(schemaMessage, l.table.WireSchema()); err != nil {
		t.Errorf("%v: if gpu_events was changed, record it again with %s", err, recorder)
	}
	header, body := cutMessage(t, rest)
	body = body[:len(body)-8] // the end of the stream
	record, err := l.receiveSealed(l.identityOf(3), header, body)
	if err != nil {
		t.Fatal(err)
	}
	defer record.Release()
	wantRecord(t, record, golden.Events())
}

// cutMessage takes the header of the first message off a stream: continuation, length, header.
func cutMessage(t *testing.T, stream []byte) (header, rest []byte) {
	t.Helper()
	if binary.LittleEndian.Uint32(stream) != 0xffffffff {
		t.Fatalf("stream goes on with % x, want a continuation", stream[:4])
	}
	n := binary.LittleEndian.Uint32(stream[4:])
	return stream[8 : 8+n], stream[8+n:]
}

func TestCheckSchemaTakesOwnSchemas(t *testing.T) {
	for _, table := range schema.Tables() {
		message := table.SchemaMessage()
		if err := wire.CheckSchema(message, table.WireSchema()); err != nil {
			t.Errorf("%s: %v", table.Name, err)
		}
		for n := range message {
			if err := wire.CheckSchema(message[:n], table.WireSchema()); err != nil {
				wantRefused(t, err, "cut schema")
			}
		}
	}
}

func TestCheckSchemaRefuses(t *testing.T) {
	want := arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.PrimitiveTypes.Uint16}, {Name: "b", Type: arrow.FixedWidthTypes.Timestamp_ms},
	}, nil)
	a, b := want.Field(0), want.Field(1)
	typed := func(f arrow.Field, t arrow.DataType) arrow.Field {
		f.Type = t
		return f
	}
	tests := []struct {
		why    string
		fields []arrow.Field
	}{
		{"1 columns, want 2", []arrow.Field{a}},
		{"3 columns, want 2", []arrow.Field{a, b, b}},
		{`column 0 is "b", want "a"`, []arrow.Field{b, a}},
		{"type int16, want uint16", []arrow.Field{typed(a, arrow.PrimitiveTypes.Int16), b}},
		{"type uint32, want uint16", []arrow.Field{typed(a, arrow.PrimitiveTypes.Uint32), b}},
		{"type float64, want uint16", []arrow.Field{typed(a, arrow.PrimitiveTypes.Float64), b}},
		{"type a shorter float, want uint16", []arrow.Field{typed(a, arrow.PrimitiveTypes.Float32), b}},
		{"type utf8, want uint16", []arrow.Field{typed(a, arrow.BinaryTypes.String), b}},
		{"type number", []arrow.Field{typed(a, arrow.ListOf(arrow.PrimitiveTypes.Uint16)), b}},
		{"dictionary-encoded", []arrow.Field{typed(a, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint16, ValueType: arrow.BinaryTypes.String}), b}},
		{`timestamp[2, "UTC"], want timestamp[1, "UTC"]`, []arrow.Field{a, typed(b, arrow.FixedWidthTypes.Timestamp_us)}},
		{`timestamp[1, ""], want timestamp[1, "UTC"]`, []arrow.Field{a, typed(b, &arrow.TimestampType{Unit: arrow.Millisecond})}},
	}
	for _, tt := range tests {
		payload := ipc.GetSchemaPayload(arrow.NewSchema(tt.fields, nil), memory.DefaultAllocator)
		meta := payload.Meta()
		err := wire.CheckSchema(meta.Bytes(), want)
		wantMalformed(t, err, tt.why)
		if err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("got %v, want it to say %q", err, tt.why)
		}
		meta.Release()
		payload.Release()
	}
}
