// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/audit"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/schema"
)

// Result is what came of a run. Its JSON is one line, for programs. What nobody could be asked for is
// null.
type Result struct {
	Rows               uint64  `json:"rows"` // of gpu_samples that this run stored
	GPUs               uint64  `json:"gpus"`
	Clouds             uint64  `json:"clouds"`
	MissedTicks        uint64  `json:"missed_ticks"` // by the agents' own count or, if they cannot be asked, by their events
	LateTicks          *uint64 `json:"late_ticks"`
	SkippedRows        *uint64 `json:"skipped_rows"`     // that a GPU did not give, because it hung or was lost in the middle of a tick
	FreshnessP50Millis int64   `json:"freshness_p50_ms"` // from reading a GPU until its row is stored, counted and recorded
	FreshnessP99Millis int64   `json:"freshness_p99_ms"` // of the last hour at most
	SentRows           *uint64 `json:"sent_rows"`        // of gpu_samples that the agents made
	LostRows           uint64  `json:"lost_rows"`        // of gpu_samples: sent and not stored
	DuplicatedRows     uint64  `json:"duplicated_rows"`
	Lost               uint64  `json:"lost"`        // batches of all tables: missing in the store, dropped by an agent, or never answered
	Duplicated         uint64  `json:"duplicated"`  // batches of all tables
	Quarantined        uint64  `json:"quarantined"` // batches of all tables
	Batches            uint64  `json:"batches"`
	ResentBatches      uint64  `json:"resent_batches"`
	CollectorRestarts  int     `json:"collector_restarts"`
	ClickHouseRestarts int     `json:"clickhouse_restarts"`
	ClickHouse         string  `json:"clickhouse"` // version
	Seconds            float64 `json:"seconds"`
}

// OK tells that nothing was lost or doubled.
func (r Result) OK() bool {
	return r.Lost == 0 && r.Duplicated == 0 && r.LostRows == 0 && r.DuplicatedRows == 0
}

// missedShare is the share of ticks above which the missed ones are no chance. Most nodes have gpusOfNode GPUs.
const (
	missedShare = 0.01
	gpusOfNode  = 8
)

// Print writes the result: as JSON, or in words.
func (r Result) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	text := fmt.Sprintf("stored %s of %s", counted(r.Rows, "row"), counted(r.GPUs, "GPU"))
	if r.Clouds > 0 {
		text += " in " + counted(r.Clouds, "cloud")
	}
	text += fmt.Sprintf(" in %.0f s; %s missed\n", r.Seconds, counted(r.MissedTicks, "tick"))
	if float64(r.MissedTicks) > missedShare*float64(r.Rows)/gpusOfNode {
		text += "this machine was too slow for so many nodes: rows that were not read are missing, and are not counted as lost\n"
	}
	if r.Rows > 0 {
		text += fmt.Sprintf("half of the rows were stored within %.1f s of being read, 99 %% within %.1f s\n",
			float64(r.FreshnessP50Millis)/1000, float64(r.FreshnessP99Millis)/1000)
	}
	text += fmt.Sprintf("%s: %d lost, %d duplicated, %d in quarantine\n", counted(r.Batches, "batch"), r.Lost, r.Duplicated, r.Quarantined)
	_, err := io.WriteString(w, text)
	return err
}

// result counts what this run stored, and holds it against what the agents say they sent.
func (p *pipeline) result(ctx context.Context) (Result, error) {
	r := Result{CollectorRestarts: p.collectorRestarts(), Seconds: math.Round(time.Since(p.started).Seconds()*10) / 10}
	if p.servers != nil {
		for _, s := range p.servers.Servers() {
			r.ClickHouseRestarts += s.Restarts()
		}
	}
	if err := p.db.count(ctx, p.started, &r); err != nil {
		return r, err
	}
	if err := p.db.freshness(ctx, p.started, &r); err != nil {
		return r, err
	}
	report, err := p.audit(ctx)
	if err != nil {
		return r, err
	}
	r.Lost, r.Duplicated, r.Quarantined, r.Batches = report.Lost, report.Duplicated, report.Quarantined, report.Batches
	r.DuplicatedRows = report.DuplicatedRows
	if stats, known := p.fleet.stats(); known {
		r.hold(stats)
	}
	return r, nil
}

