// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"math/bits"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// native lays units out in ClickHouse's own format, a block of columns, which it takes for less than any other
// (docs/adr/007-insert-format.md):
//
//	┌─────────┬───────┬────────────────────────────────────────────┬─────
//	│ columns │ rows  │ ┌───────┬───────┬───────────┬────────────┐ │ next
//	│ varint  │ varint│ │ name  │ type  │ null map  │ values     │ │ column
//	│         │       │ │ text  │ text  │ u8 a row  │            │ │
//	└─────────┴───────┴─┴───────┴───────┴───────────┴────────────┴─┴─────
//
// A text is its length, a varint, and its bytes. The null map, in which 1 is a NULL, is there if the type is
// Nullable. Values are little endian, side by side; those of a text column are texts. All of it is copied from
// the batches' own columns: nothing is built in between.
type native struct{ columns []nativeColumn }

type nativeColumn struct {
	head     []byte // name and type
	wire     int    // its place in a batch; -1 if it is stamped
	stamp    string // its name, if it is
	width    int    // of a value; 0 if it is a text
	nullable bool
}

// newNative prepares for the units of a table.
func newNative(t schema.Table) *native {
	n := &native{}
	next := 0
	for _, c := range t.Columns {
		column := nativeColumn{wire: -1, width: c.Type.Width(), nullable: c.Nullable}
		if c.Stamped {
			column.stamp = c.Name
		} else {
			column.wire = next
			next++
		}
		kind := c.ClickHouseType()
		if c.Type == schema.Name { // ClickHouse makes a dictionary of it: it has to in any case
			kind = schema.Column{Type: schema.Text, Nullable: c.Nullable}.ClickHouseType()
		}
		column.head = appendText(appendText(nil, c.Name), kind)
		n.columns = append(n.columns, column)
	}
	return n
}

// Name is what ClickHouse calls the format.
func (*native) name() string { return "Native" }

// size is how many bytes a unit takes.
func (n *native) size(u *unit) int {
	size := varintBytes(len(n.columns)) + varintBytes(int(u.rows))
	for i := range n.columns {
		c := &n.columns[i]
		size += len(c.head) + c.width*int(u.rows)
		if c.nullable {
			size += int(u.rows)
		}
		if c.width > 0 {
			continue
		}
		for j := range u.items {
			size += textBytes(u.items[j].Columns.Column(c.wire), u.items[j].Columns.Rows())
		}
	}
	return size
}

// encode lays a unit out, into the memory of a former one if it has the room.
func (n *native) encode(into []byte, u *unit) []byte {
	if size := n.size(u); cap(into) < size {
		into = make([]byte, 0, size+size/8) // the next one may be somewhat larger
	}
	into = binary.AppendUvarint(into[:0], uint64(len(n.columns)))
	into = binary.AppendUvarint(into, uint64(u.rows))
	for i := range n.columns {
		into = n.columns[i].append(into, u)
	}
	return into
}

func (c *nativeColumn) append(into []byte, u *unit) []byte {
	into = append(into, c.head...)
	if c.wire < 0 {
		for i := range u.items {
			into = appendRepeated(into, stampOf(u.items[i].Key, c.stamp), u.items[i].Columns.Rows())
		}
		return into
	}
	if c.nullable {
		for i := range u.items {
			into = appendNullMap(into, u.items[i].Columns.Column(c.wire).Valid, u.items[i].Columns.Rows())
		}
	}
	for i := range u.items {
		column := u.items[i].Columns.Column(c.wire)
		if c.width > 0 {
			into = append(into, column.Values...)
		} else {
			into = appendTexts(into, column, u.items[i].Columns.Rows())
		}
	}
	return into
}

// appendRepeated appends a number as often as there are rows.
func appendRepeated(into []byte, value uint64, rows int) []byte {
	start := len(into)
	into = binary.LittleEndian.AppendUint64(into, value)
	into = into[:start+8*rows]
	for done := 8; done < 8*rows; done *= 2 {
		copy(into[start+done:], into[start:start+done])
	}
	return into
}

// appendNullMap makes bytes of bits. A row without a value is a bit that is not set, and a byte that is 1.
func appendNullMap(into, valid []byte, rows int) []byte {
	start := len(into)
	into = into[:start+rows]
	nulls := into[start:]
	if valid == nil {
		clear(nulls)
		return into
	}
	for len(nulls) >= 8 {
		binary.LittleEndian.PutUint64(nulls, spread(^valid[0]))
		nulls, valid = nulls[8:], valid[1:]
	}
	for i := range nulls {
		nulls[i] = ^valid[0] >> i & 1
	}
	return into
}

// spread makes a byte of each bit, the lowest first.
func spread(b byte) uint64 {
	const eachOnce, itsBit = 0x0101010101010101, 0x8040201008040201
	return (uint64(b)*eachOnce&itsBit + 0x7f7f7f7f7f7f7f7f) >> 7 & eachOnce
}

// appendTexts writes the texts of a column. One that is NULL is empty, whatever the batch has in its place.
func appendTexts(into []byte, c wire.Column, rows int) []byte {
	for row := range rows {
		text := textOf(c, row)
		into = binary.AppendUvarint(into, uint64(len(text)))
		into = append(into, text...)
	}
	return into
}

// textBytes is how many bytes appendTexts writes.
func textBytes(c wire.Column, rows int) (n int) {
	for row := range rows {
		text := len(textOf(c, row))
		n += varintBytes(text) + text
	}
	return n
}

func textOf(c wire.Column, row int) []byte {
	if c.Null(row) {
		return nil
	}
	return c.Bytes(row)
}

func appendText(into []byte, text string) []byte {
	return append(binary.AppendUvarint(into, uint64(len(text))), text...)
}

func varintBytes(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }
