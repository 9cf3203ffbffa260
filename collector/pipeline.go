// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/otlpout"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/replay"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
)

// pipeline is a collector's parts.
type pipeline struct {
	cfg        Config
	store      *store.Store
	log        *batchlog.Log // nil: there is none
	index      *index.Index
	quarantine *quarantine.Store
	load       *receiver.Load
}

// run stops in this order: streams first, so that nothing more comes in; then the store, once it has written what it
// was given; then the log, once it knows what is stored.
func (p *pipeline) run(ctx context.Context, listener net.Listener) error {
	logging, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLogging()
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStoring()
	receiving, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	var group errgroup.Group
	if p.log != nil {
		group.Go(func() error { return p.log.Run(logging) })
	}
	group.Go(func() error {
		defer stopLogging()
		defer stopReceiving()
		return p.store.Run(storing)
	})
	exporting, stopExporting := context.WithCancel(receiving)
	group.Go(func() error {
		select {
		case <-p.store.NameTaken():
			stopReceiving()
		case <-receiving.Done():
		}
		return nil
	})
	group.Go(func() error {
		defer stopStoring()
		defer stopExporting()
		return p.receive(receiving, listener)
	})
	if p.cfg.Export.URL != "" {
		group.Go(func() error { return otlpout.Run(exporting, p.cfg.Export.config(p)) })
	}
	return group.Wait()
}

// ledgerWait is how long an unanswered question to the ledger waits at a start.
const ledgerWait = time.Second

const (
	// leftLook is how often the ledger is asked for batches whose agents have gone to another collector.
	leftLook = 2 * time.Second
	// leftPatience is how long such an agent has to send them there.
	leftPatience = time.Minute
)

// receive takes streams, and meanwhile stores what an earlier life has accepted. It returns when nothing more comes.
func (p *pipeline) receive(ctx context.Context, listener net.Listener) error {
	cfg := receiver.Config{
		Name: p.cfg.Name, TLS: p.cfg.TLS, Keys: p.cfg.Keys, MaxMemoryBytes: p.cfg.MaxMemoryBytes, MaxAge: p.cfg.MaxAge, MaxAhead: p.cfg.MaxAhead,
		Store: p.store, Index: p.index, Quarantine: p.quarantine, Orders: p.cfg.Orders, Load: p.load, Trace: p.cfg.Trace, Logger: p.cfg.Logger, Meter: p.cfg.Meter,
	}
	if p.log == nil {
		p.ready()
		return receiver.Serve(ctx, listener, cfg)
	}
	cfg.Log = p.log
	defer p.log.Flush()
	again := replay.Config{
		Name: p.cfg.Name, Log: p.log, Index: p.index, Store: p.store, Quarantine: p.quarantine, Trace: p.cfg.Trace, Logger: p.cfg.Logger, RetryWait: ledgerWait,
	}
	left := replay.NewLeft(replay.LeftConfig{Config: again, Look: leftLook, Patience: cmp.Or(p.cfg.LeftPatience, leftPatience)})
	again.Left, cfg.Left = left.Add, left.Add
	accepted, err := replay.Claim(ctx, again)
	if err != nil {
		return ignoreEnd(ctx, err, listener)
	}
	p.ready()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return accepted.Run(ctx) })
	group.Go(func() error { return left.Run(ctx) })
	group.Go(func() error { return receiver.Serve(ctx, listener, cfg) })
	if p.cfg.Foreign.on() {
		group.Go(func() error { return p.takeForeign(ctx, left.Add) })
	}
	return group.Wait()
}

// ready tells that streams are taken from now on.
func (p *pipeline) ready() {
	if p.cfg.OnReady != nil {
		p.cfg.OnReady(p.checks)
	}
}

// ignoreEnd closes a listener that nobody serves. That the context has ended is no error.
func ignoreEnd(ctx context.Context, err error, listener net.Listener) error {
	closed := listener.Close()
	if ctx.Err() != nil {
		return closed
	}
	return errors.Join(err, closed)
}