// audit looks at what was recorded since the start, on each shard.
func (p *pipeline) audit(ctx context.Context) (_ audit.Report, err error) {
	opts := audit.Options{Since: p.started.Add(-time.Second)}
	if p.servers == nil || len(p.servers.Servers()) == 1 {
		return audit.Run(ctx, p.db, opts)
	}
	for _, s := range p.servers.Servers() {
		e := clickhouseclient.Embedded(s.Reader())
		e.Database = schema.LocalDatabase(e.Database)
		conn, failed := clickhouseclient.Dial(ctx, e)
		if failed != nil {
			return audit.Report{}, failed
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		opts.Shards = append(opts.Shards, conn)
	}
	return audit.Run(ctx, p.db, opts)
}

// hold compares with what the agents say. The store knows nothing of batches at the end that never
// reached it: these they alone know.
func (r *Result) hold(stats agent.Stats) {
	r.MissedTicks, r.LateTicks, r.SkippedRows, r.SentRows = stats.MissedTicks, &stats.LateTicks, &stats.SkippedRows, &stats.Rows
	r.ResentBatches = stats.BatchesResent
	r.Lost = max(r.Lost, stats.BatchesDropped+uint64(stats.BatchesWaiting))
	if stored := r.Rows - r.DuplicatedRows; stats.Rows > stored {
		r.LostRows = stats.Rows - stored
	}
}

// since gives a query the first epoch of this run.
func since(ctx context.Context, started time.Time) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"epoch": epochFrom(started)}))
}

// epochFrom is the lowest epoch of agents that were started at a time or later.
func epochFrom(started time.Time) string { return strconv.FormatInt(started.UnixMilli(), 10) }

func (d *database) count(ctx context.Context, started time.Time, r *Result) error {
	row := d.QueryRow(since(ctx, started), `SELECT version(),
    (SELECT (count(), uniqExact(gpu_id)) FROM gpu_samples WHERE epoch >= {epoch:UInt64}) AS samples, samples.1, samples.2,
    (SELECT uniqExact(provider) FROM node_inventory WHERE epoch >= {epoch:UInt64}),
    (SELECT sum(count) FROM gpu_events WHERE epoch >= {epoch:UInt64} AND kind = 'ticks_missed')`)
	var pair []any
	var missed *uint64
	if err := row.Scan(&r.ClickHouse, &pair, &r.Rows, &r.GPUs, &r.Clouds, &missed); err != nil {
		return fmt.Errorf("count what was stored: %w", err)
	}
	if missed != nil {
		r.MissedTicks = *missed
	}
	return nil
}

func (d *database) freshness(ctx context.Context, started time.Time, r *Result) error {
	row := d.QueryRow(since(ctx, started), `
SELECT quantiles(0.5, 0.99)(toUnixTimestamp64Milli(recorded) - toUnixTimestamp64Milli(ts)) FROM (
    SELECT node_id, epoch, seq, ts FROM gpu_samples WHERE epoch >= {epoch:UInt64} AND ts >= now64(3) - INTERVAL 1 HOUR) AS samples
INNER JOIN (
    SELECT node_id, epoch, seq, min(recorded_at) AS recorded FROM ingest_ledger
    WHERE epoch >= {epoch:UInt64} AND table_name = 'gpu_samples' AND state = 'stored' GROUP BY node_id, epoch, seq) AS ledger
USING (node_id, epoch, seq)`)
	var milliseconds []float64
	if err := row.Scan(&milliseconds); err != nil {
		return fmt.Errorf("ask for the freshness: %w", err)
	}
	if len(milliseconds) == 2 && !math.IsNaN(milliseconds[0]) {
		r.FreshnessP50Millis, r.FreshnessP99Millis = int64(milliseconds[0]), int64(milliseconds[1])
	}
	return nil
}
