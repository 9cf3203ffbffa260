// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/account"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

// rollUp is what a collector does with what a shard has stored already: it gives tables their retention when it starts, and
// makes rollups, and the account of them, until the context ends, over connections of its own. What it does not come to, its next life does.
func (p *pipeline) rollUp(ctx context.Context, s *shard) (err error) {
	database := s.units.Endpoint.Database
	if s.number > 0 {
		database = schema.LocalDatabase(database)
	}
	conn, err := store.Connect(s.units.Endpoint, 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	how := rollups.DefaultConfig()
	how.Database, how.Collector, how.Logger, how.Meter, how.OnStep = database, p.cfg.Name, p.cfg.Logger, p.cfg.Meter, p.cfg.OnStep
	how.Attributes = p.shardAttribute(s.number - 1)
	builder, err := rollups.New(conn, how)
	if err != nil {
		return err
	}
	books, err := p.accountant(conn, database, s.units.Endpoint.Database, how.TakeOver)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { p.retain(ctx, conn, database); return nil })
	if p.cfg.Rollups {
		group.Go(func() error { return builder.Run(ctx) })
		group.Go(func() error { books.Run(ctx); return nil })
	}
	return group.Wait()
}

// accountant makes the account of a shard, at the prices of the whole cluster, while this collector makes the rollups.
func (p *pipeline) accountant(conn driver.Conn, database, prices string, takeOver time.Duration) (*account.Builder, error) {
	cfg, how := account.DefaultConfig(), account.DefaultSchedule()
	cfg.Database, cfg.Prices, cfg.By = database, prices, p.cfg.Name
	how.Collector, how.TakeOver, how.Logger = p.cfg.Name, takeOver, p.cfg.Logger
	return account.NewBuilder(conn, cfg, how)
}

// retainRetry is how long it is waited before tables get their retention that could not.
const retainRetry = time.Minute

// retain gives tables their retention. What keeps it from that, such as a volume that is not there, is no reason to take no
// batches, or to make no rollups: it is said each minute until it is mended.
func (p *pipeline) retain(ctx context.Context, conn driver.Conn, database string) {
	for {
		err := schema.ApplyRetention(ctx, conn, database, p.cfg.Retention)
		if err == nil || ctx.Err() != nil {
			return
		}
		p.cfg.Logger.Error("tables keep their rows as long as before", "database", database, "retry_in", retainRetry, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retainRetry):
		}
	}
}
