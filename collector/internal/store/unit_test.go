// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// cells are the rows of a record as text, by column name.
func cells(record arrow.RecordBatch) map[string][]string {
	texts := map[string][]string{}
	for i, column := range record.Columns() {
		name := record.ColumnName(i)
		for row := range column.Len() {
			text := "NULL"
			if column.IsValid(row) {
				text = column.ValueStr(row)
			}
			texts[name] = append(texts[name], text)
		}
	}
	return texts
}

// expected are the cells that a table must hold of batches: those of the batches, and the stamps.
func expected(batches []Item) map[string][]string {
	want := map[string][]string{}
	for _, b := range batches {
		for name, texts := range cells(b.Columns.Record()) {
			want[name] = append(want[name], texts...)
		}
		for name, stamp := range map[string]uint64{schema.ColumnNode: b.Key.Node, schema.ColumnEpoch: b.Key.Epoch, schema.ColumnSequence: b.Key.Sequence} {
			want[name] = append(want[name], slices.Repeat([]string{strconv.FormatUint(stamp, 10)}, b.Columns.Rows())...)
		}
		for name, stamp := range map[string]string{schema.ColumnTenant: b.Scope.Tenant, schema.ColumnResidency: b.Scope.Residency} {
			want[name] = append(want[name], slices.Repeat([]string{stamp}, b.Columns.Rows())...)
		}
	}
	return want
}

// items are batches of different nodes, with rows that are null in different places.
func items(t *testing.T, table schema.Table) []Item {
	t.Helper()
	var all []Item
	for i, rows := range []int{3, 1, 64, 9} {
		from := today().Add(time.Duration(i) * time.Hour)
		k := wire.Key{Table: table.ID, Node: uint64(1<<63) + uint64(i), Epoch: 7 + uint64(i), Sequence: 1<<40 + uint64(i)}
		record := batchtest.Record(table, uint64(i), rows, from)
		scope := []wire.Scope{{Tenant: "acme", Residency: "eu"}, {Tenant: "globex"}, {}, {Tenant: "acme", Residency: "us"}}[i]
		all = append(all, Item{Key: k, Scope: scope, Columns: batchtest.Columns(t, table, record), From: from, To: from.Add(time.Duration(rows-1) * time.Second)})
	}
	return all
}

func compare(t *testing.T, table schema.Table, got, want map[string][]string) {
	t.Helper()
	if len(got) != len(table.Columns) {
		t.Errorf("%s: %d columns, want %d", table.Name, len(got), len(table.Columns))
	}
	for _, c := range table.Columns {
		if !slices.Equal(got[c.Name], want[c.Name]) {
			t.Errorf("%s.%s holds\n%v, want\n%v", table.Name, c.Name, got[c.Name], want[c.Name])
		}
	}
}

func TestUnitSpan(t *testing.T) {
	u := &unit{table: schema.Tables()[0]}
	columns := batchtest.Columns(t, u.table, batchtest.Record(u.table, 1, 1, today()))
	at := func(hours int) time.Time { return today().Add(time.Duration(hours) * time.Hour) }
	for _, span := range [][2]int{{5, 9}, {3, 4}, {6, 7}, {4, 12}} {
		u.add(Item{Columns: columns, From: at(span[0]), To: at(span[1])})
	}
	if !u.from.Equal(at(3)) || !u.to.Equal(at(12)) || u.rows != 4 {
		t.Errorf("unit of %d rows from %v to %v", u.rows, u.from, u.to)
	}
}

// TestRowsArriveAsTheyWere stores batches of every table and reads every cell back.
func TestRowsArriveAsTheyWere(t *testing.T) {
	db := clickhousetest.Start(t)
	r := start(t, config(endpoint(db.Writer)))
	conn := clickhousetest.Open(t, db.Reader)
	for _, table := range schema.Tables() {
		var all []*sent
		batches := items(t, table)
		for _, i := range batches {
			all = append(all, r.submitScoped(i.Key, i.Scope, i.Columns.Record(), i.From, i.To))
		}
		for _, b := range all {
			if err := b.wait(t); err != nil {
				t.Fatal(err)
			}
		}
		columns := make([]string, len(table.Columns))
		for i, c := range table.Columns {
			columns[i] = c.Name
		}
		stream, err := conn.QueryFormat(context.Background(), "ArrowStream", "SELECT "+strings.Join(columns, ", ")+" FROM "+table.Name+" ORDER BY seq, ts")
		if err != nil {
			t.Fatal(err)
		}
		reader, err := ipc.NewReader(stream)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][]string{}
		for reader.Next() {
			for name, texts := range cells(reader.RecordBatch()) {
				got[name] = append(got[name], texts...)
			}
		}
		if err := reader.Err(); err != nil {
			t.Fatal(err)
		}
		reader.Release()
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
		compare(t, table, got, expected(batches))
	}
}
