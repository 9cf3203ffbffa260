// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

type queue struct{ batches []*wire.Batch }

func (q *queue) Push(b *wire.Batch) { q.batches = append(q.batches, b) }

func newBuilder(t testing.TB, cfg Config) (*Builder, *queue) {
	t.Helper()
	q := &queue{}
	cfg.Node, cfg.Epoch = 7, 9
	if cfg.MaxRows == 0 {
		cfg.MaxRows = 100
	}
	b, err := New(cfg, q)
	if err != nil {
		t.Fatal(err)
	}
	return b, q
}

// cells are a row of a table at a time, every other column absent or zero.
func cells(t testing.TB, id uint8, at time.Time) []Cell {
	t.Helper()
	table, ok := schema.TableByID(id)
	if !ok {
		t.Fatalf("no table %d", id)
	}
	var row []Cell
	for _, c := range table.WireColumns() {
		row = append(row, Cell{OK: !c.Nullable})
	}
	row[0].Int = at.UnixMilli()
	if table.Columns[0].Type == schema.TimeMicroseconds {
		row[0].Int = at.UnixMicro()
	}
	return row
}

func appendRow(t testing.TB, b *Builder, id uint8, row []Cell) {
	t.Helper()
	if err := b.Append(id, row); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, b *wire.Batch) arrow.RecordBatch {
	t.Helper()
	z, err := wire.NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	identity, err := wire.ParseIdentity(b.Metadata, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	table, _ := schema.TableByID(identity.Table)
	record, err := wire.NewDecoder(table.WireSchema(), z).Decode(identity, b.Header, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestBuilderIsShared has many goroutines write at once: no row is lost, and sequences have no holes.
func TestBuilderIsShared(t *testing.T) {
	const writers, rows = 8, 200
	b, q := newBuilder(t, Config{Flush: time.Hour, MaxRows: 64})
	var all sync.WaitGroup
	for range writers {
		row := cells(t, schema.EventsID, noon)
		all.Go(func() {
			for range rows {
				if err := errors.Join(b.Append(schema.EventsID, row), b.FlushDue(noon), b.FlushTable(schema.EventsID)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for i, batch := range q.batches {
		sum += int(batch.Identity.Rows)
		if batch.Identity.Sequence != uint64(i)+1 {
			t.Errorf("batch %d has sequence %d", i+1, batch.Identity.Sequence)
		}
	}
	if sum != writers*rows {
		t.Errorf("%d rows came out of %d", sum, writers*rows)
	}
}

func TestBatchNeverSpansTwoDays(t *testing.T) {
	for _, id := range []uint8{schema.SamplesID, schema.SubsecondID} {
		t.Run(strconv.Itoa(int(id)), func(t *testing.T) {
			b, q := newBuilder(t, Config{Flush: time.Hour})
			midnight := noon.Add(12 * time.Hour)
			appendRow(t, b, id, cells(t, id, midnight.Add(-time.Second)))
			appendRow(t, b, id, cells(t, id, midnight))
			if err := b.FlushAll(); err != nil {
				t.Fatal(err)
			}
			if len(q.batches) != 2 || q.batches[0].Identity.Rows != 1 {
				t.Fatalf("%d batches, want one on each side of midnight", len(q.batches))
			}
		})
	}
}

func TestSequencesHaveNoGaps(t *testing.T) {
	b, q := newBuilder(t, Config{Flush: time.Hour, MaxRows: 3})
	for i := range 10 {
		appendRow(t, b, schema.SamplesID, cells(t, schema.SamplesID, noon.Add(time.Duration(i)*time.Second)))
		appendRow(t, b, schema.HealthID, cells(t, schema.HealthID, noon))
	}
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	next, rows := map[uint8]uint64{}, map[uint8]uint32{}
	for _, x := range q.batches {
		i := x.Identity
		next[i.Table]++
		rows[i.Table] += i.Rows
		if i.Sequence != next[i.Table] || i.Node != 7 || i.Epoch != 9 {
			t.Errorf("batch %v: want sequence %d of node 7, epoch 9", i.Key(), next[i.Table])
		}
	}
	if rows[schema.SamplesID] != 10 || rows[schema.HealthID] != 10 {
		t.Errorf("rows %v, want 10 of each", rows)
	}
}

func TestFlushesAreAtTheNodesOwnPhase(t *testing.T) {
	b, q := newBuilder(t, Config{Flush: 10 * time.Second, Phase: 3 * time.Second})
	appendRow(t, b, schema.SamplesID, cells(t, schema.SamplesID, noon))
	for at, want := range map[time.Duration]int{2 * time.Second: 0, 3*time.Second - time.Millisecond: 0} {
		if err := b.FlushDue(noon.Add(at)); err != nil || len(q.batches) != want {
			t.Fatalf("after %s: %d batches, %v", at, len(q.batches), err)
		}
	}
	if err := b.FlushDue(noon.Add(3 * time.Second)); err != nil || len(q.batches) != 1 {
		t.Fatalf("at the phase: %d batches, %v", len(q.batches), err)
	}
}

func TestValuesArriveAndAbsentOnesAreNull(t *testing.T) {
	b, q := newBuilder(t, Config{Flush: time.Hour})
	table, _ := schema.TableByID(schema.SamplesID)
	columns := table.WireColumns()
	row := cells(t, schema.SamplesID, noon)
	index := map[string]int{}
	for i, c := range columns {
		index[c.Name] = i
	}
	const hugeID = 1<<63 + 5
	id := uint64(hugeID)
	row[index["gpu_id"]].Int = int64(id)
	row[index["power_instant_watts"]] = Cell{Int: 699, OK: true}
	row[index["gpu_temperature_celsius"]] = Cell{Int: -3, OK: true}
	row[index["sm_clock_megahertz"]] = Cell{Int: math.MaxUint16 + 1, OK: true} // does not fit
	row[index["power_average_watts"]] = Cell{Int: -1, OK: true}                // does not fit
	appendRow(t, b, schema.SamplesID, row)
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	record := decode(t, q.batches[0])
	defer record.Release()
	if got := record.Column(index["gpu_id"]).(*array.Uint64).Value(0); got != id {
		t.Errorf("GPU id %d, want %d", got, id)
	}
	if got := record.Column(index["power_instant_watts"]).(*array.Uint16).Value(0); got != 699 {
		t.Errorf("power %d", got)
	}
	if got := record.Column(index["gpu_temperature_celsius"]).(*array.Int16).Value(0); got != -3 {
		t.Errorf("temperature %d", got)
	}
	for _, absent := range []string{"sm_clock_megahertz", "power_average_watts", "memory_used_bytes"} {
		if !record.Column(index[absent]).IsNull(0) {
			t.Errorf("%s is not NULL", absent)
		}
	}
}

// Half of all GPU ids have their highest bit set, and an event may have one or none.
func TestGPUIDOfAnEventUsesAllBits(t *testing.T) {
	b, q := newBuilder(t, Config{Flush: time.Hour})
	table, _ := schema.TableByID(schema.EventsID)
	gpu := slices.IndexFunc(table.WireColumns(), func(c schema.Column) bool { return c.Name == schema.ColumnGPU })
	huge := ^uint64(0) - 5
	row := cells(t, schema.EventsID, noon)
	appendRow(t, b, schema.EventsID, row)
	row[gpu] = Cell{Int: int64(huge), OK: true}
	appendRow(t, b, schema.EventsID, row)
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	record := decode(t, q.batches[0])
	defer record.Release()
	if column := record.Column(gpu).(*array.Uint64); !column.IsNull(0) || column.IsNull(1) || column.Value(1) != huge {
		t.Errorf("GPU ids %v, want NULL and %d", column, huge)
	}
}

func TestEveryTableTakesRows(t *testing.T) {
	b, q := newBuilder(t, Config{Flush: time.Hour})
	for _, table := range schema.Tables() {
		appendRow(t, b, table.ID, cells(t, table.ID, noon))
	}
	if err := b.FlushAll(); err != nil {
		t.Fatal(err)
	}
	for _, x := range q.batches {
		decode(t, x).Release()
	}
	if len(q.batches) != len(schema.Tables()) {
		t.Errorf("%d batches of %d tables", len(q.batches), len(schema.Tables()))
	}
	if err := b.Append(schema.SamplesID, make([]Cell, 3)); err == nil {
		t.Error("a row of three cells was taken")
	}
}

func TestRowAllocatesNothing(t *testing.T) {
	b, _ := newBuilder(t, Config{Flush: time.Hour, MaxRows: 1 << 16})
	row := cells(t, schema.SamplesID, noon)
	for range 4096 { // the builders have grown by then
		appendRow(t, b, schema.SamplesID, row)
	}
	if n := testing.AllocsPerRun(1000, func() { appendRow(t, b, schema.SamplesID, row) }); n >= 1 {
		t.Errorf("%.1f allocations a row", n)
	}
}

// BenchmarkBatch is a batch of 80 rows, as eight GPUs make it in ten seconds: append, encode,
// compress. It is traced by nobody, and by a tracer that traces one batch in 1000.
func BenchmarkBatch(b *testing.B) {
	b.Run("not traced", func(b *testing.B) { benchmarkBatch(b, nil) })
	b.Run("1 in 1000 traced", func(b *testing.B) {
		benchmarkBatch(b, batchtrace.New(noop.NewTracerProvider(), batchtrace.DefaultEvery))
	})
}

func benchmarkBatch(b *testing.B, tracer *batchtrace.Tracer) {
	builder, q := newBuilder(b, Config{Flush: time.Hour, Trace: tracer})
	row := cells(b, schema.SamplesID, noon)
	b.ReportAllocs()
	for b.Loop() {
		for i := range 80 {
			for c := 5; c < len(row); c++ {
				row[c] = Cell{Int: int64(i*c) % 1000, OK: c%7 != 0}
			}
			appendRow(b, builder, schema.SamplesID, row)
		}
		if err := builder.FlushAll(); err != nil {
			b.Fatal(err)
		}
	}
	last := q.batches[len(q.batches)-1]
	b.ReportMetric(float64(last.Bytes())/80, "wire-bytes/row")
}
