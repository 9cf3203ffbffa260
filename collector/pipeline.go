// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/otlpout"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
)

// pipeline is a collector's parts.
type pipeline struct {
	cfg        Config
	store      *router         // to the shards' stores
	logs       []*batchlog.Log // of the shards, and of shards of an earlier configuration; none: nothing is accepted
	index      *index.Index
	quarantine *quarantine.Store
	load       *receiver.Load

	taking     chan struct{} // closed once the first shard takes streams
	takingOnce sync.Once

	mapChanged     chan struct{} // closed once a shard was told of another map
	mapChangedOnce sync.Once
	next           topology // by that map, once run has ended because of it

	mu       sync.Mutex // guards stranded
	stranded error      // why this collector cannot go by it
}

// run stops in this order: streams first, so that nothing more comes in; then the stores, once they have written what they
// were given; then the logs, once they know what is stored. It tells whether it has ended because nodes go by another map.
func (p *pipeline) run(ctx context.Context, listener net.Listener) (another bool, err error) {
	logging, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLogging()
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStoring()
	var logs, stores errgroup.Group
	for _, l := range p.logs {
		logs.Go(func() error { return l.Run(logging) })
	}
	taking, ctx := errgroup.WithContext(ctx)
	for _, s := range p.store.parts {
		taking.Go(func() error { return p.serve(ctx, storing, s, &stores) })
	}
	taking.Go(func() error { return p.receive(ctx, listener) })
	taking.Go(func() error { return p.follow(ctx) })
	err = taking.Wait()
	if another = errors.Is(err, store.ErrMapChanged); another {
		err = nil
	}
	for _, l := range p.logs {
		l.Flush()
	}
	stopStoring()
	err = errors.Join(err, stores.Wait())
	stopLogging()
	return another, errors.Join(err, logs.Wait())
}

// ledgerWait is how long an unanswered question to the ledger waits at a start.
const ledgerWait = time.Second

const (
	// leftLook is how often the ledger is asked for batches whose agents have gone to another collector.
	leftLook = 2 * time.Second
	// leftPatience is how long such an agent has to send them there.
	leftPatience = time.Minute
	// formerWait is how long the agents of a shard wait at a start for another one that had some of their nodes.
	formerWait = 5 * time.Second
)

// receive takes streams once the first shard does. It returns when nothing more comes.
func (p *pipeline) receive(ctx context.Context, listener net.Listener) error {
	select {
	case <-p.taking:
	case <-ctx.Done():
		return listener.Close()
	}
	cfg := receiver.Config{
		Name: p.cfg.Name, TLS: p.cfg.TLS, Trust: p.cfg.trusted(), Admits: p.cfg.Admits, Agents: p.cfg.Agents, MaxMemoryBytes: p.cfg.MaxMemoryBytes, MaxAge: p.cfg.MaxAge, MaxAhead: p.cfg.MaxAhead,
		Shards: len(p.store.parts), ShardOf: p.store.topology.of,
		Store: p.store, Index: gate{p.index, p.store}, Quarantine: p.quarantine, Orders: p.cfg.Orders, Load: p.load, Trace: p.cfg.Trace, Logger: p.cfg.Logger, Meter: p.cfg.Meter,
	}
	if len(p.logs) > 0 {
		cfg.Log, cfg.Left = p.store, p.store.left
	}
	if p.cfg.OnReady != nil {
		p.cfg.OnReady(p.checks)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return receiver.Serve(ctx, listener, cfg) })
	if p.cfg.Foreign.on() {
		group.Go(func() error { return p.takeForeign(ctx) })
	}
	if p.cfg.Export.URL != "" {
		group.Go(func() error { return otlpout.Run(ctx, p.cfg.Export.config(p)) })
	}
	return group.Wait()
}
