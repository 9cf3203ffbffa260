// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// columns reads a batch without Arrow.
func (l link) columns(t *testing.T, b *wire.Batch) *wire.Columns {
	t.Helper()
	identity, err := wire.ParseIdentity(b.Metadata, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	columns, err := l.decoder.Columns(identity, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	return columns
}

// wantColumns compares columns with the record that they were made of, cell by cell and as a record.
func wantColumns(t *testing.T, got *wire.Columns, want arrow.RecordBatch) {
	t.Helper()
	if got.Rows() != int(want.NumRows()) || !got.Schema().Equal(want.Schema()) {
		t.Fatalf("%d rows of %v", got.Rows(), got.Schema())
	}
	for i, c := range want.Columns() {
		column := got.Column(i)
		if c.NullN() == 0 && column.Valid != nil {
			t.Errorf("column %s has a bitmap", want.ColumnName(i))
		}
		for row := range got.Rows() {
			if column.Null(row) != c.IsNull(row) {
				t.Errorf("column %s, row %d: null is %v", want.ColumnName(i), row, column.Null(row))
			}
			if c.IsNull(row) {
				continue
			}
			switch c := c.(type) {
			case *array.String:
				if column.String(row) != c.Value(row) {
					t.Errorf("column %s, row %d: %q, want %q", want.ColumnName(i), row, column.String(row), c.Value(row))
				}
			case *array.Uint64:
				if column.Uint64(row) != c.Value(row) {
					t.Errorf("column %s, row %d: %d, want %d", want.ColumnName(i), row, column.Uint64(row), c.Value(row))
				}
			case *array.Uint16:
				if binary.LittleEndian.Uint16(column.Values[2*row:]) != c.Value(row) {
					t.Errorf("column %s, row %d", want.ColumnName(i), row)
				}
			}
		}
	}
	record := got.Record()
	wantRecord(t, record, want)
	record.Release()
}

// TestColumnsSayWhatTheRecordSays reads batches of very different sizes one after the other, so that each lies in the
// memory of the one before.
func TestColumnsSayWhatTheRecordSays(t *testing.T) {
	for _, table := range schema.Tables() {
		l := newLink(t, table.ID)
		for _, rows := range []int{80, 1, 9, 1000, 8, 7, 64} {
			for _, codec := range codecs {
				record := l.random(t, rows)
				columns := l.columns(t, l.encode(t, codec, record))
				wantColumns(t, columns, record)
				columns.Release()
			}
		}
	}
}

// TestColumnsLiveSideBySide: memory is given to another batch only once it was released.
func TestColumnsLiveSideBySide(t *testing.T) {
	l := newLink(t, schema.NodeInventoryID)
	var all []*wire.Columns
	var records []arrow.RecordBatch
	for rows := 1; rows <= 20; rows++ {
		records = append(records, l.random(t, rows))
		all = append(all, l.columns(t, l.encode(t, wire.Zstd, records[rows-1])))
		if rows%3 == 0 {
			all[rows-2].Release()
			all[rows-2] = nil
		}
	}
	for i, columns := range all {
		if columns != nil {
			wantColumns(t, columns, records[i])
		}
	}
}

// TestBadBatchesDoNotSpoilTheNext leaves what a bad batch was read into to a good one.
func TestBadBatchesDoNotSpoilTheNext(t *testing.T) {
	l := newLink(t, schema.EventsID)
	record := l.random(t, 9)
	good := l.encode(t, wire.Zstd, record)
	for at := 0; at < len(good.Body); at += 1 + len(good.Body)/200 {
		bad := bytes.Clone(good.Body)
		bad[at] ^= 0x55
		if columns, err := l.decoder.Columns(good.Identity, nil, bad); err == nil {
			columns.Release()
		}
		columns := l.columns(t, good)
		wantColumns(t, columns, record)
		columns.Release()
	}
}
