// SPDX-License-Identifier: Apache-2.0

// Package batch gathers rows into Arrow record batches, one builder per table, gives each batch its
// identity and hands it on, encoded. A Builder may be used by several goroutines. Arrow's builders are
// reused: a row allocates nothing.
package batch

import (
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Queue takes encoded batches, in the order of their sequences. It must not block, nor call the Builder.
type Queue interface {
	Push(b *wire.Batch)
}

// Config is how rows become batches.
type Config struct {
	Node    uint64             // wire.NodeID of the node
	Epoch   uint64             // life of this agent: its start, milliseconds since 1970
	Flush   time.Duration      // rows wait at most this long
	Phase   time.Duration      // flushes happen at multiples of Flush plus this, so that a fleet does not send at once
	MaxRows int                // a batch is closed when it holds this many
	Trace   *batchtrace.Tracer // nil: no batch is traced
}

// Builder gathers the rows of all tables.
type Builder struct {
	cfg    Config
	queue  Queue
	tables map[uint8]*table

	mu      sync.Mutex // guards the encoder and what the tables hold
	encoder *wire.Encoder
}

// table is the open batch of one table.
type table struct {
	id       uint8
	name     string
	columns  []column
	builder  *array.RecordBuilder
	rows     int
	day      int64 // UTC day of the open rows: a batch never spans two
	due      time.Time
	sequence uint64
	opened   time.Time // when its first row came; only of a batch that is traced
	unit     int64     // of the time column: units per second
}

// New makes a builder for every table that agents push.
func New(cfg Config, queue Queue) (*Builder, error) {
	encoder, err := wire.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("make batch builder: %w", err)
	}
	b := &Builder{cfg: cfg, queue: queue, encoder: encoder, tables: make(map[uint8]*table)}
	for _, t := range schema.Tables() {
		b.tables[t.ID] = newTable(t)
	}
	return b, nil
}

func newTable(t schema.Table) *table {
	rb := array.NewRecordBuilder(memory.DefaultAllocator, t.WireSchema())
	open := &table{id: t.ID, name: t.Name, builder: rb, unit: 1000}
	for i, c := range t.WireColumns() {
		open.columns = append(open.columns, newColumn(rb.Field(i), c))
		if i == 0 && c.Type == schema.TimeMicroseconds {
			open.unit = 1e6
		}
	}
	return open
}

// Append adds a row. Its cells are the table's wire columns in order; the first is the time.
func (b *Builder) Append(tableID uint8, cells []Cell) error {
	t, ok := b.tables[tableID]
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ok || len(cells) != len(t.columns) {
		return fmt.Errorf("append row to table %d: %d cells do not fit", tableID, len(cells))
	}
	day := cells[0].Int / (86400 * t.unit)
	if t.rows > 0 && (day != t.day || t.rows >= b.cfg.MaxRows) {
		if err := b.closeLocked(t); err != nil {
			return err
		}
	}
	if t.rows == 0 {
		t.day = day
		t.due = b.nextFlush(time.Unix(cells[0].Int/t.unit, 0))
		b.traceOpened(t)
	}
	for i := range cells {
		t.columns[i].append(&cells[i])
	}
	t.rows++
	return nil
}

// nextFlush is the first flush instant after now.
func (b *Builder) nextFlush(now time.Time) time.Time {
	if b.cfg.Flush <= 0 {
		return now
	}
	return now.Add(-b.cfg.Phase).Truncate(b.cfg.Flush).Add(b.cfg.Flush + b.cfg.Phase)
}

// FlushDue closes the batches whose time has come.
func (b *Builder) FlushDue(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.tables {
		if t.rows > 0 && !now.Before(t.due) {
			if err := b.closeLocked(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// FlushTable closes the open batch of one table, if it has rows.
func (b *Builder) FlushTable(tableID uint8) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tables[tableID]; t != nil && t.rows > 0 {
		return b.closeLocked(t)
	}
	return nil
}

// FlushAll closes every batch that has rows.
func (b *Builder) FlushAll() error {
	for id := range b.tables {
		if err := b.FlushTable(id); err != nil {
			return err
		}
	}
	return nil
}

// Sent tells how many batches of a table were made so far.
func (b *Builder) Sent(tableID uint8) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tables[tableID].sequence
}

// closeLocked encodes the open batch of a table and hands it on.
func (b *Builder) closeLocked(t *table) error {
	full := b.clock()
	record := t.builder.NewRecordBatch()
	defer record.Release()
	t.rows = 0
	t.sequence++
	encoded, err := b.encoder.Encode(record, wire.Identity{
		Table: t.id, Node: b.cfg.Node, Epoch: b.cfg.Epoch, Sequence: t.sequence,
	})
	if err != nil {
		return fmt.Errorf("close batch of %s: %w", t.name, err)
	}
	b.traceClosed(t, encoded, full)
	b.queue.Push(encoded)
	return nil
}
