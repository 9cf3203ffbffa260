// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gpufleet/gpufleet/bench/peers"
	"github.com/gpufleet/gpufleet/internal/loopback"
)

// measureOTel sends to an OpenTelemetry Collector for as long as it was given, and waits for what it took to land. Its
// answers are of what it got, so they are not held against the others'.
func (c *comparison) measureOTel(ctx context.Context) error {
	const name, database = "otelcol", "gpufleet_otel"
	s, err := startStore(ctx, filepath.Join(c.dir, name))
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.db.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return fmt.Errorf("make database: %w", err)
	}
	address, err := loopback.FreeAddress(ctx)
	if err != nil {
		return err
	}
	e := s.server.Writer()
	peer, err := peers.StartOTel(ctx, c.work.programs, filepath.Join(c.dir, name), address,
		peers.Store{Address: e.TCPAddress(), User: e.User, Password: e.Password, Database: database})
	if err != nil {
		return err
	}
	defer peer.Stop()
	c.m.Others[name] = peer.Version
	const fastest = 1_000_000 // samples a second that it could take at the most, for the memory of the requests
	most := int(c.work.otel.Seconds()*fastest) * len(c.batches()) / c.samples
	lines, err := c.requests(peers.OTLP, max(most, c.work.nodes))
	if err != nil {
		return err
	}
	processes := []process{{"peer", peer.PID()}, {"clickhouse", s.server.PID()}}
	given := sent{until: time.Now().Add(c.work.otel)}
	err = c.measureIngest(ctx, name, processes, func(ctx context.Context) (sent, error) {
		if err := given.send(ctx, lines, peer.Write); err != nil {
			return given, err
		}
		given.landing, err = awaitSamples(ctx, float64(given.samples), processes, func(ctx context.Context) (float64, error) {
			var n uint64
			err := s.db.QueryRow(ctx, "SELECT count() FROM "+database+"."+peers.OTelTable).Scan(&n)
			return float64(n), err
		})
		return given, err
	})
	if err != nil {
		return err
	}
	c.set(name, "samples_sent", float64(given.samples))
	c.set(name, "samples_landed", given.landing.samples)
	return c.askOTel(ctx, s, database, float64(given.samples)/float64(c.samples))
}

func (c *comparison) askOTel(ctx context.Context, s *store, database string, share float64) error {
	const name = "otelcol"
	if err := s.merge(ctx, database, peers.OTelTable); err != nil {
		return err
	}
	is, err := s.weigh(ctx, database, peers.OTelTable)
	if err != nil || is.rows == 0 {
		return errors.Join(errNothing, err)
	}
	c.set(name, "disk_bytes_per_sample", float64(is.bytes)/float64(is.rows))
	c.set(name, "query_share_of_data", share)
	for i, query := range []string{peers.OTelAverageByNode(askedAverage), peers.OTelHighestOfGPU(askedHighest, c.gpu)} {
		if _, err := c.ask(name, []string{"a", "b"}[i], func() ([]byte, error) { return s.ask(ctx, database, query) }); err != nil {
			return err
		}
	}
	return nil
}
