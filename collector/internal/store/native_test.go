// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
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
		if c.Stamped && c.Type == schema.Name {
			if name != c.Name || kind != c.ClickHouseType() {
				r.t.Errorf("column %s %s, want %s %s", name, kind, c.Name, c.ClickHouseType())
			}
			texts[name] = r.dictionary(rows)
			continue
		}
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

func (r *reader) number() int { return int(binary.LittleEndian.Uint64(r.bytes(8))) }

// dictionary reads a column of few distinct texts.
func (r *reader) dictionary(rows int) []string {
	if version := r.number(); version != 1 {
		r.t.Fatalf("dictionary of version %d", version)
	}
	kind := r.number()
	own := make([]string, r.number())
	for i := range own {
		own[i] = r.text()
	}
	if n := r.number(); n != rows {
		r.t.Fatalf("%d places for %d rows", n, rows)
	}
	texts := make([]string, rows)
	for row := range texts {
		switch kind {
		case 0x600:
			texts[row] = own[r.bytes(1)[0]]
		case 0x602:
			texts[row] = own[binary.LittleEndian.Uint32(r.bytes(4))]
		default:
			r.t.Fatalf("dictionary of kind %x", kind)
		}
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

// TestManyScopes: more tenants than a byte can tell apart, in one unit, as ClickHouse reads them.
func TestManyScopes(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(endpoint(db.Writer))
	cfg.UnitWait = time.Hour
	cfg.UnitRows = 300
	r := start(t, cfg)
	table := batchtest.Table(t, schema.EventsID)
	var all []*sent
	for i := range uint64(300) {
		k := wire.Key{Table: table.ID, Node: i + 1, Epoch: 1, Sequence: 1}
		scope := wire.Scope{Tenant: fmt.Sprintf("tenant-%d", i), Residency: "eu"}
		all = append(all, r.submitScoped(k, scope, batchtest.Record(table, i, 1, today()), today(), today()))
	}
	for _, b := range all {
		if err := b.wait(t); err != nil {
			t.Fatal(err)
		}
	}
	conn := clickhousetest.Open(t, db.Reader)
	var right, units uint64
	if err := conn.QueryRow(t.Context(), "SELECT countIf(tenant = concat('tenant-', toString(node_id - 1)) AND residency = 'eu'), uniqExact(_part) FROM gpu_events").Scan(&right, &units); err != nil {
		t.Fatal(err)
	}
	if right != 300 || units != 1 {
		t.Errorf("%d of 300 rows have their tenant, in %d parts", right, units)
	}
}
