// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// gateSchema has one column of each layout. In the message of gateRecord the buffers are: 0 validity and 1
// values of fixed, 2 validity and 3 values of nullable, 4 validity, 5 offsets and 6 bytes of text.
var gateSchema = arrow.NewSchema([]arrow.Field{
	{Name: "fixed", Type: arrow.PrimitiveTypes.Uint64},
	{Name: "nullable", Type: arrow.PrimitiveTypes.Uint16, Nullable: true},
	{Name: "text", Type: arrow.BinaryTypes.String},
}, nil)

func gateRecord(t *testing.T) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, gateSchema)
	defer b.Release()
	b.Field(0).(*array.Uint64Builder).AppendValues([]uint64{1, 2, 3}, nil)
	b.Field(1).(*array.Uint16Builder).AppendValues([]uint16{1, 2, 3}, []bool{true, false, true})
	b.Field(2).(*array.StringBuilder).AppendValues([]string{"ab", "", "ü"}, nil)
	r := b.NewRecordBatch()
	t.Cleanup(r.Release)
	return r
}

// forgery is a message in the making: its parts lie in header, and writing to them changes it.
type forgery struct {
	message
	header, body []byte
}

func (f *forgery) buffer(i int) []byte       { return f.buffers[i*bufferBytes : (i+1)*bufferBytes] }
func (f *forgery) offset(i int) uint64       { return binary.LittleEndian.Uint64(f.buffer(i)) }
func (f *forgery) setOffset(i int, n uint64) { binary.LittleEndian.PutUint64(f.buffer(i), n) }
func (f *forgery) setLength(i int, n uint64) { binary.LittleEndian.PutUint64(f.buffer(i)[8:], n) }
func (f *forgery) setRows(i int, n uint64)   { binary.LittleEndian.PutUint64(f.nodes[i*nodeBytes:], n) }

func (f *forgery) setNulls(i int, n uint64) {
	binary.LittleEndian.PutUint64(f.nodes[i*nodeBytes+8:], n)
}

