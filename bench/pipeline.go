// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
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
	s, err := startStore(ctx, dir)
	if err != nil {
		return "", err
	}
	defer s.close()
	key := token.NewKey()
	c, err := startCollector(ctx, dir, s.server.Writer(), key)
	if err != nil {
		return "", err
	}
	r := &rounds{store: s, collector: c, key: key}
	if err := r.measure(ctx, loads, w, figures); err != nil {
		return "", err
	}
	if err := measureAgents(ctx, c, key, w.agent, figures); err != nil {
		return "", err
	}
	if err := measureFaults(ctx, dir, s.db, c, key, w.faults, figures); err != nil {
		return "", err
	}
	return s.server.Version(), c.stop()
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
func measureDisk(ctx context.Context, s *store, figures map[string]float64) error {
	if err := s.merge(ctx, embedded.Database, samplesTable); err != nil {
		return err
	}
	is, err := s.weigh(ctx, embedded.Database, samplesTable)
	if err != nil || is.rows == 0 {
		return errors.Join(errNothing, err)
	}
	table, _ := schema.TableByID(schema.SamplesID)
	figures["disk_bytes_per_row"] = float64(is.bytes) / float64(is.rows)
	figures["disk_bytes_per_value"] = figures["disk_bytes_per_row"] / float64(len(table.Columns))
	return nil
}
