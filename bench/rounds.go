// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/agent/loadgen"
	"github.com/gpufleet/gpufleet/internal/token"
)

// rounds measures two things in turns, so that whatever else the machine does falls upon both: a collector that
// stores rows, and ClickHouse that takes the same rows without one.
type rounds struct {
	store     *store
	collector *collector
	key       token.Key
	through   spent
	ceilings  []*ceiling
}

// spent is what some rows took.
type spent struct {
	rows, seconds                    float64
	collector, clickhouse, generator float64 // CPU seconds
}

func (r *rounds) measure(ctx context.Context, loads []loadgen.Load, w work, figures map[string]float64) error {
	epoch := loads[0].Epoch
	if err := send(ctx, loads, r.collector, r.key); err != nil { // the first life, for the disk and the chunks
		return err
	}
	if err := measureDisk(ctx, r.store, figures); err != nil {
		return err
	}
	for _, format := range []string{"ArrowStream", "Native"} {
		c, err := prepareCeiling(ctx, r.store, format)
		if err != nil {
			return err
		}
		r.ceilings = append(r.ceilings, c)
	}
	for round := range w.rounds {
		var repeated []loadgen.Load
		for range w.repeats {
			epoch++
			for _, l := range loads {
				repeated = append(repeated, l.Again(epoch))
			}
		}
		profile := ""
		if round == w.rounds-1 {
			profile = w.profile
		}
		if err := r.measureCollector(ctx, repeated, profile); err != nil {
			return err
		}
		for _, c := range r.ceilings {
			if err := r.measureCeiling(ctx, c, w.repeats); err != nil {
				return err
			}
		}
	}
	return r.report(figures)
}

func (r *rounds) report(figures map[string]float64) error {
	t := r.through
	if t.rows == 0 || t.seconds == 0 || t.collector == 0 {
		return errNothing
	}
	for _, c := range r.ceilings {
		if c.rows == 0 || c.seconds == 0 || c.clickhouse == 0 {
			return errNothing
		}
		name := strings.ToLower(c.format)
		figures["clickhouse_"+name+"_rows_per_second"] = c.rows / c.seconds
		figures["clickhouse_"+name+"_rows_per_cpu_second"] = c.rows / c.clickhouse
		figures["clickhouse_rows_per_second"] = max(figures["clickhouse_rows_per_second"], c.rows/c.seconds)
	}
	figures["collector_rows_per_second"] = t.rows / t.seconds
	figures["collector_rows_per_second_per_core"] = t.rows / t.collector
	figures["collector_cpu_seconds"] = t.collector
	figures["collector_rss_mb"] = rssMegabytes(r.collector.pid())
	figures["clickhouse_cpu_seconds_behind_collector"] = t.clickhouse
	figures["generator_cpu_seconds"] = t.generator
	figures["rows_measured"] = t.rows
	figures["collector_ratio_to_clickhouse"] = figures["collector_rows_per_second"] / figures["clickhouse_rows_per_second"]
	return nil
}

// send has every agent send its load, and returns when all is stored.
func send(ctx context.Context, loads []loadgen.Load, to *collector, key token.Key) error {
	var group errgroup.Group
	for _, l := range loads {
		group.Go(func() error { return l.Send(ctx, to.address, key.For(l.Node)) })
	}
	return group.Wait()
}

// measureCollector adds what the loads took. The rate is that of nine tenths of the rows, from the first byte
// sent until they are in the ledger: the last unit waits for company that does not come any more.
func (r *rounds) measureCollector(ctx context.Context, loads []loadgen.Load, profile string) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	before, started := r.cpu(), time.Now()
	var group errgroup.Group
	group.Go(func() error { return send(ctx, loads, r.collector, r.key) })
	if profile != "" {
		group.Go(func() error { return r.collector.profile(ctx, profileSeconds, profile) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	after := r.cpu()
	var rows int64
	for _, l := range loads {
		rows += l.Rows
	}
	took, err := r.nineTenths(ctx, started, rows)
	if err != nil {
		return err
	}
	r.through.rows += float64(rows)
	r.through.seconds += took / 0.9
	r.through.collector += after.collector - before.collector
	r.through.clickhouse += after.clickhouse - before.clickhouse
	r.through.generator += after.generator - before.generator
	return nil
}

// profileSeconds is shorter than a round, so that a profile holds no idle time.
const profileSeconds = 3

func (r *rounds) cpu() spent {
	return spent{collector: cpuSeconds(r.collector.pid()), clickhouse: cpuSeconds(r.store.server.PID()), generator: cpuSeconds(os.Getpid())}
}

// nineTenths is how long after a moment nine tenths of the rows were in the ledger.
func (r *rounds) nineTenths(ctx context.Context, started time.Time, rows int64) (seconds float64, err error) {
	var at time.Time
	err = r.store.db.QueryRow(ctx, fmt.Sprintf(`SELECT min(recorded_at) FROM (
		SELECT recorded_at, sum(rows) OVER (ORDER BY recorded_at) AS so_far FROM (
			SELECT recorded_at, sum(rows) AS rows FROM ingest_ledger
			WHERE table_name = 'gpu_samples' AND recorded_at >= fromUnixTimestamp64Milli(%d) GROUP BY recorded_at)
		) WHERE so_far >= %d`, started.UnixMilli(), rows*9/10)).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("ask the ledger for the rate: %w", err)
	}
	if at.Before(started) {
		return 0, errNothing
	}
	return at.Sub(started).Seconds(), nil
}

// quiet waits until ClickHouse has merged what it wants to merge: that is not part of the next measurement.
func (r *rounds) quiet(ctx context.Context) error {
	for range 600 {
		var merges uint64
		if err := r.store.db.QueryRow(ctx, "SELECT count() FROM system.merges").Scan(&merges); err != nil {
			return fmt.Errorf("ask for merges: %w", err)
		}
		if merges == 0 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
