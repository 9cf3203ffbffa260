// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// reader reads a block as format native draws it.
type reader struct {
	t    *testing.T
	left []byte
}

func (r *reader) varint() int {
	v, n := binary.Uvarint(r.left)
	if n <= 0 {
		r.t.Fatal("the block ends within a number")
	}
	r.left = r.left[n:]
	return int(v)
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.left) {
		r.t.Fatalf("the block lacks %d bytes", n-len(r.left))
	}
	b := r.left[:n]
	r.left = r.left[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.varint())) }

// cells are the rows of a block as text, by column name.
func (r *reader) cells(table schema.Table) map[string][]string {
	columns, rows := r.varint(), r.varint()
	if columns != len(table.Columns) {
		r.t.Fatalf("%d columns", columns)
	}
	texts := map[string][]string{}
	for _, c := range table.Columns {
		name, kind := r.text(), r.text()
		want := strings.NewReplacer("LowCardinality(Nullable(String))", "Nullable(String)", "LowCardinality(String)", "String").Replace(c.ClickHouseType())
		if name != c.Name || kind != want {
			r.t.Errorf("column %s %s, want %s %s", name, kind, c.Name, want)
		}
		nulls := make([]byte, rows)
		if c.Nullable {
			nulls = r.bytes(rows)
		}
		for row := range rows {
			text := r.value(c)
			if nulls[row] != 0 {
				text = "NULL"
			}
			texts[name] = append(texts[name], text)
		}
	}
	if len(r.left) > 0 {
		r.t.Errorf("%d bytes after the last column", len(r.left))
	}
	return texts
}

func (r *reader) value(c schema.Column) string {
	if c.Type.Width() == 0 {
		return r.text()
	}
	var wide [8]byte
	copy(wide[:], r.bytes(c.Type.Width()))
	n := binary.LittleEndian.Uint64(wide[:])
	switch c.Type {
	case schema.TimeMilliseconds:
		return time.UnixMilli(int64(n)).UTC().Format("2006-01-02T15:04:05.999Z07:00")
	case schema.TimeMicroseconds:
		return time.UnixMicro(int64(n)).UTC().Format("2006-01-02T15:04:05.999999Z07:00")
	case schema.Int8, schema.Int16, schema.Int32, schema.Int64:
		shift := 64 - 8*c.Type.Width()
		return strconv.FormatInt(int64(n<<shift)>>shift, 10)
	case schema.Float64:
		return strconv.FormatFloat(math.Float64frombits(n), 'f', -1, 64)
	default:
		return strconv.FormatUint(n, 10)
	}
}

// layOut lays all of a unit out.
func layOut(n *native, u *unit, into []byte) []byte {
	for at := (cursor{}); at.column < len(n.columns); {
		into = n.appendNext(into, u, &at)
	}
	return into
}

// TestNative reads back what is laid out of every table. That ClickHouse reads the same is the matter of
// TestRowsArriveAsTheyWere.
func TestNative(t *testing.T) {
	for _, table := range schema.Tables() {
		u := &unit{table: table}
		batches := items(t, table)
		for _, i := range batches {
			u.add(i)
		}
		n := newNative(table)
		first := layOut(n, u, nil)
		used := bytes.Repeat([]byte{0xff}, len(first)+100)
		if again := layOut(n, u, used[:0]); !bytes.Equal(first, again) {
			t.Errorf("%s: the bytes of a unit differ in memory that was used", table.Name)
		}
		compare(t, table, (&reader{t: t, left: first}).cells(table), expected(batches))
		if u.rows != 77 || !u.from.Equal(batches[0].From) || !u.to.Equal(batches[3].To) {
			t.Errorf("%s: unit of %d rows from %v to %v", table.Name, u.rows, u.from, u.to)
		}
	}
}

func TestSpread(t *testing.T) {
	for b := range 256 {
		for bit := range 8 {
			if got, want := spread(byte(b))>>(8*bit)&0xff, uint64(b>>bit&1); got != want {
				t.Fatalf("bit %d of %08b is %d", bit, b, got)
			}
		}
	}
}

// TestNullTextsAreEmpty: what a foreign agent has in the place of a NULL is not stored.
func TestNullTextsAreEmpty(t *testing.T) {
	c := wire.Column{Valid: []byte{0b101}, Values: []byte{0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0}, Text: []byte("abcdef")}
	got := appendTexts(nil, c, 3)
	if want := "\x01a\x00\x02ef"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}
