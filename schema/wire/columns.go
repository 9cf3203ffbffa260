// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Columns are the columns of one batch, checked, as they lie in its body. They are what a collector hands on:
// an Arrow array for each would cost more than all the checks. They must not be used after Release.
type Columns struct {
	layout *layout
	rows   int
	body   []byte
	places []place
	frame  []byte // the memory of body, if it is ours; kept for the next batch
	zeros  []byte // what columns that the batch lacks lie in
}

// Column is one column of Columns.
type Column struct {
	Valid  []byte // a bit per row, the lowest first, set if the value is not NULL; nil if none is NULL
	Values []byte // a value per row; of a text column a row more, the int32 offsets in Text
	Text   []byte
}

// layout is what a decoder knows of the columns before a batch comes.
type layout struct {
	schema  *arrow.Schema
	columns []columnLayout
	present int       // columns that batches have
	free    sync.Pool // of *Columns
}

type columnLayout struct {
	width    int // bytes of a value; 4 of a text, for its offset
	text     bool
	nullable bool
	foreign  bool // of a type that no batch has
	absent   bool // batches lack it: it is NULL
}

// span is a part of a body: of at most MaxFrameBytes.
type span struct{ from, to uint32 }

func (s span) bytes() int64 { return int64(s.to) - int64(s.from) }

func (s span) first(n int64) span { return span{s.from, s.from + uint32(n)} }

func (s span) of(body []byte) []byte { return body[s.from:s.to:s.to] }

// place is where a column lies.
type place struct {
	nulls               uint32
	valid, values, text span
}

// newLayout prepares for batches of a schema.
func newLayout(schema *arrow.Schema) *layout {
	l := &layout{schema: schema, present: schema.NumFields()}
	for _, field := range schema.Fields() {
		kind := columnLayout{nullable: field.Nullable}
		switch t := field.Type.(type) {
		case *arrow.StringType:
			kind.text, kind.width = true, 4
		case arrow.FixedWidthDataType:
			kind.width = t.Bytes()
		default:
			kind.foreign = true
		}
		l.columns = append(l.columns, kind)
	}
	return l
}

// maxKeptBytes is how much memory of a batch is kept for another one: more than any usual batch takes.
const maxKeptBytes = 1 << 20

// get gives Columns that are not used, with a frame of at least so many bytes.
func (l *layout) get(frameBytes int) *Columns {
	c, ok := l.free.Get().(*Columns)
	if !ok {
		c = &Columns{layout: l, places: make([]place, len(l.columns))}
	}
	if cap(c.frame) < frameBytes {
		c.frame = make([]byte, 0, frameBytes)
	}
	return c
}

// Release gives the memory back.
func (c *Columns) Release() {
	c.body = nil
	if cap(c.frame) <= maxKeptBytes {
		c.layout.free.Put(c)
	}
}

// Rows is how many rows there are.
func (c *Columns) Rows() int { return c.rows }

// Schema is that of the columns.
func (c *Columns) Schema() *arrow.Schema { return c.layout.schema }

// Column is the column of a place in the schema. It lies in the body.
func (c *Columns) Column(i int) Column {
	at := c.places[i]
	if c.layout.columns[i].absent {
		return c.absent(i)
	}
	column := Column{Values: at.values.of(c.body), Text: at.text.of(c.body)}
	if at.nulls > 0 {
		column.Valid = at.valid.of(c.body)
	}
	return column
}

// absent is a column of which no row has a value.
func (c *Columns) absent(i int) Column {
	kind, values := c.layout.columns[i], c.rows
	if kind.text {
		values++
	}
	return Column{Valid: c.zeros[:(c.rows+7)/8], Values: c.zeros[:kind.width*values]}
}

// Null tells whether a row has no value.
func (c Column) Null(row int) bool { return c.Valid != nil && c.Valid[row/8]>>(row%8)&1 == 0 }

// Uint64 is the value of a row of a column whose values have eight bytes.
func (c Column) Uint64(row int) uint64 { return binary.LittleEndian.Uint64(c.Values[8*row:]) }

// Bytes is the value of a row of a text column. It lies in the body.
func (c Column) Bytes(row int) []byte {
	return c.Text[binary.LittleEndian.Uint32(c.Values[4*row:]):binary.LittleEndian.Uint32(c.Values[4*row+4:])]
}

// String is the value of a row of a text column.
func (c Column) String(row int) string { return string(c.Bytes(row)) }

// Record makes an Arrow record of the columns. It lies in the body, and must be released before they are.
func (c *Columns) Record() arrow.RecordBatch {
	columns := make([]arrow.Array, len(c.places))
	for i := range c.places {
		columns[i] = c.array(i)
		defer columns[i].Release()
	}
	return array.NewRecordBatch(c.layout.schema, columns, int64(c.rows))
}

func (c *Columns) array(i int) arrow.Array {
	column := c.Column(i)
	parts := [3]*memory.Buffer{1: memory.NewBufferBytes(column.Values)}
	if column.Valid != nil {
		parts[0] = memory.NewBufferBytes(column.Valid)
	}
	n := 2
	if c.layout.columns[i].text {
		parts[2] = memory.NewBufferBytes(column.Text)
		n = 3
	}
	data := array.NewData(c.layout.schema.Field(i).Type, c.rows, parts[:n], nil, int(c.places[i].nulls), 0)
	defer data.Release()
	return array.MakeFromData(data)
}
