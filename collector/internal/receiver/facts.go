// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// span finds the earliest and latest time of a batch and refuses what cannot be: rows far from now,
// and batches over more than one UTC day, which would not land whole.
func (s *stream) span(record arrow.RecordBatch) (from, to time.Time, err error) {
	times := record.Column(0).(*array.Timestamp).TimestampValues()
	low, high := times[0], times[0]
	for _, t := range times[1:] {
		low, high = min(low, t), max(high, t)
	}
	unit := arrow.Millisecond
	if s.table.Columns[0].Type == schema.TimeMicroseconds {
		unit = arrow.Microsecond
	}
	from, to = low.ToTime(unit), high.ToTime(unit)
	now := s.cfg.now()
	switch {
	case from.Before(now.Add(-s.cfg.MaxAge)):
		return from, to, fmt.Errorf("rows from %s, more than %s old: %w: is the clock of node %s right?", from.Format(time.RFC3339), s.cfg.MaxAge, errTime, s.hello.Name)
	case to.After(now.Add(s.cfg.MaxAhead)):
		return from, to, fmt.Errorf("rows from %s, more than %s ahead: %w: is the clock of node %s right?", to.Format(time.RFC3339), s.cfg.MaxAhead, errTime, s.hello.Name)
	case !from.Truncate(24 * time.Hour).Equal(to.Truncate(24 * time.Hour)):
		return from, to, fmt.Errorf("rows from %s to %s are not of one UTC day: %w", from.Format(time.RFC3339), to.Format(time.RFC3339), errTime)
	default:
		return from, to, nil
	}
}

var errTime = errors.New("time is out of bounds")

// ownFacts refuses inventory that would give a node another one's name, or an id to another GPU: all
// questions about names are answered from it.
func (s *stream) ownFacts(record arrow.RecordBatch) error {
	switch s.table.ID {
	case schema.NodeInventoryID:
		names := column[*array.String](record, "node_name")
		for row := range names.Len() {
			if names.Value(row) != s.hello.Name {
				return fmt.Errorf("row %d names node %q in a batch of node %s: %w", row, names.Value(row), s.hello.Name, errFacts)
			}
		}
	case schema.GPUInventoryID:
		ids, names := column[*array.Uint64](record, schema.ColumnGPU), column[*array.String](record, "gpu_uuid")
		for row := range names.Len() {
			if want := wire.GPUID(names.Value(row)); ids.Value(row) != want {
				return fmt.Errorf("row %d gives GPU %q the id %016x, not %016x: %w", row, names.Value(row), ids.Value(row), want, errFacts)
			}
		}
	}
	return nil
}

// column is one of a record that was held against the table's schema.
func column[T arrow.Array](record arrow.RecordBatch, name string) T {
	return record.Column(record.Schema().FieldIndices(name)[0]).(T)
}

var errFacts = errors.New("facts are not the node's own")

// reasonOf names the kind of an error for the metrics.
func reasonOf(err error) string {
	for reason, target := range map[string]error{
		"checksum": wire.ErrChecksum, "too_large": wire.ErrTooLarge, "malformed": wire.ErrMalformed,
		"time": errTime, "foreign_identity": errForeign, "foreign_facts": errFacts,
	} {
		if errors.Is(err, target) {
			return reason
		}
	}
	if _, ok := errors.AsType[store.Refused](err); ok {
		return "refused_by_clickhouse"
	}
	return "other"
}
