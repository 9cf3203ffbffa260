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

// layout turns the batches of one table, as they were recorded, into records of the columns that the
// table has in this version.
type layout struct {
	table   schema.Table
	decoder *wire.Decoder
	present *arrow.Schema
	from    []int // per present column: its place in the batches; -1 if it was not recorded
}

func newLayout(t schema.Table, recorded []string, z *zstd.Decoder) (*layout, error) {
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
	l := &layout{
		table: t, present: t.WireSchema(),
		decoder: wire.NewDecoder(schema.Table{Columns: columns}.WireSchema(), z),
	}
	for _, c := range present {
		at := slices.Index(recorded, c.Name)
		if at < 0 && !c.Nullable {
			return nil, fmt.Errorf("table %s lacks column %s, without which its rows mean nothing: %w", t.Name, c.Name, wire.ErrMalformed)
		}
		l.from = append(l.from, at)
	}
	return l, nil
}

// decode reads a batch. What it returns does not lie in the frame.
func (l *layout) decode(identity wire.Identity, frame []byte) (arrow.RecordBatch, error) {
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
		absent := array.MakeArrayOfNull(memory.DefaultAllocator, l.present.Field(i).Type, int(recorded.NumRows()))
		defer absent.Release() // the record keeps it
		columns[i] = absent
	}
	return array.NewRecordBatch(l.present, columns, recorded.NumRows()), nil
}
