// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"slices"

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
// A stamped text is a LowCardinality(String): the unit's few distinct texts, and of each row which of them it has.
//
//	┌─────────┬────────────────────────────┬────────┬───────┬────────┬──────────────┐
//	│ version │ 0x600 (own keys, all new)  │ number │ texts │ rows   │ text's place │
//	│ u64: 1  │ and width of places, u64   │ u64    │       │ u64    │ u8 or u32    │
//	└─────────┴────────────────────────────┴────────┴───────┴────────┴──────────────┘
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
		if c.Stamped && column.width == 0 {
			kind = c.ClickHouseType()
		}
		column.head = appendText(appendText(nil, c.Name), kind)
		n.columns = append(n.columns, column)
	}
	return n
}

// name is what ClickHouse calls the format.
func (*native) name() string { return "Native" }

// cursor is how much of a unit is laid out: all before a column, and of the column all before a batch.
type cursor struct {
	column, batch int
	part          part     // of the column
	texts         []string // of a column that is a stamped text: those of the unit
}

// part is what a column consists of.
type part int

const (
	head part = iota
	nullMap
	values
)

// appendNext lays out what comes next: a column's head, or what one batch has of its null map or values. It
// appends nothing once all of the unit is laid out.
func (n *native) appendNext(into []byte, u *unit, at *cursor) []byte {
	if at.column == len(n.columns) {
		return into
	}
	c := &n.columns[at.column]
	if at.part == head {
		if at.column == 0 {
			into = binary.AppendUvarint(into, uint64(len(n.columns)))
			into = binary.AppendUvarint(into, uint64(u.rows))
		}
		at.batch, at.part = 0, values
		if c.nullable {
			at.part = nullMap
		}
		into = append(into, c.head...)
		if c.stamp != "" && c.width == 0 {
			at.texts = c.texts(u)
			into = appendDictionary(into, at.texts, u.rows)
		}
		return into
	}
	into = c.append(into, &u.items[at.batch], at)
	if at.batch++; at.batch < len(u.items) {
		return into
	}
	at.batch = 0
	if at.part == nullMap {
		at.part = values
	} else {
		at.column, at.part = at.column+1, head
	}
	return into
}

// append lays out what a batch has of the column.
func (c *nativeColumn) append(into []byte, i *Item, at *cursor) []byte {
	rows := i.Columns.Rows()
	if c.wire < 0 && c.width == 0 {
		return appendPlaces(into, at.texts, scopeOf(i.Scope, c.stamp), rows)
	}
	if c.wire < 0 {
		return appendRepeated(into, stampOf(i.Key, c.stamp), rows)
	}
	column := i.Columns.Column(c.wire)
	switch {
	case at.part == nullMap:
		return appendNullMap(into, column.Valid, rows)
	case c.width > 0:
		return append(into, column.Values...)
	default:
		return appendTexts(into, column, rows)
	}
}

// texts are the distinct texts of a stamped column, in the order in which they come first.
func (c *nativeColumn) texts(u *unit) []string {
	var texts []string
	for i := range u.items {
		if text := scopeOf(u.items[i].Scope, c.stamp); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// Numbers of ClickHouse's LowCardinality.
const (
	dictionaryVersion = 1
	ownKeysAllNew     = 0x600
	placesOfBytes     = 0 // width of the places
	placesOfWords     = 2
	maxByteTexts      = 256
)

func appendDictionary(into []byte, texts []string, rows int64) []byte {
	width := uint64(placesOfBytes)
	if len(texts) > maxByteTexts {
		width = placesOfWords
	}
	into = binary.LittleEndian.AppendUint64(into, dictionaryVersion)
	into = binary.LittleEndian.AppendUint64(into, ownKeysAllNew|width)
	into = binary.LittleEndian.AppendUint64(into, uint64(len(texts)))
	for _, text := range texts {
		into = appendText(into, text)
	}
	return binary.LittleEndian.AppendUint64(into, uint64(rows))
}

// appendPlaces appends where a text lies among the unit's as often as there are rows.
func appendPlaces(into []byte, texts []string, text string, rows int) []byte {
	place := slices.Index(texts, text)
	for range rows {
		if len(texts) > maxByteTexts {
			into = binary.LittleEndian.AppendUint32(into, uint32(place))
		} else {
			into = append(into, byte(place))
		}
	}
	return into
}

// appendRepeated appends a number as often as there are rows.
func appendRepeated(into []byte, value uint64, rows int) []byte {
	start := len(into)
	into = slices.Grow(into, 8*rows)
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
	into = slices.Grow(into, rows)[:start+rows]
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

func textOf(c wire.Column, row int) []byte {
	if c.Null(row) {
		return nil
	}
	return c.Bytes(row)
}

func appendText(into []byte, text string) []byte {
	return append(binary.AppendUvarint(into, uint64(len(text))), text...)
}
