// SPDX-License-Identifier: Apache-2.0

// Package batchtest makes batches for the tests of the collector's parts. What is in a batch follows from its
// arguments alone.
package batchtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Table is a pushed table by its id.
func Table(t testing.TB, id uint8) schema.Table {
	t.Helper()
	table, ok := schema.TableByID(id)
	if !ok {
		t.Fatalf("batchtest: no table has the id %d", id)
	}
	return table
}

// Record makes rows of a table, a second apart from a time on. A third of what may be absent is. The seed tells the
// rows of two records apart.
func Record(table schema.Table, seed uint64, rows int, from time.Time) arrow.RecordBatch {
	times := make([]time.Time, rows)
	for i := range times {
		times[i] = from.Add(time.Duration(i) * time.Second)
	}
	return RecordAt(table, seed, times...)
}

// RecordAt makes a row of a table for each time.
func RecordAt(table schema.Table, seed uint64, times ...time.Time) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.WireSchema())
	defer b.Release()
	for i, c := range table.WireColumns() {
		for row, at := range times {
			value := mix(seed, uint64(i), uint64(row))
			if c.Nullable && value%3 == 0 {
				b.Field(i).AppendNull()
				continue
			}
			switch {
			case c.Name == "node_name":
				b.Field(i).(*array.StringBuilder).Append(Node)
			case c.Name == "gpu_uuid":
				b.Field(i).(*array.StringBuilder).Append(uuid(seed, row))
			case c.Name == schema.ColumnGPU && table.ID == schema.GPUInventoryID:
				b.Field(i).(*array.Uint64Builder).Append(wire.GPUID(uuid(seed, row)))
			default:
				add(b.Field(i), value, at)
			}
		}
	}
	return b.NewRecordBatch()
}

// Node is the name in rows that name a node.
const Node = "node-1"

func uuid(seed uint64, row int) string { return fmt.Sprintf("GPU-%d-%d", seed, row) }

// mix is a number that has nothing to do with its neighbours'.
func mix(a, b, c uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b*0xbf58476d1ce4e5b9 ^ c*0x94d049bb133111eb
	x ^= x >> 31
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

func add(b array.Builder, value uint64, at time.Time) {
	switch b := b.(type) {
	case *array.TimestampBuilder:
		if b.Type().(*arrow.TimestampType).Unit == arrow.Microsecond {
			b.Append(arrow.Timestamp(at.UnixMicro()))
		} else {
			b.Append(arrow.Timestamp(at.UnixMilli()))
		}
	case *array.StringBuilder:
		b.Append(fmt.Sprintf("text %d ü", value%100))
	case *array.Uint8Builder:
		b.Append(uint8(value))
	case *array.Uint16Builder:
		b.Append(uint16(value))
	case *array.Uint32Builder:
		b.Append(uint32(value))
	case *array.Uint64Builder:
		b.Append(value)
	case *array.Int16Builder:
		b.Append(int16(value))
	case *array.Int32Builder:
		b.Append(int32(value))
	case *array.Int64Builder:
		b.Append(int64(value))
	case *array.Float64Builder:
		b.Append(float64(value%10_000) / 8)
	default:
		panic(fmt.Sprintf("batchtest: no values for a %T", b))
	}
}

// Encode makes the batch of a record.
func Encode(t testing.TB, record arrow.RecordBatch, k wire.Key) *wire.Batch {
	t.Helper()
	encoder, err := wire.NewEncoder()
	if err != nil {
		t.Fatalf("batchtest: %v", err)
	}
	b, err := encoder.Encode(record, wire.Identity{Table: k.Table, Node: k.Node, Epoch: k.Epoch, Sequence: k.Sequence})
	if err != nil {
		t.Fatalf("batchtest: %v", err)
	}
	return b
}

// Columns are a record as a collector has them once they have come over the wire.
func Columns(t testing.TB, table schema.Table, record arrow.RecordBatch) *wire.Columns {
	t.Helper()
	b, err := wire.EncodePlain(record, wire.Identity{Table: table.ID, Node: 1, Epoch: 1, Sequence: 1})
	if err != nil {
		t.Fatalf("batchtest: %v", err)
	}
	columns, err := wire.NewDecoder(table.WireSchema(), nil).Columns(b.Identity, b.Header, b.Body)
	if err != nil {
		t.Fatalf("batchtest: %v", err)
	}
	return columns
}
