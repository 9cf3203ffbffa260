// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// ArrowType is the column type in Arrow. Names and texts travel as plain strings: without
// dictionaries a batch is one message, and can be read without those before it.
func (t Type) ArrowType() arrow.DataType {
	switch t {
	case Uint8:
		return arrow.PrimitiveTypes.Uint8
	case Uint16:
		return arrow.PrimitiveTypes.Uint16
	case Uint32:
		return arrow.PrimitiveTypes.Uint32
	case Uint64:
		return arrow.PrimitiveTypes.Uint64
	case Int8:
		return arrow.PrimitiveTypes.Int8
	case Int16:
		return arrow.PrimitiveTypes.Int16
	case Int32:
		return arrow.PrimitiveTypes.Int32
	case Int64:
		return arrow.PrimitiveTypes.Int64
	case Float64:
		return arrow.PrimitiveTypes.Float64
	case TimeMilliseconds:
		return arrow.FixedWidthTypes.Timestamp_ms
	case TimeMicroseconds:
		return arrow.FixedWidthTypes.Timestamp_us
	case Decimal:
		return &arrow.Decimal128Type{Precision: 18, Scale: 9}
	case Name, Text:
		return arrow.BinaryTypes.String
	default:
		panic(fmt.Sprintf("schema: column type %d is not in the table", t))
	}
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
