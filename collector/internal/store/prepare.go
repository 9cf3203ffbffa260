// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// prepare waits for ClickHouse, applies the schema, takes the name, ends the inserts of an earlier process of this
// name, and enters into the ledger what it stored without recording it.
func (s *Store) prepare(ctx context.Context) error {
	var wait time.Duration
	for {
		err := s.Ping(ctx)
		if err == nil {
			break
		}
		if final(err) {
			return err
		}
		wait = min(max(wait*2, s.cfg.RetryWait), s.cfg.MaxRetryWait)
		s.cfg.Logger.Warn("ClickHouse does not answer; trying again", "address", s.cfg.Endpoint.Address, "retry_in", wait, "error", err)
		if !sleep(ctx, wait) {
			return fmt.Errorf("wait for ClickHouse %s: %w", s.cfg.Endpoint.Address, err)
		}
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	if err := s.register(ctx); err != nil {
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

// maxLookBack bounds the age of the rows that are looked at: what the ledger has forgotten must not be
// entered again as if it were of today.
var maxLookBack = time.Duration(schema.LedgerTable().TTLDays-1) * 24 * time.Hour

// sliceRows is how many rows are looked at in one query, about.
const sliceRows = 20_000_000

// reconcile enters batches into the ledger whose rows are in the table and which it does not have: a
// collector that died between the two. Only parts that were written since its last entry can hold
// such rows; the entries that are made here do not count as its last one: where this was cut short, the rest is still to be
// found. Parts may be large, for ClickHouse merges them: so they are looked at by slices of nodes, and of the ledger only
// the batches that were found in them is read.
func (s *Store) reconcile(ctx context.Context, t schema.Table) error {
	parameters := clickhouse.Parameters{
		"database": s.db.name, "table": t.Name, "collector": s.cfg.Name, "margin": strconv.Itoa(int(margin.Seconds())),
		"reconciled": schema.ReconciledUnit,
		"age":        strconv.Itoa(int(min(s.cfg.MaxAge+24*time.Hour, maxLookBack).Seconds())),
	}
	recent := fmt.Sprintf(`FROM system.parts
    WHERE database = {database:String} AND table = {table:String} AND active AND modification_time >= (
        SELECT max(recorded_at) FROM %s.ingest_ledger WHERE table_name = {table:String} AND collector = {collector:String} AND unit != {reconciled:String}
    ) - INTERVAL {margin:UInt32} SECOND`, "`"+s.db.name+"`")
	var rows uint64
	asking := clickhouse.Context(ctx, clickhouse.WithParameters(parameters))
	if err := s.db.QueryRow(asking, "SELECT sum(rows) "+recent).Scan(&rows); err != nil {
		return fmt.Errorf("reconcile %s with the ledger: %w", t.Name, err)
	}
	slices := (rows + sliceRows - 1) / sliceRows
	parameters["slices"] = strconv.FormatUint(slices, 10)
	for slice := range slices {
		parameters["slice"] = strconv.FormatUint(slice, 10)
		asking := clickhouse.Context(ctx, clickhouse.WithParameters(maps.Clone(parameters)))
		if err := s.db.Exec(asking, s.reconcileSlice(t, recent)); err != nil {
			return fmt.Errorf("reconcile %s with the ledger: %w", t.Name, err)
		}
	}
	return nil
}

// reconcileSlice is the statement for the batches of some nodes.
func (s *Store) reconcileSlice(t schema.Table, recent string) string {
	return fmt.Sprintf(`INSERT INTO %[1]s.ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, reason, unit, collector)
WITH found AS (
    SELECT node_id, epoch, seq, count() AS found_rows FROM %[1]s.%[2]s
    WHERE _part IN (SELECT name %[3]s)
      AND ts >= now64(3) - INTERVAL {age:UInt32} SECOND AND node_id %% {slices:UInt64} = {slice:UInt64}
    GROUP BY node_id, epoch, seq)
SELECT now64(3), {table:String}, node_id, epoch, seq, found_rows, 'stored', '', {reconciled:String}, {collector:String}
FROM found
WHERE (node_id, epoch, seq) NOT IN (
    SELECT node_id, epoch, seq FROM %[1]s.ingest_ledger
    WHERE table_name = {table:String} AND state = 'stored' AND (node_id, epoch, seq) IN (SELECT node_id, epoch, seq FROM found))`,
		"`"+s.db.name+"`", "`"+t.Name+"`", recent)
}
