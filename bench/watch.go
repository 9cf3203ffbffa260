// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// watched is the most that was seen while a fleet ran.
type watched struct {
	parts                            uint64
	collector, clickhouse, generator float64 // MB resident
}

// watch looks each second, and says now and then how it goes, until the context ends.
func (r *fleetRun) watch(ctx context.Context) error {
	for second := 1; pause(ctx, watchEvery) == nil; second++ {
		m := &r.most
		m.collector = max(m.collector, rssMegabytes(r.collector.pid()))
		m.clickhouse = max(m.clickhouse, rssMegabytes(r.store.server.PID()))
		m.generator = max(m.generator, rssMegabytes(os.Getpid()))
		if second%5 != 0 {
			continue
		}
		is, err := r.store.weigh(ctx, embedded.Database, samplesTable)
		if err != nil && ctx.Err() == nil {
			return err
		}
		m.parts = max(m.parts, is.parts)
		if s := r.fleet.Stats(); second%sayEvery == 0 {
			fmt.Fprintf(os.Stderr, "%4d s: %d batches sent, %d stored, %d GPU rows, %d parts, stored within %s (p99)\n",
				second, s.Batches, s.Stored, s.Rows, is.parts, s.Waits.Quantile(0.99).Round(time.Millisecond))
		}
	}
	return nil
}

// report is what the run took.
func (r *fleetRun) report(seconds float64, before, after spent, figures map[string]float64, prefix string) {
	s := r.fleet.Stats()
	set := func(name string, value float64) { figures[prefix+name] = value }
	set("seconds", seconds)
	set("rows_sent", float64(s.Rows))
	set("rows_stored_per_second", float64(s.Rows)/seconds)
	set("batches_rejected", float64(s.Rejected))
	set("batches_retried", float64(s.Retried))
	set("wire_megabytes_per_second", float64(s.Bytes)/seconds/1e6)
	cpu := spent{collector: after.collector - before.collector, clickhouse: after.clickhouse - before.clickhouse, generator: after.generator - before.generator}
	set("collector_cores", cpu.collector/seconds)
	set("clickhouse_cores", cpu.clickhouse/seconds)
	set("generator_cores", cpu.generator/seconds)
	set("generator_cpu_share", cpu.generator/(cpu.collector+cpu.clickhouse+cpu.generator))
	set("parts_most", float64(r.most.parts))
	set("collector_rss_mb", r.most.collector)
	set("clickhouse_rss_mb", r.most.clickhouse)
	set("generator_rss_mb", r.most.generator)
}

// reportWaits is how long batches and rows waited. Freshness is the age of a row when it is stored: with batches of ten
// seconds, a row is up to ten seconds old before it is sent, and five and a half on the average. A backlog has waited
// since long before it was sent, and longer than loadgen.Waits tells apart: of it this would say nothing.
func (r *fleetRun) reportWaits(figures map[string]float64, prefix string) {
	s := r.fleet.Stats()
	set := func(name string, value time.Duration) { figures[prefix+name] = float64(value.Milliseconds()) }
	set("stored_within_p50_ms", s.Waits.Quantile(0.5))
	set("stored_within_p99_ms", s.Waits.Quantile(0.99))
	set("freshness_p50_ms", s.Freshness.Quantile(0.5))
	set("freshness_p99_ms", s.Freshness.Quantile(0.99))
	set("generator_late_p99_ms", s.Late.Quantile(0.99))
}

// count holds what is in the table against the ledger, batch by batch, and against what was sent: a batch that is not
// whole has lost rows, one with more rows than it was sent with has some twice.
func (r *fleetRun) count(ctx context.Context, figures map[string]float64, prefix string) error {
	s := r.fleet.Stats()
	var stored, whole uint64
	err := r.store.db.QueryRow(ctx, `SELECT sum(n), sum(least(n, expected)) FROM (
			SELECT node_id, epoch, seq, count() AS n FROM gpu_samples GROUP BY node_id, epoch, seq) AS came
		INNER JOIN (
			SELECT node_id, epoch, seq, any(rows) AS expected FROM ingest_ledger
			WHERE table_name = 'gpu_samples' AND state = 'stored' GROUP BY node_id, epoch, seq) AS said
		USING (node_id, epoch, seq)`).Scan(&stored, &whole)
	if err != nil {
		return fmt.Errorf("count what was stored: %w", err)
	}
	if stored == 0 {
		return errNothing
	}
	figures[prefix+"rows_stored"] = float64(stored)
	figures[prefix+"rows_lost"] = float64(s.Rows) - float64(whole)
	figures[prefix+"rows_doubled"] = float64(stored - whole)
	is, err := r.store.weigh(ctx, embedded.Database, samplesTable)
	if err != nil || is.rows == 0 {
		return errors.Join(errNothing, err)
	}
	figures[prefix+"disk_bytes_per_row"] = float64(is.bytes) / float64(is.rows)
	return nil
}
