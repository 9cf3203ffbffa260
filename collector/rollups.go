// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

// rollUp is what a collector does with what a shard has stored already: it gives tables their retention when it starts, and
// makes rollups until the context ends, over connections of its own. What it does not come to, its next life does.
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
	if err := p.retain(ctx, conn, database); err != nil || !p.cfg.Rollups {
		return err
	}
	how := rollups.DefaultConfig()
	how.Database, how.Collector, how.Logger, how.Meter, how.OnStep = database, p.cfg.Name, p.cfg.Logger, p.cfg.Meter, p.cfg.OnStep
	how.Attributes = p.shardAttribute(s.number - 1)
	builder, err := rollups.New(conn, how)
	if err != nil {
		return err
	}
	return builder.Run(ctx)
}

// retain gives tables their retention. A ClickHouse that does not answer is asked again.
func (p *pipeline) retain(ctx context.Context, conn driver.Conn, database string) error {
	for {
		err := schema.ApplyRetention(ctx, conn, database, p.cfg.Retention)
		if _, answered := errors.AsType[*clickhouse.Exception](err); err == nil || answered {
			return err
		}
		p.cfg.Logger.Warn("tables have not got their retention; trying again", "retry_in", openRetry, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(openRetry):
		}
	}
}
