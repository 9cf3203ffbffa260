// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"errors"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
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

// quarantine keeps a batch that can never be stored, and records it. The log does not say what its node is called.
func (r *Replay) quarantine(ctx context.Context, k wire.Key, reason error) error {
	b, err := r.cfg.Log.Read(k)
	if err != nil {
		return err
	}
	ctx, cancel := aside.Outlast(ctx)
	defer cancel()
	to := aside.Aside{Collector: r.cfg.Name, Files: r.cfg.Quarantine, Ledger: r.cfg.Store, Logger: r.cfg.Logger, Now: time.Now}
	return to.Put(ctx, "", b.Batch, reason)
}
