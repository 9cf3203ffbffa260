// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"

	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/schema"
)

// checks is what a collector that takes streams says of itself. It asks ClickHouse, and answers within the context.
func (p *pipeline) checks(ctx context.Context) []health.Check {
	return []health.Check{
		{Name: "streams", State: health.OK},
		p.clickhouseCheck(ctx),
		p.schemaCheck(ctx),
		p.logCheck(),
		p.quarantineCheck(),
		health.Disk(p.cfg.DataDir),
	}
}

// clickhouseCheck warns of a ClickHouse that does not answer as long as there is a log: it takes the batches, and whoever
// sends agents elsewhere, where the same ClickHouse does not answer, only has them keep what could be here. Without a log
// nothing can be taken.
func (p *pipeline) clickhouseCheck(ctx context.Context) health.Check {
	err := p.store.Ping(ctx)
	switch {
	case err == nil:
		return health.Check{Name: "clickhouse", State: health.OK}
	case p.log == nil:
		return health.Of("clickhouse", err)
	default:
		return health.Warn("clickhouse", fmt.Sprintf("%v: batches are accepted into the log and stored once it answers; streams that are opened meanwhile wait for it", err))
	}
}

// schemaCheck warns of a database that a newer collector has changed: it works, for changes are additive, and this
// collector leaves the new columns empty. That it cannot be asked is the check of ClickHouse's business.
func (p *pipeline) schemaCheck(ctx context.Context) health.Check {
	version, err := p.store.SchemaVersion(ctx)
	if err != nil || version <= schema.Version {
		return health.Warn("schema", "")
	}
	return health.Warn("schema", fmt.Sprintf("the database has version %d of the schema, and this collector knows %d: upgrade it", version, schema.Version))
}

// logCheck looks at the table whose part of the log is filled most: its batches are the first to be refused.
func (p *pipeline) logCheck() health.Check {
	worst := health.Warn("log", "")
	if p.log == nil {
		return worst
	}
	var most float64
	for _, f := range p.log.Fills() {
		if part := float64(f.Used) / float64(max(f.Limit, 1)); part > most {
			most = part
			worst = health.Fill("log", "accepted batches of "+f.Table, f.Used, f.Limit, "ClickHouse does not take the rows, or --log-bytes is too small")
		}
	}
	return worst
}

// quarantineCheck warns at the most: good batches need no quarantine.
func (p *pipeline) quarantineCheck() health.Check {
	used, limit := p.quarantine.Used()
	c := health.Fill("quarantine", "quarantine", used, limit, "look at it with gpufleet replay --list, then replay it or delete it")
	if c.State == health.Failing {
		c.State = health.Warning
	}
	return c
}
