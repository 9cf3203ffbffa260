// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// All that is asked of ClickHouse for claims is in this file. It must hold of each answer that what was written before the
// question was asked, by anybody, is in it: a server that keeps the table itself answers so.

// claimRow is a row of collector_claims. An over of zero ends nothing.
type claimRow struct {
	life
	claim
	over claim
}

// asWritten are the settings of an insert of rows that may be there already, and are written again all the same. It waits for
// the insert itself.
var asWritten = clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}

// gone is the question for the lives of which this process's claims of a tenure are over.
func (s *Store) gone(t schema.Table, tenure uint32) string {
	return fmt.Sprintf("SELECT DISTINCT node_id, epoch FROM `%s`.collector_claims WHERE over_instance = %d AND table_name = '%s' AND over_tenure = %d",
		s.db.name, s.instance, t.Name, tenure)
}

// over is the condition, for the rows of an insert, that the claim under which they are inserted is over. ClickHouse looks
// it up after it has entered the insert into system.processes, and before it takes a row.
func (s *Store) over(t schema.Table, tenure uint32) string {
	return "(node_id, epoch) IN (" + s.gone(t, tenure) + ")"
}

// claimsOf reads all that was ever written of some lives.
func (s *Store) claimsOf(ctx context.Context, lives map[life]bool) (map[life]*claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	found := make(map[life]*claimed, len(lives))
	var keys strings.Builder
	for l := range lives {
		found[l] = &claimed{over: make(map[claim]bool), names: make(map[claim]string)}
		if keys.Len() > 0 {
			keys.WriteByte(',')
		}
		fmt.Fprintf(&keys, "('%s',%d,%d)", schema.TableName(l.table), l.node, l.epoch)
	}
	rows, err := s.db.Query(clickhouse.Context(ctx, clickhouse.WithSettings(manyKeys)), fmt.Sprintf(
		"SELECT table_name, node_id, epoch, instance, tenure, over_instance, over_tenure, collector FROM `%s`.collector_claims WHERE (table_name, node_id, epoch) IN (%s)",
		s.db.name, keys.String()))
	if err != nil {
		return nil, fmt.Errorf("ask who has the agents: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var r claimRow
		var table, name string
		if err := rows.Scan(&table, &r.node, &r.epoch, &r.instance, &r.tenure, &r.over.instance, &r.over.tenure, &name); err != nil {
			return nil, fmt.Errorf("ask who has the agents: %w", err)
		}
		t, _ := schema.TableByName(table)
		r.life.table = t.ID
		found[r.life].add(r, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ask who has the agents: %w", err)
	}
	return found, nil
}

// add notes a row. One that says that a claim is over may be there before the claim's own.
func (c *claimed) add(r claimRow, name string) {
	for _, one := range []claim{r.claim, r.over} {
		if _, known := c.names[one]; !known && one != (claim{}) {
			c.claims = append(c.claims, one)
			c.names[one] = ""
		}
	}
	c.names[r.claim] = name
	if r.over != (claim{}) {
		c.over[r.over] = true
	}
}

// writeClaims writes rows. Writing the same ones twice, or late, is harmless: a claim that is over stays so.
func (s *Store) writeClaims(ctx context.Context, rows []claimRow) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	var values strings.Builder
	for n, r := range rows {
		if n > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "(%d,%d,'%s',%d,%d,%d,%d)", r.over.instance, r.over.tenure, schema.TableName(r.table), r.node, r.epoch, r.instance, r.tenure)
	}
	statement := fmt.Sprintf(`%s
SELECT now64(3), over_instance, over_tenure, table_name, node_id, epoch, instance, tenure, '%s'
FROM values('over_instance UInt64, over_tenure UInt32, table_name String, node_id UInt64, epoch UInt64, instance UInt64, tenure UInt32', %s)`,
		schema.ClaimsTable().InsertStatement(s.db.name), s.cfg.Name, values.String())
	settings := maps.Clone(asWritten)
	maps.Copy(settings, manyKeys)
	if err := s.db.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), statement); err != nil {
		return fmt.Errorf("claim %d agents' lives: %w", len(rows), err)
	}
	return nil
}

// renewAfterDays is how old a claim's newest row may become. It is far from the retention, for ClickHouse may be away.
const renewAfterDays = 20

// renewClaims writes those of this process's claims that are not over, and have not been written for long, once more.
func (s *Store) renewClaims(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	statement := fmt.Sprintf(`%[4]s
SELECT now64(3), 0, 0, table_name, node_id, epoch, instance, tenure, any(collector)
FROM %[1]s WHERE instance = %[2]d AND (table_name, node_id, epoch, tenure) NOT IN (SELECT table_name, node_id, epoch, over_tenure FROM %[1]s WHERE over_instance = %[2]d)
GROUP BY table_name, node_id, epoch, instance, tenure HAVING max(claimed_at) < now64(3) - INTERVAL %[3]d DAY`,
		"`"+s.db.name+"`.collector_claims", s.instance, renewAfterDays, schema.ClaimsTable().InsertStatement(s.db.name))
	if err := s.db.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(asWritten)), statement); err != nil {
		return fmt.Errorf("renew claims: %w", err)
	}
	return nil
}

// lost lists the lives of which this process's claims of a tenure are over.
func (s *Store) lost(ctx context.Context, t schema.Table, tenure uint32) (map[life]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	rows, err := s.db.Query(ctx, s.gone(t, tenure))
	if err != nil {
		return nil, fmt.Errorf("ask which agents have gone: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	lost := make(map[life]bool)
	for rows.Next() {
		l := life{table: t.ID}
		if err := rows.Scan(&l.node, &l.epoch); err != nil {
			return nil, fmt.Errorf("ask which agents have gone: %w", err)
		}
		lost[l] = true
	}
	return lost, rows.Err()
}

// runningInserts lists the query ids of inserts that run now.
func (s *Store) runningInserts(ctx context.Context, of map[inserts]bool) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	rows, err := s.db.Query(ctx, "SELECT query_id FROM system.processes WHERE startsWith(query_id, 'gpufleet/')")
	if err != nil {
		return nil, fmt.Errorf("ask which inserts run: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("ask which inserts run: %w", err)
		}
		if i, ok := parseQueryID(id); ok && of[i] {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// endAll ends queries, and waits until they have.
func (s *Store) endAll(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	if err := s.db.Exec(ctx, "KILL QUERY WHERE query_id IN ('"+strings.Join(ids, "','")+"') SYNC"); err != nil {
		return fmt.Errorf("end inserts of a collector that has lost its agents: %w", err)
	}
	return nil
}

// codeThrown is ClickHouse's error code of a throwIf that has thrown (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO).
const codeThrown = 395

// isMoved tells that ClickHouse found a claim of an insert to be over.
func isMoved(err error) bool {
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	return ok && exception.Code == codeThrown && strings.Contains(exception.Message, movedMark)
}
