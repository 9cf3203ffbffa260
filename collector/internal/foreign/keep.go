// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"fmt"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// keeping is a batch on its way into the log. Its bytes and its identity stay the same until it is there: a batch of
// which the log did not say that it has it may be on the disk all the same.
type keeping struct {
	node    *node
	batch   *wire.Batch
	bytes   int64 // that it holds of the memory
	item    store.Item
	commit  []func()
	durable chan error
}

// keep encodes a batch and gives it to the log.
func (d *Door) keep(ctx context.Context, b *batch) (*keeping, error) {
	k, err := d.encode(b)
	if err != nil {
		return nil, err
	}
	if !d.memory.TryAcquire(k.bytes) {
		k.item.Columns.Release()
		return nil, fmt.Errorf("batches wait for ClickHouse: %w", ErrBusy)
	}
	b.node.sequences[b.table.ID]++ // from here on the batch has its number
	k.item.Done = func(err error) { d.stored(ctx, k, err) }
	d.append(ctx, k)
	return k, nil
}

func (d *Door) encode(b *batch) (*keeping, error) {
	record := b.table.record(b.rows)
	defer record.Release()
	encoded, err := d.encoder.Encode(record, wire.Identity{
		Table: b.table.ID, Node: b.node.id, Epoch: d.epoch, Sequence: b.node.sequences[b.table.ID] + 1,
	})
	if err != nil {
		return nil, err
	}
	columns, err := d.decoders[b.table.ID].Columns(encoded.Identity, encoded.Header, encoded.Body)
	if err != nil {
		return nil, fmt.Errorf("read back batch %v: %w", encoded.Identity.Key(), err)
	}
	k := &keeping{node: b.node, batch: encoded, commit: b.commit, bytes: min(int64(encoded.Identity.Size)+int64(encoded.Bytes()), d.cfg.MaxBytes)}
	encoded.Scope = b.node.scope
	k.item = store.Item{Key: encoded.Identity.Key(), Scope: encoded.Scope, Columns: columns}
	k.item.From, k.item.To = store.Times(b.table.Table, columns)
	return k, nil
}

// append gives a batch to the log, and from there to the store.
func (d *Door) append(ctx context.Context, k *keeping) {
	k.durable = make(chan error, 1)
	d.cfg.Log.Append(k.batch, func(err error) {
		k.durable <- err
		if err != nil {
			return
		}
		if err := d.cfg.Store.Submit(ctx, k.item); err != nil { // at a stop: the next life finds it in the log
			k.item.Columns.Release()
			d.memory.Release(k.bytes)
		}
	})
}

// stored is told by the store how a batch ended.
func (d *Door) stored(ctx context.Context, k *keeping, err error) {
	defer d.memory.Release(k.bytes)
	if store.HasMoved(err) || errors.Is(err, store.ErrFormerAway) { // another collector stores it, or this one does from the log
		d.cfg.Left(k.item.Key)
		return
	}
	if err != nil {
		ctx, cancel := aside.Outlast(ctx)
		defer cancel()
		if err := d.aside.Put(ctx, k.node.name, k.batch, err); err != nil {
			d.cfg.Logger.Error("quarantine a refused batch", "batch", k.item.Key.String(), "error", err)
			return // it stays in the log
		}
	}
	d.cfg.Log.Settle(k.item.Key)
}
