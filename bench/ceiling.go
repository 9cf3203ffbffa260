// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// ceiling is one life's rows in a format of ClickHouse's own making, to be inserted when nobody checks, joins or
// stamps anything.
type ceiling struct {
	format  string
	chunks  [][]byte
	inserts int // so far
	spent
}

// ceilingChunks is how many inserts one life's rows are: about 100,000 rows each at full size.
const ceilingChunks = 3

// prepareCeiling reads one life's rows back, and makes an empty table of the same definition.
func prepareCeiling(ctx context.Context, s *store, format string) (*ceiling, error) {
	c := &ceiling{format: format}
	if err := s.db.Exec(ctx, "CREATE TABLE IF NOT EXISTS ceiling AS gpu_samples"); err != nil {
		return nil, fmt.Errorf("make table for the ceiling: %w", err)
	}
	for i := range ceilingChunks {
		content, err := s.ask(ctx, embedded.Database, fmt.Sprintf("SELECT * FROM gpu_samples WHERE node_id %% %d = %d FORMAT %s", ceilingChunks, i, format))
		if err != nil {
			return nil, fmt.Errorf("read the rows back as %s: %w", format, err)
		}
		c.chunks = append(c.chunks, content)
	}
	return c, nil
}

// measureCeiling adds what ClickHouse takes for the rows.
func (r *rounds) measureCeiling(ctx context.Context, c *ceiling, repeats int) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	before, started := r.cpu(), time.Now()
	if err := r.insertCeiling(ctx, c, repeats); err != nil {
		return err
	}
	took, after := time.Since(started).Seconds(), r.cpu()
	var rows uint64
	if err := r.store.db.QueryRow(ctx, "SELECT count() FROM ceiling").Scan(&rows); err != nil {
		return fmt.Errorf("count rows of the ceiling: %w", err)
	}
	c.rows += float64(rows)
	c.seconds += took
	c.clickhouse += after.clickhouse - before.clickhouse
	if err := r.store.db.Exec(ctx, "TRUNCATE TABLE ceiling"); err != nil {
		return fmt.Errorf("empty the ceiling: %w", err)
	}
	return nil
}

// insertCeiling inserts all chunks so many times.
func (r *rounds) insertCeiling(ctx context.Context, c *ceiling, repeats int) error {
	for range repeats {
		for _, content := range c.chunks {
			c.inserts++ // the same bytes are no repetition under another token
			settings := clickhouse.Settings{"async_insert": 0, "insert_deduplication_token": c.format + strconv.Itoa(c.inserts)}
			inserting := clickhouse.Context(ctx, clickhouse.WithSettings(settings))
			if err := r.store.db.InsertFormat(inserting, c.format, "INSERT INTO ceiling", bytes.NewReader(content)); err != nil {
				return fmt.Errorf("insert for the ceiling as %s: %w", c.format, err)
			}
		}
	}
	return nil
}
