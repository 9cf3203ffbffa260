// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// leave leaves one batch in a log.
func leave(t *testing.T, cfg batchlog.Config) {
	t.Helper()
	log, err := batchlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := wire.Key{Table: schema.EventsID, Node: 7, Epoch: 1, Sequence: 1}
	log.Append(batchtest.Encode(t, batchtest.Record(batchtest.Table(t, k.Table), 1, 1, time.Now()), k), func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := log.Run(stopped); err != nil {
		t.Fatal(err)
	}
}

// TestNotReadyBeforeTheLogIsClaimed: no stream is taken before, so /readyz must not send agents here.
func TestNotReadyBeforeTheLogIsClaimed(t *testing.T) {
	dir := batchlog.Config{Dir: t.TempDir(), MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler)}
	leave(t, dir)
	log, err := batchlog.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.OnReady = func(func(context.Context) []health.Check) { t.Error("ready, and the ledger was not asked") }
	silent := new(store.Store) // it does not run: no question is answered
	routes := &router{parts: []*shard{{log: log, store: silent}}}
	p := &pipeline{cfg: cfg, store: routes, logs: []*batchlog.Log{log}, index: index.New(routes), taking: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.takeUp(ctx, routes.parts[0]); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := p.receive(ctx, listener); err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