func forge(t *testing.T, change func(*forgery)) error {
	t.Helper()
	b, err := EncodePlain(gateRecord(t), Identity{Table: 1, Node: 1, Epoch: 1, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := &forgery{header: bytes.Clone(b.Header), body: bytes.Clone(b.Body)}
	if f.message, err = parseMessage(f.header); err != nil {
		t.Fatal(err)
	}
	change(f)
	record, err := NewDecoder(gateSchema, nil).Decode(b.Identity, f.header, f.body)
	if err == nil {
		record.Release()
	}
	return err
}

func TestDecodeHoldsEachNumberAgainstTheSchema(t *testing.T) {
	tests := []struct {
		name   string
		change func(*forgery)
		want   string // "" if it is allowed
	}{
		{"nothing", func(*forgery) {}, ""},
		{"rows of a column", func(f *forgery) { f.setRows(1, 2) }, "column nullable: 2 rows of 3"},
		{"negative nulls", func(f *forgery) { f.setNulls(1, 1<<63) }, "column nullable: -9223372036854775808 nulls in 3 rows"},
		{"unknown nulls", func(f *forgery) { f.setNulls(1, 1<<64-1) }, "column nullable: -1 nulls in 3 rows"},
		{"more nulls than rows", func(f *forgery) { f.setNulls(1, 4) }, "column nullable: 4 nulls in 3 rows"},
		{"other nulls than the bitmap has", func(f *forgery) { f.setNulls(1, 2) }, "column nullable: 2 values are valid, announced 1"},
		{"nulls where none may be", func(f *forgery) { f.setNulls(0, 1) }, "column fixed: 1 nulls, and it may have none"},
		{"no validity beside nulls", func(f *forgery) { f.setLength(2, 0) }, "column nullable: validity of 0 bytes, want 1"},
		{"values cut short", func(f *forgery) { f.setLength(1, 23) }, "column fixed: values of 23 bytes, want 24"},
		{"values that are missing", func(f *forgery) { f.setLength(1, 0) }, "column fixed: values of 0 bytes, want 24"},
		{"offsets cut short", func(f *forgery) { f.setLength(5, 15) }, "column text: offsets of 15 bytes, want 16"},
		{"texts that are missing", func(f *forgery) { f.setLength(6, 0) }, "column text: text from 0 to 2 of 0 bytes"},
		{"buffer over the end", func(f *forgery) { f.setLength(6, 1<<40) }, "column text: buffer of 1099511627776 bytes"},
		{"buffer after the end", func(f *forgery) { f.setOffset(6, 1<<40) }, "column text: buffer of"},
		{"negative length", func(f *forgery) { f.setLength(6, 1<<63) }, "column text: buffer of -9223372036854775808 bytes"},
		{"negative offset", func(f *forgery) { f.setOffset(1, 1<<63) }, "column fixed: buffer of"},
		{"sum over 64 bits", func(f *forgery) { f.setOffset(6, 1<<63-8); f.setLength(6, 16) }, "column text: buffer of"},
		{"buffer that is not aligned", func(f *forgery) { f.setOffset(6, f.offset(6)+1) }, "column text: buffer of"},
		{"buffers that overlap", func(f *forgery) { f.setOffset(6, f.offset(5)) }, "column text: buffer of"},
		{"offsets that fall", func(f *forgery) { f.body[f.offset(5)+4] = 9 }, "column text: text from 0 to 9 of"},
		{"offset that is negative", func(f *forgery) { f.body[f.offset(5)+3] = 0x80 }, "column text: first text at -2147483648"},
		{"text that is not UTF-8", func(f *forgery) { f.body[f.offset(6)] = 0xff }, "column text: text is not UTF-8"},
		{"text that begins within a character", func(f *forgery) { f.body[f.offset(5)+4], f.body[f.offset(5)+8] = 3, 3 }, "column text: text starts within a character"},
	}
	for _, tt := range tests {
		err := forge(t, tt.change)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// payloadOf encodes a record by Arrow's own means.
func payloadOf(t *testing.T, record arrow.RecordBatch, options ...ipc.Option) (header, body []byte) {
	t.Helper()
	payload, err := ipc.GetRecordBatchPayload(record, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	var b bytes.Buffer
	if err := payload.SerializeBody(&b); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(meta.Bytes()), b.Bytes()
}

func TestDecodeRefusesCompressedBuffers(t *testing.T) {
	for _, option := range []ipc.Option{ipc.WithZstd(), ipc.WithLZ4()} {
		header, body := payloadOf(t, gateRecord(t), option)
		_, err := NewDecoder(gateSchema, nil).Decode(Identity{Sequence: 1, Rows: 3}, header, body)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "compressed arrow buffers") {
			t.Errorf("got %v", err)
		}
	}
}

func TestDecodeRefusesWhatIsNotABatchOfTheTable(t *testing.T) {
	record := gateRecord(t)
	header, body := payloadOf(t, record)
	more := arrow.NewSchema(append(gateSchema.Fields(), arrow.Field{Name: "more", Type: arrow.PrimitiveTypes.Uint8}), nil)
	fewer := arrow.NewSchema(gateSchema.Fields()[:2], nil)
	shifted := arrow.NewSchema([]arrow.Field{gateSchema.Field(0), gateSchema.Field(1), {Name: "text", Type: arrow.PrimitiveTypes.Uint8}}, nil)
	foreign := arrow.NewSchema([]arrow.Field{gateSchema.Field(0), gateSchema.Field(1), {Name: "text", Type: arrow.BinaryTypes.LargeString}}, nil)
	version := bytes.Clone(header)
	r := flatReader{bytes: version}
	version[r.slot(r.root(), messageVersion, 2)]-- // V4: unions are laid out differently
	tests := []struct {
		name   string
		schema *arrow.Schema
		header []byte
		want   string
	}{
		{"fewer columns", more, header, "3 columns, want 4"},
		{"more columns", fewer, header, "3 columns, want 2"},
		{"more buffers", shifted, header, "1 buffers more than the columns have"},
		{"type without a layout", foreign, header, "type large_utf8 is not in the table of types"},
		{"metadata of another version", gateSchema, version, "arrow metadata version 3, want 4"},
	}
	for _, tt := range tests {
		_, err := NewDecoder(tt.schema, nil).Decode(Identity{Sequence: 1, Rows: 3}, tt.header, body)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
