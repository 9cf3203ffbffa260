// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// decoders read batches, by table.
type decoders struct {
	zstd   *zstd.Decoder
	tables map[uint8]*wire.Decoder
	older  map[string]*wire.Decoder // by table and columns
}

// newDecoders makes them. Their decompressor must be closed.
func newDecoders() (*decoders, error) {
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	d := &decoders{zstd: z, tables: make(map[uint8]*wire.Decoder), older: make(map[string]*wire.Decoder)}
	for _, t := range schema.Tables() {
		d.tables[t.ID] = wire.NewDecoder(t.WireSchema(), z)
	}
	return d, nil
}

// of gives the decoder for batches with such columns; nil: the table's.
func (d *decoders) of(id uint8, columns []string) (*wire.Decoder, error) {
	if columns == nil {
		return d.tables[id], nil
	}
	table, _ := schema.TableByID(id)
	name := table.Name + "\n" + strings.Join(columns, "\n")
	if d.older[name] == nil {
		decoder, err := wire.NewOlderDecoder(table.WireSchema(), columns, d.zstd)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", table.Name, err)
		}
		d.older[name] = decoder
	}
	return d.older[name], nil
}

// item is a batch for the store, without Done. Its times were found right when it was accepted.
func (d *decoders) item(b batchlog.Kept) (store.Item, error) {
	k := b.Identity.Key()
	decoder, err := d.of(k.Table, b.Columns)
	if err != nil {
		return store.Item{}, err
	}
	columns, err := decoder.Columns(b.Identity, b.Header, b.Body)
	if err != nil {
		return store.Item{}, err
	}
	table, _ := schema.TableByID(k.Table)
	from, to := store.Times(table, columns)
	return store.Item{Key: k, Scope: b.Scope, Columns: columns, From: from, To: to}, nil
}
