// SPDX-License-Identifier: Apache-2.0

// Package synthetic makes record batches for the tests and benchmarks of the schema: random ones
// that reach the ends of every type, and those of a fleet that trains. A Fleet is shaped like what
// NVML answers, so its batches compress about as well, but it is not a recording: sizes measured
// with it are estimates.
package synthetic

import (
	"math"
	"math/rand/v2"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
)

// Random makes rows of the columns: the first holds the least value of each type, the second the
// greatest, the third NULL where that is allowed; the rest is random. Times lie within the second after
// startMilliseconds (since 1970), so that a batch stays in one partition. Column seq counts the rows.
func Random(columns []schema.Column, rows int, seed uint64, startMilliseconds int64) arrow.RecordBatch {
	random := rand.New(rand.NewPCG(seed, 1))
	return build(columns, rows, func(b array.Builder, column, row int) {
		c := columns[column]
		switch {
		case c.Name == schema.ColumnSequence:
			appendInteger(b, int64(row)+1)
		case c.Nullable && (row == 2 || row > 2 && random.IntN(5) == 0):
			b.AppendNull()
		case c.Type == schema.TimeMilliseconds:
			appendInteger(b, startMilliseconds+random.Int64N(1000))
		case c.Type == schema.TimeMicroseconds:
			appendInteger(b, startMilliseconds*1000+random.Int64N(1_000_000))
		case row < 2:
			appendExtreme(b, row == 1)
		default:
			appendRandom(b, random)
		}
	})
}

// build fills a record of the columns, row by row within each column.
func build(columns []schema.Column, rows int, fill func(b array.Builder, column, row int)) arrow.RecordBatch {
	table := schema.Table{Columns: columns}
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.InsertSchema())
	defer b.Release()
	b.Reserve(rows)
	for i := range columns {
		for row := range rows {
			fill(b.Field(i), i, row)
		}
	}
	return b.NewRecordBatch()
}

// appendInteger appends n to a builder of any integer or time type, cut to its width.
func appendInteger(b array.Builder, n int64) {
	switch b := b.(type) {
	case *array.Uint8Builder:
		b.Append(uint8(n))
	case *array.Uint16Builder:
		b.Append(uint16(n))
	case *array.Uint32Builder:
		b.Append(uint32(n))
	case *array.Uint64Builder:
		b.Append(uint64(n))
	case *array.Int8Builder:
		b.Append(int8(n))
	case *array.Int16Builder:
		b.Append(int16(n))
	case *array.Int32Builder:
		b.Append(int32(n))
	case *array.Int64Builder:
		b.Append(n)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(n))
	case *array.Float64Builder:
		b.Append(float64(n))
	}
}

// appendExtreme appends the least or the greatest value of the builder's type.
func appendExtreme(b array.Builder, greatest bool) {
	switch b := b.(type) {
	case *array.Float64Builder:
		b.Append(pick(greatest, math.MaxFloat64, -math.MaxFloat64))
	case *array.StringBuilder:
		b.Append(pick(greatest, "\U0010ffff \x00\t\n'\"\\` ünïcödé", ""))
	case *array.Int8Builder:
		b.Append(pick(greatest, int8(math.MaxInt8), math.MinInt8))
	case *array.Int16Builder:
		b.Append(pick(greatest, int16(math.MaxInt16), math.MinInt16))
	case *array.Int32Builder:
		b.Append(pick(greatest, int32(math.MaxInt32), math.MinInt32))
	case *array.Int64Builder:
		b.Append(pick(greatest, int64(math.MaxInt64), math.MinInt64))
	default:
		appendInteger(b, pick(greatest, int64(-1), 0)) // cut to width, -1 is the greatest unsigned number
	}
}

func pick[T any](greatest bool, most, least T) T {
	if greatest {
		return most
	}
	return least
}

func appendRandom(b array.Builder, random *rand.Rand) {
	switch b := b.(type) {
	case *array.Float64Builder:
		b.Append(random.NormFloat64())
	case *array.StringBuilder:
		letters := make([]rune, random.IntN(20))
		for i := range letters {
			letters[i] = 'a' + random.Int32N(26)
		}
		b.Append(string(letters))
	default:
		appendInteger(b, int64(random.Uint64()))
	}
}
