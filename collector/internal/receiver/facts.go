// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// span finds the earliest and latest time of a batch and refuses what cannot be: rows far from now,
// and batches over more than one UTC day, which would not land whole.
func (s *stream) span(columns *wire.Columns) (from, to time.Time, err error) {
	from, to = store.Times(s.table, columns)
	now := s.cfg.now()
	switch {
	case !s.proof.since.IsZero() && from.Before(s.proof.since):
		return from, to, fmt.Errorf("rows from %s, and node %s is of tenant %s only since %s: %w", from.Format(time.RFC3339), s.hello.Name, s.proof.scope.Tenant, s.proof.since.Format(time.RFC3339), errSince)
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

// errSince says that the rows are of the time before the node came to the tenant that it proves.
var errSince = errors.New("rows are not the tenant's")

var errTime = errors.New("time is out of bounds")

// ownFacts refuses inventory that would give a node another one's name, or an id to another GPU: all
// questions about names are answered from it.
func (s *stream) ownFacts(columns *wire.Columns) error {
	switch s.table.ID {
	case schema.NodeInventoryID:
		names := column(columns, "node_name")
		for row := range columns.Rows() {
			if name := names.String(row); name != s.hello.Name {
				return fmt.Errorf("row %d names node %q in a batch of node %s: %w", row, name, s.hello.Name, errFacts)
			}
		}
	case schema.GPUInventoryID:
		ids, names := column(columns, schema.ColumnGPU), column(columns, "gpu_uuid")
		for row := range columns.Rows() {
			if name, id := names.String(row), ids.Uint64(row); id != wire.GPUID(name) {
				return fmt.Errorf("row %d gives GPU %q the id %016x, not %016x: %w", row, name, id, wire.GPUID(name), errFacts)
			}
		}
	}
	return nil
}

// countGPUs counts the GPUs that an agent has rows of.
func (s *stream) countGPUs(columns *wire.Columns) error {
	fields := columns.Schema().FieldIndices(schema.ColumnGPU)
	if len(fields) == 0 || columns.Schema().Field(fields[0]).Nullable {
		return nil
	}
	return s.guest.count(s.cfg.Agents, columns.Column(fields[0]), columns.Rows(), s.cfg.now())
}

// column is one of a batch that was held against the table's schema.
func column(columns *wire.Columns, name string) wire.Column {
	return columns.Column(columns.Schema().FieldIndices(name)[0])
}

var errFacts = errors.New("facts are not the node's own")

// reasonOf names the kind of an error for the metrics.
func reasonOf(err error) string {
	for reason, target := range map[string]error{
		"checksum": wire.ErrChecksum, "too_large": wire.ErrTooLarge, "malformed": wire.ErrMalformed,
		"time": errTime, "before_tenant": errSince, "foreign_identity": errForeign, "foreign_facts": errFacts,
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
