// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// maxKeys is how many batches one question names.
const maxKeys = 5000

// manyKeys are the settings of a question that names batches.
var manyKeys = clickhouse.Settings{"max_query_size": 64 << 20, "max_ast_elements": 1 << 20, "max_expanded_ast_elements": 1 << 20}

// landedRows is how many rows of batches are in the table.
type landedRows map[wire.Key]int64

// landed ends the insert if it still runs, and counts the rows of each of the unit's batches.
func (l *lane) landed(ctx context.Context, u *unit, id string) (landedRows, error) {
	if err := l.end(ctx, id); err != nil {
		return nil, err
	}
	return l.counted(ctx, u)
}

// counted counts the rows of each of the unit's batches.
func (l *lane) counted(ctx context.Context, u *unit) (landedRows, error) {
	landed := make(landedRows)
	for items := range slices.Chunk(u.items, maxKeys) {
		if err := l.count(ctx, u.part(items), landed); err != nil {
			return nil, fmt.Errorf("count what landed: %w", err)
		}
	}
	return landed, nil
}

// end ends a query that may still run, and waits until it has.
func (l *lane) end(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.QueryTimeout)
	defer cancel()
	if err := l.db.Exec(ctx, fmt.Sprintf("KILL QUERY WHERE query_id = '%s' SYNC", id)); err != nil {
		return fmt.Errorf("end insert %s: %w", id, err)
	}
	return nil
}

// count adds the rows of a unit's batches that are in the table. It asks for these batches alone, at
// their times: a table has far more of the same hour.
func (l *lane) count(ctx context.Context, u *unit, landed landedRows) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.QueryTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(manyKeys), clickhouse.WithParameters(clickhouse.Parameters{
		"from": strconv.FormatInt(u.from.UnixMilli(), 10), "to": strconv.FormatInt(u.to.UnixMilli(), 10),
	}))
	rows, err := l.db.Query(ctx, fmt.Sprintf(
		"SELECT node_id, epoch, seq, count() FROM `%s`.`%s` WHERE ts >= fromUnixTimestamp64Milli({from:Int64}) AND ts < fromUnixTimestamp64Milli({to:Int64} + 1) AND (node_id, epoch, seq) IN (%s) GROUP BY node_id, epoch, seq",
		l.db.name, u.table.Name, tuples(u.items)))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var count uint64
		k := wire.Key{Table: u.table.ID}
		if err := rows.Scan(&k.Node, &k.Epoch, &k.Sequence, &count); err != nil {
			return err
		}
		landed[k] = int64(count)
	}
	return rows.Err()
}

func tuples(items []Item) string {
	var b strings.Builder
	for n, i := range items {
		if n > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,%d,%d)", i.Key.Node, i.Key.Epoch, i.Key.Sequence)
	}
	return b.String()
}
