// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Layout turns the batches of one table, as an agent of this or of an earlier version made them, into records
// of the columns that the table has in this version.
type Layout struct {
	table   schema.Table
	decoder *wire.Decoder
	present *arrow.Schema
	from    []int // per present column: its place in the batches; -1 if it was not recorded
}

// NewLayout knows the batches by the names of their columns, in order. What their table has gained since is
// NULL; where that may not be, it is 0, which a column that comes later has to allow.
func NewLayout(t schema.Table, recorded []string, z *zstd.Decoder) (*Layout, error) {
	present := t.WireColumns()
	var columns []schema.Column
	for i, name := range recorded {
		at := slices.IndexFunc(present, func(c schema.Column) bool { return c.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("table %s has column %q, which this version does not know: was it recorded by a later one? %w", t.Name, name, wire.ErrMalformed)
		}
		if slices.Index(recorded, name) != i {
			return nil, fmt.Errorf("table %s has column %q twice: %w", t.Name, name, wire.ErrMalformed)
		}
		columns = append(columns, present[at])
	}
	l := &Layout{
		table: t, present: t.WireSchema(),
		decoder: wire.NewDecoder(schema.Table{Columns: columns}.WireSchema(), z),
	}
	for _, c := range present {
		l.from = append(l.from, slices.Index(recorded, c.Name))
	}
	return l, nil
}

// complete refuses batches that lack what may not be NULL.
func (l *Layout) complete() error {
	for i, c := range l.table.WireColumns() {
		if l.from[i] < 0 && !c.Nullable {
			return fmt.Errorf("table %s lacks column %s, without which its rows mean nothing: %w", l.table.Name, c.Name, wire.ErrMalformed)
		}
	}
	return nil
}

// Decode reads a batch, whose record must be released. It does not lie in the frame.
func (l *Layout) Decode(identity wire.Identity, frame []byte) (arrow.RecordBatch, error) {
	recorded, err := l.decoder.Decode(identity, nil, frame)
	if err != nil {
		return nil, err
	}
	defer recorded.Release()
	columns := make([]arrow.Array, len(l.from))
	for i, at := range l.from {
		if at >= 0 {
			columns[i] = recorded.Column(at)
			continue
		}
		columns[i] = absent(l.present.Field(i), int(recorded.NumRows()))
		defer columns[i].Release() // the record keeps it
	}
	return array.NewRecordBatch(l.present, columns, recorded.NumRows()), nil
}

// absent is a column of NULL; of 0 where NULL may not be.
func absent(f arrow.Field, rows int) arrow.Array {
	null := array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, rows)
	if f.Nullable {
		return null
	}
	defer null.Release()
	buffers := slices.Clone(null.Data().Buffers())
	buffers[0] = nil // all are valid
	data := array.NewData(f.Type, rows, buffers, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}
