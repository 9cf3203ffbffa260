// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// arrowTypes are the column types in Arrow, by Type. Names and texts travel as plain strings: without dictionaries a
// batch is one message, and can be read without those before it.
var arrowTypes = [...]arrow.DataType{
	Uint8: arrow.PrimitiveTypes.Uint8, Uint16: arrow.PrimitiveTypes.Uint16, Uint32: arrow.PrimitiveTypes.Uint32, Uint64: arrow.PrimitiveTypes.Uint64,
	Int8: arrow.PrimitiveTypes.Int8, Int16: arrow.PrimitiveTypes.Int16, Int32: arrow.PrimitiveTypes.Int32, Int64: arrow.PrimitiveTypes.Int64,
	Float64:          arrow.PrimitiveTypes.Float64,
	TimeMilliseconds: arrow.FixedWidthTypes.Timestamp_ms, TimeMicroseconds: arrow.FixedWidthTypes.Timestamp_us,
	Decimal: &arrow.Decimal128Type{Precision: 18, Scale: 9}, WideDecimal: &arrow.Decimal128Type{Precision: 38, Scale: 18}, Name: arrow.BinaryTypes.String, Text: arrow.BinaryTypes.String,
	TimeSeconds: arrow.FixedWidthTypes.Timestamp_s, Sketch: arrow.BinaryTypes.Binary,
}

// ArrowType is the column type in Arrow.
func (t Type) ArrowType() arrow.DataType {
	if int(t) >= len(arrowTypes) {
		panic(fmt.Sprintf("schema: column type %d is not in the table", t))
	}
	return arrowTypes[t]
}

// Width is how many bytes a value takes, in Arrow and in ClickHouse; 0 of texts, which take what they need.
func (t Type) Width() int {
	if fixed, ok := t.ArrowType().(arrow.FixedWidthDataType); ok {
		return fixed.Bytes()
	}
	return 0
}

// WireSchema is what an agent pushes: the table without the stamped columns.
func (t Table) WireSchema() *arrow.Schema {
	if t.wire != nil {
		return t.wire
	}
	return arrowSchema(t.WireColumns())
}

// InsertSchema is what is inserted: every column, in the table's order.
func (t Table) InsertSchema() *arrow.Schema {
	if t.insert != nil {
		return t.insert
	}
	return arrowSchema(t.Columns)
}

// WireColumns are the columns that an agent pushes, in order.
func (t Table) WireColumns() []Column {
	columns := make([]Column, 0, len(t.Columns))
	for _, c := range t.Columns {
		if !c.Stamped {
			columns = append(columns, c)
		}
	}
	return columns
}

func arrowSchema(columns []Column) *arrow.Schema {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type.ArrowType(), Nullable: c.Nullable}
	}
	return arrow.NewSchema(fields, nil)
}

// SchemaMessage is the Arrow IPC schema message of a pushed table, as this build writes it: what an agent opens a
// stream with. A collector reads those of other writers with wire.CheckSchema. Callers must not change it.
func (t Table) SchemaMessage() []byte { return t.message }

func schemaMessage(t Table) []byte {
	payload := ipc.GetSchemaPayload(t.WireSchema(), memory.DefaultAllocator)
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	return bytes.Clone(meta.Bytes())
}
