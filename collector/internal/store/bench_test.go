// SPDX-License-Identifier: Apache-2.0

package store

import (
	"io"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/schema"
)

// BenchmarkLayOut lays a unit of 1,000 batches of 80 samples out: in ClickHouse's native format as the store does, and
// as one coalesced Arrow stream with the stamped columns, which is the other way (docs/adr/007-insert-format.md).
func BenchmarkLayOut(b *testing.B) {
	const batches, rows = 1000, 80
	u := &unit{table: batchtest.Table(b, schema.SamplesID)}
	record := batchtest.Record(u.table, 1, rows, today())
	for s := range uint64(batches) {
		u.add(Item{Key: key(schema.SamplesID, s), Columns: batchtest.Columns(b, u.table, record), From: today(), To: today()})
	}
	formats := map[string]func(io.Writer) error{
		"native": func(w io.Writer) error {
			_, err := newBody(newNative(u.table), u).WriteTo(w)
			return err
		},
		"arrow": func(w io.Writer) error { return coalesce(u, w) },
	}
	for name, layOut := range formats {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := layOut(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batches*rows), "ns/row")
		})
	}
}

// coalesce writes a unit as one record batch.
func coalesce(u *unit, to io.Writer) error {
	records := make([]arrow.RecordBatch, len(u.items))
	for i := range u.items {
		records[i] = u.items[i].Columns.Record()
		defer records[i].Release()
	}
	columns := make([]arrow.Array, 0, len(u.table.Columns))
	wired := 0
	for _, c := range u.table.Columns {
		parts := make([]arrow.Array, len(u.items))
		for i := range u.items {
			if c.Stamped && c.Type.Width() == 0 {
				parts[i] = repeatedText(scopeOf(u.items[i].Scope, c.Name), u.items[i].Columns.Rows())
			} else if c.Stamped {
				parts[i] = repeated(stampOf(u.items[i].Key, c.Name), u.items[i].Columns.Rows())
			} else {
				parts[i] = records[i].Column(wired)
				parts[i].Retain()
			}
			defer parts[i].Release()
		}
		if !c.Stamped {
			wired++
		}
		column, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return err
		}
		defer column.Release()
		columns = append(columns, column)
	}
	joined := array.NewRecordBatch(u.table.InsertSchema(), columns, u.rows)
	defer joined.Release()
	w := ipc.NewWriter(to, ipc.WithSchema(joined.Schema()))
	if err := w.Write(joined); err != nil {
		return err
	}
	return w.Close()
}

func repeated(value uint64, rows int) arrow.Array {
	b := array.NewUint64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(rows)
	for range rows {
		b.UnsafeAppend(value)
	}
	return b.NewArray()
}

func repeatedText(value string, rows int) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for range rows {
		b.Append(value)
	}
	return b.NewArray()
}
