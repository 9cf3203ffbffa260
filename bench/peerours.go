// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/bench/peers"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/token"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// measureOurs sends the batches through a collector, and then has ClickHouse take the same rows without one.
func (c *comparison) measureOurs(ctx context.Context) error {
	const name = "gpufleet"
	s, err := startStore(ctx, filepath.Join(c.dir, name))
	if err != nil {
		return err
	}
	defer s.close()
	c.m.ClickHouse = s.server.Version()
	key := token.NewKey()
	collecting, err := startCollector(ctx, filepath.Join(c.dir, name), s.server.Writer(), key)
	if err != nil {
		return err
	}
	ours, loads := sent{rows: c.rows, samples: c.samples}, c.samplesAlone()
	for _, l := range loads {
		for _, b := range l.Batches {
			ours.bytes += b.Bytes()
		}
	}
	err = c.measureIngest(ctx, name, []process{{"collector", collecting.pid()}, {"clickhouse", s.server.PID()}}, func(ctx context.Context) (sent, error) {
		return ours, send(ctx, loads, collecting, key)
	})
	rolled := false
	if err == nil {
		rolled, err = c.rollUp(ctx, s, collecting)
	}
	if err := errors.Join(err, collecting.stop()); err != nil {
		return err
	}
	if err := c.weighOurs(ctx, s); err != nil {
		return err
	}
	if err := c.askOurs(ctx, s, rolled); err != nil {
		return err
	}
	return c.measurePlain(ctx, s)
}

// samplesAlone are the loads without the other tables, which peers do not get either.
func (c *comparison) samplesAlone() []loadgen.Load {
	var loads []loadgen.Load
	for _, l := range c.loads {
		l.Batches = onlySamples(l.Batches)
		loads = append(loads, l)
	}
	return loads
}

func onlySamples(batches []*wire.Batch) []*wire.Batch {
	var of []*wire.Batch
	for _, b := range batches {
		if b.Identity.Table == schema.SamplesID {
			of = append(of, b)
		}
	}
	return of
}

func (c *comparison) weighOurs(ctx context.Context, s *store) error {
	const name = "gpufleet"
	if err := s.merge(ctx, embedded.Database, samplesTable); err != nil {
		return err
	}
	samples, err := s.weigh(ctx, embedded.Database, samplesTable)
	if err != nil {
		return err
	}
	all, err := s.weigh(ctx, embedded.Database, "") // the ledger, rollups and what else there is
	if err != nil {
		return err
	}
	c.set(name, "samples_sent", float64(c.samples))
	c.set(name, "samples_landed", float64(c.samples)*float64(samples.rows)/float64(c.rows))
	c.set(name, "disk_bytes_per_sample", float64(all.bytes)/float64(c.samples))
	c.set(name, "disk_bytes_per_sample_raw", float64(samples.bytes)/float64(c.samples))
	c.set(name, "disk_bytes_per_row_raw", float64(samples.bytes)/float64(c.rows))
	if int(samples.rows) != c.rows {
		return fmt.Errorf("%d rows of %d are stored", samples.rows, c.rows)
	}
	return nil
}

// keep has ClickHouse give the answer that it gave to the same question within this time.
const keep = " SETTINGS use_query_cache = 1, query_cache_ttl = 60"

