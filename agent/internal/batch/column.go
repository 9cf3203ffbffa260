// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
)

// column appends cells to one Arrow builder.
type column struct {
	null  func()
	value func(*Cell)
}

func (c *column) append(cell *Cell) {
	if !cell.OK {
		c.null()
		return
	}
	c.value(cell)
}

// newColumn binds a column to its builder. A number that does not fit its type becomes NULL: a wrong
// number would be worse than none.
func newColumn(b array.Builder, c schema.Column) column {
	switch b := b.(type) {
	case *array.Uint8Builder:
		return number(b.AppendNull, b.Append, 0, math.MaxUint8)
	case *array.Uint16Builder:
		return number(b.AppendNull, b.Append, 0, math.MaxUint16)
	case *array.Uint32Builder:
		return number(b.AppendNull, b.Append, 0, math.MaxUint32)
	case *array.Uint64Builder:
		if !c.Nullable || c.Name == schema.ColumnGPU || c.Name == schema.ColumnFault { // ids and hashes use all 64 bits
			return column{null: b.AppendNull, value: func(cell *Cell) { b.Append(uint64(cell.Int)) }}
		}
		return number(b.AppendNull, b.Append, 0, math.MaxInt64)
	case *array.Int16Builder:
		return number(b.AppendNull, b.Append, math.MinInt16, math.MaxInt16)
	case *array.Int64Builder:
		return number(b.AppendNull, b.Append, math.MinInt64, math.MaxInt64)
	case *array.Float64Builder:
		return column{null: b.AppendNull, value: func(cell *Cell) { b.Append(math.Float64frombits(uint64(cell.Int))) }}
	case *array.TimestampBuilder:
		return column{null: b.AppendNull, value: func(cell *Cell) { b.Append(arrow.Timestamp(cell.Int)) }}
	case *array.StringBuilder:
		return column{null: b.AppendNull, value: func(cell *Cell) { b.Append(cell.Text) }}
	default:
		panic(fmt.Sprintf("batch: column %s has a builder of type %T, which no table uses", c.Name, b))
	}
}

func number[T int16 | int64 | uint8 | uint16 | uint32 | uint64](null func(), add func(T), low, high int64) column {
	return column{null: null, value: func(cell *Cell) {
		if cell.Int < low || cell.Int > high {
			null()
			return
		}
		add(T(cell.Int))
	}}
}
