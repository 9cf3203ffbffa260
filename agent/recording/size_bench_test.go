// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// BenchmarkWireSize reports what rows of the recordings take on the wire, as they were sent and in larger batches, as
// nodes of several GPUs send them: the figures of docs/benchmarks.md.
//
//	go test -run '^$' -bench WireSize -benchtime 1x ./agent/recording
func BenchmarkWireSize(b *testing.B) {
	files, err := filepath.Glob(filepath.Join("..", "testdata", "recordings", "*.gfr"))
	if err != nil || len(files) == 0 {
		b.Fatalf("recordings %v: %v", files, err)
	}
	for _, file := range files {
		r, err := Open(file)
		if err != nil {
			b.Fatal(err)
		}
		for _, table := range []uint8{schema.SamplesID, schema.SubsecondID} {
			if len(r.records[table]) == 0 {
				continue
			}
			t, _ := schema.TableByID(table)
			for _, rows := range []int64{0, 40, 80} { // 0: as they were sent
				b.Run(filepath.Base(file)+"/"+t.Name+"/"+strconv.FormatInt(rows, 10), func(b *testing.B) {
					for b.Loop() {
						b.ReportMetric(wireBytes(b, table, inBatches(b, r.records[table], rows)), "B/row")
					}
				})
			}
		}
	}
}

// inBatches lays rows together into batches of so many; the last one has what is left.
func inBatches(b *testing.B, records []arrow.RecordBatch, rows int64) []arrow.RecordBatch {
	b.Helper()
	if rows == 0 || len(records) == 0 {
		return records
	}
	columns := make([]arrow.Array, records[0].NumCols())
	for i := range columns {
		var parts []arrow.Array
		for _, r := range records {
			parts = append(parts, r.Column(i))
		}
		var err error
		if columns[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			b.Fatal(err)
		}
	}
	all := array.NewRecordBatch(records[0].Schema(), columns, -1)
	var batches []arrow.RecordBatch
	for from := int64(0); from < all.NumRows(); from += rows {
		batches = append(batches, all.NewSlice(from, min(from+rows, all.NumRows())))
	}
	return batches
}

// wireBytes is what a row takes in the mean.
func wireBytes(b *testing.B, table uint8, batches []arrow.RecordBatch) float64 {
	b.Helper()
	encoder, err := wire.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	var bytes, rows int64
	for i, record := range batches {
		encoded, err := encoder.Encode(record, wire.Identity{Table: table, Node: 1, Epoch: 1, Sequence: uint64(i + 1)})
		if err != nil {
			b.Fatal(err)
		}
		bytes, rows = bytes+int64(encoded.Bytes()), rows+record.NumRows()
	}
	return float64(bytes) / float64(max(rows, 1))
}
