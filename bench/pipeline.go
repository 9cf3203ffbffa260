// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
)

// measurePipeline sends the loads through a collector in a process of its own into the embedded
// ClickHouse, in turns with having ClickHouse take the same rows without one.
func measurePipeline(ctx context.Context, dir string, loads []loadgen.Load, w work, figures map[string]float64) (version string, err error) {
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
	r := &rounds{db: db, collector: c, clickhouse: server.PID(), endpoint: server.Writer(), key: key}
	if err := r.measure(ctx, loads, w, figures); err != nil {
		return "", err
	}
	if err := measureAgents(ctx, c, key, w.agent, figures); err != nil {
		return "", err
	}
	if err := measureFaults(ctx, dir, db, c, key, w.faults, figures); err != nil {
		return "", err
	}
	return server.Version(), c.stop()
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
