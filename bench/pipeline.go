// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
)

// measurePipeline sends the loads through a collector in a process of its own into the embedded
// ClickHouse, then has ClickHouse take the same rows without one.
func measurePipeline(ctx context.Context, dir string, loads []loadgen.Load, faults int, lasts time.Duration, figures map[string]float64) (version string, err error) {
	server, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "clickhouse")})
	if err != nil {
		return "", err
	}
	defer server.Close() //nolint:errcheck // its data goes with the directory
	db, err := connect(server.Writer())
	if err != nil {
		return "", err
	}
	defer db.Close() //nolint:errcheck // nothing is under way
	key := token.NewKey()
	c, err := startCollector(ctx, dir, server.Writer(), key)
	if err != nil {
		return "", err
	}
	if err := measureCollector(ctx, c, server.PID(), loads, key, figures); err != nil {
		return "", err
	}
	if err := measureAgent(ctx, c, key, lasts, figures); err != nil {
		return "", err
	}
	if err := measureFaults(ctx, dir, db, c, key, faults, figures); err != nil {
		return "", err
	}
	if err := c.stop(); err != nil {
		return "", err
	}
	if err := measureDisk(ctx, db, figures); err != nil {
		return "", err
	}
	return server.Version(), measureCeiling(ctx, db, server.PID(), figures)
}

func connect(e embedded.Endpoint) (driver.Conn, error) {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{e.HTTPAddress()}, Protocol: clickhouse.HTTP, ReadTimeout: 5 * time.Minute,
		Auth: clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	return conn, nil
}

// measureCollector is the time from the first byte sent until the last batch is answered as stored.
func measureCollector(ctx context.Context, c *collector, clickhousePID int, loads []loadgen.Load, key token.Key, figures map[string]float64) error {
	var rows int64
	collectorBefore, clickhouseBefore := cpuSeconds(c.pid()), cpuSeconds(clickhousePID)
	started := time.Now()
	var group errgroup.Group
	for _, l := range loads {
		rows += l.Rows
		group.Go(func() error { return l.Send(ctx, c.address, key.For(l.Node)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(started).Seconds()
	collectorCPU, clickhouseCPU := cpuSeconds(c.pid())-collectorBefore, cpuSeconds(clickhousePID)-clickhouseBefore
	if rows == 0 || collectorCPU <= 0 {
		return errNothing
	}
	figures["collector_rows_per_second"] = float64(rows) / took
	figures["collector_rows_per_second_per_core"] = float64(rows) / collectorCPU
	figures["collector_cpu_seconds"] = collectorCPU
	figures["collector_rss_mb"] = rssMegabytes(c.pid())
	figures["clickhouse_cpu_seconds_behind_collector"] = clickhouseCPU
	return nil
}

// measureDisk has all merges done first: what a row takes in the end.
func measureDisk(ctx context.Context, db driver.Conn, figures map[string]float64) error {
	if err := db.Exec(ctx, "OPTIMIZE TABLE gpu_samples FINAL"); err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	var bytesOnDisk, rows uint64
	row := db.QueryRow(ctx, "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'gpu_samples' AND active")
	if err := row.Scan(&bytesOnDisk, &rows); err != nil {
		return fmt.Errorf("ask for the size on disk: %w", err)
	}
	if rows == 0 {
		return errNothing
	}
	table, _ := schema.TableByID(schema.SamplesID)
	figures["disk_bytes_per_row"] = float64(bytesOnDisk) / float64(rows)
	figures["disk_bytes_per_value"] = figures["disk_bytes_per_row"] / float64(len(table.Columns))
	return nil
}

// ceilingChunks is how many inserts the ceiling is made of: about 100,000 rows each at full size.
const ceilingChunks = 3

// measureCeiling reads the rows back as Arrow streams and inserts these into an empty table of the
// same definition: what ClickHouse takes when nobody checks, joins or stamps anything.
func measureCeiling(ctx context.Context, db driver.Conn, pid int, figures map[string]float64) error {
	if err := db.Exec(ctx, "CREATE TABLE ceiling AS gpu_samples"); err != nil {
		return fmt.Errorf("make table for the ceiling: %w", err)
	}
	var chunks [][]byte
	for i := range ceilingChunks {
		stream, err := db.QueryFormat(ctx, "ArrowStream", fmt.Sprintf("SELECT * FROM gpu_samples WHERE node_id %% %d = %d", ceilingChunks, i))
		if err != nil {
			return fmt.Errorf("read the rows back: %w", err)
		}
		content, err := io.ReadAll(stream)
		if err != nil {
			return fmt.Errorf("read the rows back: %w", err)
		}
		if err := stream.Close(); err != nil {
			return fmt.Errorf("read the rows back: %w", err)
		}
		chunks = append(chunks, content)
	}
	cpuBefore, started := cpuSeconds(pid), time.Now()
	for _, content := range chunks {
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0}))
		if err := db.InsertFormat(ctx, "ArrowStream", "INSERT INTO ceiling", bytes.NewReader(content)); err != nil {
			return fmt.Errorf("insert for the ceiling: %w", err)
		}
	}
	took := time.Since(started).Seconds()
	var rows uint64
	if err := db.QueryRow(ctx, "SELECT count() FROM ceiling").Scan(&rows); err != nil {
		return fmt.Errorf("count rows of the ceiling: %w", err)
	}
	if rows == 0 {
		return errNothing
	}
	figures["clickhouse_rows_per_second"] = float64(rows) / took
	figures["clickhouse_rows_per_cpu_second"] = float64(rows) / (cpuSeconds(pid) - cpuBefore)
	figures["collector_ratio_to_clickhouse"] = figures["collector_rows_per_second"] / figures["clickhouse_rows_per_second"]
	return nil
}
