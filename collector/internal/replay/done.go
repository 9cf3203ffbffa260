// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"errors"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// done is told by the store how a batch ended. One that ClickHouse refuses leaves the log once it is in the quarantine.
func (r *Replay) done(ctx context.Context, h *index.Hold, k wire.Key, err error) {
	if store.HasMoved(err) {
		h.Over()
		r.cfg.Left(k)
		return
	}
	if errors.Is(err, store.ErrFormerAway) {
		h.Done(k.Sequence, index.Again, err.Error())
		r.cfg.Left(k)
		return
	}
	if err == nil {
		r.cfg.Log.Settle(k)
		h.Done(k.Sequence, index.Stored, "")
		return
	}
	if failed := r.quarantine(ctx, k, err); failed != nil {
		r.cfg.Logger.Error("ClickHouse refuses a batch of the log, which stays there until its agent sends it again, or the next start", "batch", k.String(), "reason", err, "error", failed)
		h.Done(k.Sequence, index.Again, err.Error())
		return
	}
	r.cfg.Log.Settle(k) // before it may be claimed again
	h.Done(k.Sequence, index.Rejected, err.Error())
}

// recordWait bounds the ledger entry of a batch that the store refused.
const recordWait = 30 * time.Second

// quarantine keeps a batch that can never be stored, and records it. The log does not say what its node is called.
func (r *Replay) quarantine(ctx context.Context, k wire.Key, reason error) error {
	b, err := r.cfg.Log.Read(k)
	if err != nil {
		return err
	}
	table, _ := schema.TableByID(k.Table)
	path, err := r.cfg.Quarantine.Put(quarantine.Entry{
		Table: table.Name, Node: k.Node, Epoch: k.Epoch, Sequence: k.Sequence,
		Rows: b.Identity.Rows, Reason: reason.Error(), ReceivedAt: time.Now().UTC(), Collector: r.cfg.Name,
		Tenant: b.Scope.Tenant, Residency: b.Scope.Residency,
	}, quarantine.Data{Metadata: b.Metadata, Header: b.Header, Body: b.Body})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWait)
	defer cancel()
	if err := r.cfg.Store.Quarantined(ctx, k, int64(b.Identity.Rows), reason.Error()); err != nil {
		return err
	}
	r.cfg.Logger.Warn("batch of the log quarantined", "batch", k.String(), "reason", reason, "file", path)
	return nil
}
