// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Item is one batch on its way into ClickHouse.
type Item struct {
	Key     wire.Key
	Scope   wire.Scope    // of all its rows
	Columns *wire.Columns // released once the item is settled
	From    time.Time     // earliest and latest time of the rows, of one UTC day
	To      time.Time
	Span    *batchtrace.Span // its way, if it is traced; else nil
	// Tenure is of the claim under which it is stored.
	Tenure uint32
	// Doubtful says that it may be in the table already: another collector had it.
	Doubtful bool
	// Done is called once. A nil error: the rows are in ClickHouse, counted, and in the ledger. A
	// Refused error: ClickHouse will never take them. A Moved error: another collector is to store them. ErrFormerAway: it is
	// to come again.
	Done func(error)
}

func (i *Item) rows() int64 { return int64(i.Columns.Rows()) }

// Times are the earliest and the latest time of a batch's rows.
func Times(t schema.Table, columns *wire.Columns) (from, to time.Time) {
	times := columns.Column(0)
	low, high := arrow.Timestamp(math.MaxInt64), arrow.Timestamp(math.MinInt64)
	for row := range columns.Rows() {
		at := arrow.Timestamp(times.Uint64(row))
		low, high = min(low, at), max(high, at)
	}
	unit := arrow.Millisecond
	if t.Columns[0].Type == schema.TimeMicroseconds {
		unit = arrow.Microsecond
	}
	return low.ToTime(unit), high.ToTime(unit)
}

// hour is the UTC hour in which the rows begin. It is never in two partitions.
func (i *Item) hour() int64 { return i.From.Unix() / 3600 }

// place is which unit an item goes into.
type place struct {
	hour   int64
	tenure uint32
}

func (i *Item) place() place { return place{i.hour(), i.Tenure} }

// Refused is the error of a batch that ClickHouse will never take.
type Refused struct{ Reason error }

// Error implements error.
func (r Refused) Error() string { return "ClickHouse refuses the rows: " + r.Reason.Error() }

// Unwrap gives ClickHouse's own error.
func (r Refused) Unwrap() error { return r.Reason }

// unit is what one INSERT carries: batches of one table that begin in one hour, under claims of one tenure.
type unit struct {
	table    schema.Table
	tenure   uint32 // of all of its items
	items    []Item
	rows     int64
	from, to time.Time
	since    time.Time // when its first batch came
	token    string    // insert_deduplication_token
	resumed  bool      // an earlier process may have sent it under this token
	traced   bool      // at least one of its batches is
	tries    int
	refused  int           // tries that ClickHouse answered with a refusal of the rows
	tooMuch  int           // tries that ended because the unit was too large
	wait     time.Duration // before the next try
}

func (u *unit) add(i Item) {
	if len(u.items) == 0 || i.From.Before(u.from) {
		u.from = i.From
	}
	if i.To.After(u.to) {
		u.to = i.To
	}
	u.tenure = i.Tenure
	u.items = append(u.items, i)
	u.traced = u.traced || i.Span != nil
	u.rows += i.rows()
}

// stampOf is the number that the collector sets in a column of all of a batch's rows.
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

// scopeOf is the text that the collector sets in a column of all of a batch's rows.
func scopeOf(s wire.Scope, column string) string {
	switch column {
	case schema.ColumnTenant:
		return s.Tenant
	case schema.ColumnResidency:
		return s.Residency
	default:
		panic("store: column " + column + " is stamped with a text, and nobody knows with which")
	}
}

// part is a unit of some of its items.
func (u *unit) part(items []Item) *unit {
	p := &unit{table: u.table, wait: u.wait}
	for _, i := range items {
		p.add(i)
	}
	return p
}

// doubtful are the items that may be in the table already.
func (u *unit) doubtful() (items []Item) {
	for _, i := range u.items {
		if i.Doubtful {
			items = append(items, i)
		}
	}
	return items
}

// without gives a unit of the items whose batches are not in the set.
func (u *unit) without(landed landedRows) *unit {
	var rest []Item
	for _, i := range u.items {
		if _, ok := landed[i.Key]; !ok {
			rest = append(rest, i)
		}
	}
	return u.part(rest)
}
