// SPDX-License-Identifier: Apache-2.0

package player

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// cursor goes through the recorded rows of one table.
type cursor struct {
	table   schema.Table
	unit    time.Duration       // of the table's time column
	records []arrow.RecordBatch // the first is the one that is being read; none is left if there are no more rows
	row     int                 // of the first record
	cells   []batch.Cell

	epoch, source, hash int // places of counter_epoch, reading_source and content_hash; -1 where there is none
}

func newCursor(t schema.Table, records []arrow.RecordBatch) *cursor {
	columns := t.WireColumns()
	place := func(name string) int {
		return slices.IndexFunc(columns, func(c schema.Column) bool { return c.Name == name })
	}
	c := &cursor{
		table: t, unit: time.Millisecond, records: records, cells: make([]batch.Cell, len(columns)),
		epoch: place(schema.ColumnCounterEpoch), source: place("reading_source"), hash: place("content_hash"),
	}
	if columns[0].Type == schema.TimeMicroseconds {
		c.unit = time.Microsecond
	}
	return c
}

func (c *cursor) done() bool { return len(c.records) == 0 }

// time is the recorded time of the row that next returns.
func (c *cursor) time() time.Time {
	value := c.records[0].Column(0).(*array.Timestamp).Value(c.row)
	if c.unit == time.Microsecond {
		return time.UnixMicro(int64(value))
	}
	return time.UnixMilli(int64(value))
}

// next reads a row. Its cells are only valid until the next call.
func (c *cursor) next() []batch.Cell {
	record := c.records[0]
	for i, column := range record.Columns() {
		c.cells[i] = cell(column, c.row)
	}
	if c.row++; c.row == int(record.NumRows()) {
		c.records, c.row = c.records[1:], 0
	}
	return c.cells
}

// cell is the reverse of what package batch does with one.
func cell(column arrow.Array, row int) batch.Cell {
	if column.IsNull(row) {
		return batch.Cell{}
	}
	switch column := column.(type) {
	case *array.Uint8:
		return integer(column.Value(row))
	case *array.Uint16:
		return integer(column.Value(row))
	case *array.Uint32:
		return integer(column.Value(row))
	case *array.Uint64:
		return integer(column.Value(row))
	case *array.Int16:
		return integer(column.Value(row))
	case *array.Int64:
		return integer(column.Value(row))
	case *array.Float64:
		return integer(math.Float64bits(column.Value(row)))
	case *array.Timestamp:
		return integer(column.Value(row))
	case *array.String:
		return batch.Cell{Text: column.Value(row), OK: true}
	default:
		panic(fmt.Sprintf("player: a column of type %T, which no table uses", column))
	}
}

func integer[T uint8 | uint16 | uint32 | uint64 | int16 | int64 | arrow.Timestamp](v T) batch.Cell {
	return batch.Cell{Int: int64(v), OK: true}
}
