// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// prepare waits for ClickHouse, applies the schema, ends the inserts of an earlier process of this
// name, and enters into the ledger what it stored without recording it.
func (s *Store) prepare(ctx context.Context) error {
	var wait time.Duration
	for {
		err := s.Ping(ctx)
		if err == nil {
			break
		}
		if final(err) {
			return fmt.Errorf("connect to ClickHouse %s as %s: %w", s.cfg.Endpoint.Address, s.cfg.Endpoint.User, err)
		}
		wait = min(max(wait*2, s.cfg.RetryWait), s.cfg.MaxRetryWait)
		s.cfg.Logger.Warn("ClickHouse does not answer; trying again", "address", s.cfg.Endpoint.Address, "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to ClickHouse %s: %w", s.cfg.Endpoint.Address, err)
		case <-time.After(wait):
		}
	}
	if err := schema.Migrate(ctx, s.db, s.db.name, s.cfg.Program); err != nil {
		return err
	}
	if err := s.db.Exec(ctx, fmt.Sprintf("KILL QUERY WHERE startsWith(query_id, '%s') SYNC", s.prefix())); err != nil {
		return fmt.Errorf("end inserts of an earlier collector %s: %w", s.cfg.Name, err)
	}
	for _, t := range schema.Tables() {
		if err := s.reconcile(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// margin is how far before its last entry in the ledger a collector looks for inserts that it did not
// record: entries follow their insert at once.
const margin = 10 * time.Minute

// reconcile enters batches into the ledger whose rows are in the table and which it does not have: a
// collector that died between the two. Only parts that were written since its last entry can hold
// such rows.
func (s *Store) reconcile(ctx context.Context, t schema.Table) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"database": s.db.name, "table": t.Name, "collector": s.cfg.Name, "margin": fmt.Sprint(int(margin.Seconds())),
	}))
	err := s.db.Exec(ctx, fmt.Sprintf(`INSERT INTO %[1]s.ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, reason, unit, collector)
SELECT now64(3), {table:String}, node_id, epoch, seq, count(), 'stored', '', 'reconciled', {collector:String}
FROM %[1]s.%[2]s
WHERE _part IN (
    SELECT name FROM system.parts
    WHERE database = {database:String} AND table = {table:String} AND active AND modification_time >= (
        SELECT max(recorded_at) FROM %[1]s.ingest_ledger WHERE table_name = {table:String} AND collector = {collector:String}
    ) - INTERVAL {margin:UInt32} SECOND)
  AND (node_id, epoch, seq) NOT IN (SELECT node_id, epoch, seq FROM %[1]s.ingest_ledger WHERE table_name = {table:String} AND state = 'stored')
GROUP BY node_id, epoch, seq`, "`"+s.db.name+"`", "`"+t.Name+"`"))
	if err != nil {
		return fmt.Errorf("reconcile %s with the ledger: %w", t.Name, err)
	}
	return nil
}
