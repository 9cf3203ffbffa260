// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/schema"
)

// checks is what a collector that takes streams says of itself. It asks ClickHouse, and answers within the context.
func (p *pipeline) checks(ctx context.Context) []health.Check {
	checks := []health.Check{health.Of("streams", p.whyStranded())}
	if p.cfg.Cluster.on() {
		checks = append(checks, p.shardChecks(ctx)...)
	} else {
		one := p.store.parts[0]
		checks = append(checks, one.clickhouseCheck(ctx, "clickhouse"), schemaCheck(ctx, one.store))
	}
	return append(checks, p.logCheck(), p.quarantineCheck(), health.Disk(p.cfg.DataDir))
}

// shardChecks looks at all shards at the same time. One that takes nothing is a warning, as the agents of the others are to
// come here; it is a failure when none is left.
func (p *pipeline) shardChecks(ctx context.Context) []health.Check {
	checks := make([]health.Check, len(p.store.parts))
	var asking sync.WaitGroup
	for i, s := range p.store.parts {
		asking.Go(func() { checks[i] = s.check(ctx) })
	}
	asking.Wait()
	if slices.ContainsFunc(checks, func(c health.Check) bool { return c.State != health.Failing }) {
		for i := range checks {
			checks[i] = atMostWarning(checks[i])
		}
	}
	return checks
}

func atMostWarning(c health.Check) health.Check {
	if c.State == health.Failing {
		c.State = health.Warning
	}
	return c
}

// check fails if nothing of the shard's nodes would be taken.
func (s *shard) check(ctx context.Context) health.Check {
	name := fmt.Sprintf("clickhouse shard %d", s.number)
	if err := s.takes(); err != nil {
		return health.Of(name, err)
	}
	if full := s.logCheck(); full.State == health.Failing {
		full.Name = name
		return full
	}
	if c := s.clickhouseCheck(ctx, name); c.State != health.OK {
		return c
	}
	return health.Warn(name, schemaCheck(ctx, s.store).Reason)
}

// clickhouseCheck warns of a ClickHouse that does not answer as long as there is a log: it takes the batches, and whoever
// sends agents elsewhere, where the same ClickHouse does not answer, only has them keep what could be here. Without a log
// nothing can be taken.
func (s *shard) clickhouseCheck(ctx context.Context, name string) health.Check {
	err := s.store.Ping(ctx)
	switch {
	case err == nil:
		return health.Check{Name: name, State: health.OK}
	case s.log == nil:
		return health.Of(name, err)
	default:
		return health.Warn(name, fmt.Sprintf("%v: batches are accepted into the log and stored once it answers; streams that are opened meanwhile wait for it", err))
	}
}

// schemaCheck warns of a database that a newer collector has changed: it works, for changes are additive, and this
// collector leaves the new columns empty. That it cannot be asked is the check of ClickHouse's business.
func schemaCheck(ctx context.Context, stored *store.Store) health.Check {
	version, err := stored.SchemaVersion(ctx)
	if err != nil || version <= schema.Version {
		return health.Warn("schema", "")
	}
	return health.Warn("schema", fmt.Sprintf("the database has version %d of the schema, and this collector knows %d: upgrade it", version, schema.Version))
}

// logCheck looks at the log that is filled most. Of several shards the agents of the others are to come here all the same;
// that none takes anything is their checks' business.
func (p *pipeline) logCheck() health.Check {
	worst := health.Warn("log", "")
	var most float64
	for _, s := range p.store.parts {
		if c, part := s.fill(); part > most {
			worst, most = c, part
		}
	}
	if len(p.store.parts) > 1 {
		return atMostWarning(worst)
	}
	return worst
}

func (s *shard) logCheck() health.Check {
	c, _ := s.fill()
	return c
}

// fill looks at the table whose part of the log is filled most: its batches are the first to be refused.
func (s *shard) fill() (worst health.Check, most float64) {
	worst = health.Warn("log", "")
	if s.log == nil {
		return worst, 0
	}
	for _, f := range s.log.Fills() {
		if part := float64(f.Used) / float64(max(f.Limit, 1)); part > most {
			most = part
			worst = health.Fill("log", "accepted batches of "+f.Table+s.name(), f.Used, f.Limit, "ClickHouse does not take the rows, or --log-bytes is too small")
		}
	}
	return worst, most
}

// quarantineCheck warns at the most: good batches need no quarantine.
func (p *pipeline) quarantineCheck() health.Check {
	used, limit := p.quarantine.Used()
	return atMostWarning(health.Fill("quarantine", "quarantine", used, limit, "look at it with gpufleet quarantine show, then replay or purge it"))
}
