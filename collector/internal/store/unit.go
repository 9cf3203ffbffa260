// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Item is one batch on its way into ClickHouse.
type Item struct {
	Key    wire.Key
	Record arrow.RecordBatch // the wire columns; released once the item is settled
	From   time.Time         // earliest and latest time of the rows, of one UTC day
	To     time.Time
	// Done is called once. A nil error: the rows are in ClickHouse, counted, and in the ledger. A
	// Refused error: ClickHouse will never take them.
	Done func(error)
}

// Refused is the error of a batch that ClickHouse will never take.
type Refused struct{ Reason error }

// Error implements error.
func (r Refused) Error() string { return "ClickHouse refuses the rows: " + r.Reason.Error() }

// Unwrap gives ClickHouse's own error.
func (r Refused) Unwrap() error { return r.Reason }

// unit is what one INSERT carries: batches of one table that begin in one hour.
type unit struct {
	table    schema.Table
	items    []Item
	rows     int64
	from, to time.Time
	token    string // insert_deduplication_token
	tries    int
	tooMuch  int // tries that ended because the unit was too large
}

func (u *unit) add(i Item) {
	if len(u.items) == 0 || i.From.Before(u.from) {
		u.from = i.From
	}
	if i.To.After(u.to) {
		u.to = i.To
	}
	u.items = append(u.items, i)
	u.rows += i.Record.NumRows()
}

// encode writes the unit as one Arrow stream of one record batch, with the columns that the
// collector stamps.
func (u *unit) encode(into *bytes.Buffer) error {
	target := u.table.InsertSchema()
	columns := make([]arrow.Array, 0, len(u.table.Columns))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	parts := make([]arrow.Array, len(u.items))
	wireColumn := 0
	for _, c := range u.table.Columns {
		if c.Stamped {
			columns = append(columns, u.stamp(c.Name))
			continue
		}
		for i := range u.items {
			parts[i] = u.items[i].Record.Column(wireColumn)
		}
		wireColumn++
		joined, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return fmt.Errorf("join column %s: %w", c.Name, err)
		}
		columns = append(columns, joined)
	}
	record := array.NewRecordBatch(target, columns, u.rows)
	defer record.Release()
	into.Reset()
	writer := ipc.NewWriter(into, ipc.WithSchema(target))
	if err := writer.Write(record); err != nil {
		return fmt.Errorf("encode unit: %w", err)
	}
	if err := writer.Close(); err != nil {
		return fmt.Errorf("encode unit: %w", err)
	}
	return nil
}

// stamp makes the column that says which batch each row came in.
func (u *unit) stamp(column string) arrow.Array {
	b := array.NewUint64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(int(u.rows))
	for i := range u.items {
		value := stampOf(u.items[i].Key, column)
		for range u.items[i].Record.NumRows() {
			b.UnsafeAppend(value)
		}
	}
	return b.NewArray()
}

func stampOf(k wire.Key, column string) uint64 {
	switch column {
	case schema.ColumnNode:
		return k.Node
	case schema.ColumnEpoch:
		return k.Epoch
	case schema.ColumnSequence:
		return k.Sequence
	default:
		panic("store: column " + column + " is stamped, and nobody knows with what")
	}
}

// without gives a unit of the items whose batches are not in the set.
func (u *unit) without(landed map[wire.Key]int64) *unit {
	rest := &unit{table: u.table}
	for _, i := range u.items {
		if _, ok := landed[i.Key]; !ok {
			rest.add(i)
		}
	}
	return rest
}
