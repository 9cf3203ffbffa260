// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
)

// layout makes record batches of one table.
type layout struct {
	schema.Table
	places  map[string]int
	builder *array.RecordBuilder
	row     []*value // scratch: the row that is being laid out
}

// value is one cell of a row.
type value struct {
	place  int
	number int64
	text   string
}

// cells are those of a row that are not NULL.
type cells []value

func newLayout(t schema.Table) *layout {
	l := &layout{Table: t, places: make(map[string]int), builder: array.NewRecordBuilder(memory.DefaultAllocator, t.WireSchema())}
	columns := t.WireColumns()
	for i, c := range columns {
		l.places[c.Name] = i
	}
	l.row = make([]*value, len(columns))
	return l
}

func (l *layout) place(column string) int {
	place, ok := l.places[column]
	if !ok {
		panic(fmt.Sprintf("foreign: table %s has no column %s", l.Name, column))
	}
	return place
}

func (l *layout) number(column string, v int64) value {
	return value{place: l.place(column), number: v}
}

// id is a hash: all its 64 bits count.
func (l *layout) id(column string, v uint64) value { return l.number(column, int64(v)) }

func (l *layout) text(column, v string) value { return value{place: l.place(column), text: v} }

// facts are the cells of facts.
func (l *layout) facts(row cells, known facts) cells {
	for _, f := range known {
		row = append(row, value{place: l.place(f.column), number: f.number, text: f.text})
	}
	return row
}

// record makes a record batch. The caller releases it.
func (l *layout) record(rows []cells) arrow.RecordBatch {
	for _, row := range rows {
		clear(l.row)
		for i := range row {
			l.row[row[i].place] = &row[i]
		}
		for i, v := range l.row {
			if v == nil {
				l.builder.Field(i).AppendNull()
				continue
			}
			appendValue(l.builder.Field(i), v)
		}
	}
	return l.builder.NewRecordBatch()
}

// appendValue appends a value that was found to fit its column.
func appendValue(b array.Builder, v *value) {
	switch b := b.(type) {
	case *array.Uint8Builder:
		b.Append(uint8(v.number))
	case *array.Uint16Builder:
		b.Append(uint16(v.number))
	case *array.Uint32Builder:
		if v.number > math.MaxUint32 { // an increment over a long silence: none is better than a wrong one
			b.AppendNull()
			return
		}
		b.Append(uint32(v.number))
	case *array.Uint64Builder:
		b.Append(uint64(v.number))
	case *array.Int16Builder:
		b.Append(int16(v.number))
	case *array.Int64Builder:
		b.Append(v.number)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.number))
	case *array.StringBuilder:
		b.Append(v.text)
	default:
		panic(fmt.Sprintf("foreign: no metric goes to a column of %T", b))
	}
}