// askOurs asks both questions of the samples, and (a) of the rollup by minutes, if there is one: that is the answer that
// people get then. Both once more with answers that are kept, as the peer keeps its own. Of nothing, too: what a question
// takes of which nothing has to be read.
func (c *comparison) askOurs(ctx context.Context, s *store, rolled bool) error {
	const name = "gpufleet"
	span := fmt.Sprintf("ts >= fromUnixTimestamp(%d) AND ts < fromUnixTimestamp(%d)", c.span.Start.Unix(), c.span.End.Unix())
	highest := fmt.Sprintf("SELECT toUnixTimestamp(toStartOfInterval(ts, INTERVAL 10 SECOND)) AS t, max(%s) FROM gpu_samples WHERE gpu_id = %d AND %s GROUP BY t ORDER BY t", askedHighest, c.gpu, span)
	ofSamples := fmt.Sprintf("SELECT node_id, toUnixTimestamp(toStartOfMinute(ts)) AS minute, avg(%s) FROM gpu_samples WHERE %s GROUP BY node_id, minute", askedAverage, span)
	average := ofSamples
	if rolled {
		average = fmt.Sprintf("SELECT node_id, toUnixTimestamp(ts) AS minute, sum(%s_sum) / sum(%s) FROM %s FINAL WHERE %s GROUP BY node_id, minute",
			askedAverage, strings.TrimSuffix(askedAverage, "_watts")+"_readings", rollupTable, span)
	}
	asked := []struct{ question, query string }{
		{"a", average}, {"b", highest}, {"a_of_samples", ofSamples}, {"a_kept", average + keep}, {"b_kept", highest + keep}, {"nothing", "SELECT 0, 0"},
	}
	answers := make([]peers.Answer, len(asked))
	for i, asked := range asked {
		text, err := c.ask(name, asked.question, func() ([]byte, error) { return s.ask(ctx, embedded.Database, asked.query) })
		if err != nil {
			return err
		}
		if answers[i], err = peers.ParseTSV(text); err != nil {
			return err
		}
	}
	for other, same := range map[int]int{2: 0, 3: 0, 4: 1} {
		if err := answers[same].Same(answers[other]); err != nil {
			return fmt.Errorf("the answers to %s and %s differ: %w", asked[same].question, asked[other].question, err)
		}
	}
	c.answers[name] = [2]peers.Answer{answers[0], answers[1]}
	return nil
}

const (
	rollupTable = "gpu_samples_1m"
	// rolledWithin is how long the rollup may take. What is sent here is late, and hours with late samples are looked at
	// every few minutes.
	rolledWithin = 20 * time.Minute
)

// rollUp waits until the collector has made the rollup by minutes of all samples, and notes what it took: the other
// pipelines have none. It is false if this version makes none.
func (c *comparison) rollUp(ctx context.Context, s *store, by *collector) (bool, error) {
	var exists uint8
	if err := s.db.QueryRow(ctx, "EXISTS TABLE "+rollupTable).Scan(&exists); err != nil || exists == 0 {
		return false, err
	}
	cpu := func() float64 { return cpuSeconds(by.pid()) + cpuSeconds(s.server.PID()) }
	before, started := cpu(), time.Now()
	for said := started; ; {
		var got uint64
		if err := s.db.QueryRow(ctx, "SELECT toUInt64(sum(rows)) FROM "+rollupTable+" FINAL").Scan(&got); err != nil {
			return false, fmt.Errorf("count samples in the rollup: %w", err)
		}
		switch {
		case int(got) >= c.rows:
			c.set("gpufleet", "rollup_cpu_seconds", cpu()-before)
			return true, nil
		case time.Since(started) > rolledWithin:
			return false, fmt.Errorf("the rollup has %d samples of %d after %s: %w", got, c.rows, rolledWithin, errNothing)
		case time.Since(said) > sayEvery*time.Second:
			said = time.Now()
			fmt.Fprintf(os.Stderr, "%4.0f s: %d of %d rows are rolled up\n", time.Since(started).Seconds(), got, c.rows)
		}
		if err := pause(ctx, time.Second); err != nil {
			return false, err
		}
	}
}

// measurePlain is what ClickHouse takes of the same rows in the faster of its formats, when nobody checks them.
func (c *comparison) measurePlain(ctx context.Context, s *store) error {
	plain, err := prepareCeiling(ctx, s, "ArrowStream")
	if err != nil {
		return err
	}
	bytes := 0
	for _, chunk := range plain.chunks {
		bytes += len(chunk)
	}
	r := &rounds{store: s}
	return c.measureIngest(ctx, "clickhouse", []process{{"clickhouse", s.server.PID()}}, func(ctx context.Context) (sent, error) {
		err := r.insertCeiling(ctx, plain, 1)
		return sent{rows: c.rows, samples: c.samples, bytes: bytes}, err
	})
}
