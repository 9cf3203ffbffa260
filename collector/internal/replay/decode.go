// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// decoders read batches, by table.
type decoders struct {
	zstd   *zstd.Decoder
	tables map[uint8]*wire.Decoder
}

// newDecoders makes them. Their decompressor must be closed.
func newDecoders() (*decoders, error) {
	z, err := wire.NewDecompressor()
	if err != nil {
		return nil, err
	}
	d := &decoders{zstd: z, tables: make(map[uint8]*wire.Decoder)}
	for _, t := range schema.Tables() {
		d.tables[t.ID] = wire.NewDecoder(t.WireSchema(), z)
	}
	return d, nil
}

// item is a batch for the store, without Done. Its times were found right when it was accepted.
func (d *decoders) item(b *wire.Batch) (store.Item, error) {
	k := b.Identity.Key()
	columns, err := d.tables[k.Table].Columns(b.Identity, b.Header, b.Body)
	if err != nil {
		return store.Item{}, err
	}
	table, _ := schema.TableByID(k.Table)
	from, to := store.Times(table, columns)
	return store.Item{Key: k, Columns: columns, From: from, To: to}, nil
}
