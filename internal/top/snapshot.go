// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Snapshot is the pipeline at one moment. What nobody knows is null.
type Snapshot struct {
	At         time.Time   `json:"at"`
	Wrong      []string    `json:"wrong"` // what is wrong, the worst first
	Collectors []Collector `json:"collectors"`
	Store      *Store      `json:"store"`
	StoreError string      `json:"store_error,omitempty"`
}

// Collector is one process, by its metrics.
type Collector struct {
	Address         string   `json:"address"`
	Error           string   `json:"error,omitempty"` // why its metrics could not be read; then there is nothing else
	Nodes           int64    `json:"nodes"`
	Streams         int64    `json:"streams"`
	RowsPerSecond   *float64 `json:"rows_per_second"` // that were admitted
	BytesPerSecond  *float64 `json:"bytes_per_second"`
	StoredPerSecond *float64 `json:"stored_rows_per_second"`
	OldestSeconds   float64  `json:"oldest_seconds"` // age of the batch that has waited longest
	Answers         bool     `json:"clickhouse_answers"`
	Silent          []string `json:"silent_shards,omitempty"` // of a cluster: those that do not answer
	Log             Fill     `json:"log"`
	Memory          Fill     `json:"memory"`
	Quarantine      Fill     `json:"quarantine"`
	Lanes           []Lane   `json:"lanes"`
	Losses          []Loss   `json:"losses"`
}

// Fill is how much of its limit something takes.
type Fill struct {
	Bytes int64 `json:"bytes"`
	Limit int64 `json:"limit"` // 0: there is none of it
}

// share is 0 to 1, and nil of nothing.
func (f Fill) share() *float64 {
	if f.Limit <= 0 {
		return nil
	}
	return new(float64(f.Bytes) / float64(f.Limit))
}

// Lane is what a collector does for one table.
type Lane struct {
	Table           string   `json:"table"`
	Streams         int64    `json:"streams"`
	RowsPerSecond   *float64 `json:"rows_per_second"`
	StoredPerSecond *float64 `json:"stored_rows_per_second"`
	FreshnessP50    *float64 `json:"freshness_p50_seconds"` // upper ends of the histogram's buckets
	FreshnessP99    *float64 `json:"freshness_p99_seconds"`
	Log             Fill     `json:"log"`
	Memory          Fill     `json:"memory"`
}

// Loss counts what was refused, sent again, put aside or not stored, for one reason.
type Loss struct {
	What      string   `json:"what"`
	Reason    string   `json:"reason"`
	Table     string   `json:"table,omitempty"`
	Total     uint64   `json:"total"` // since the collector began
	PerSecond *float64 `json:"per_second"`
}

// Names of the metrics that are not losses.
const (
	metricNodes      = "gpufleet_collector_nodes"
	metricStreams    = "gpufleet_collector_streams"
	metricRows       = "gpufleet_collector_received_rows_total"
	metricBytes      = "gpufleet_collector_received_bytes_total"
	metricStored     = "gpufleet_collector_stored_rows_total"
	metricOldest     = "gpufleet_collector_oldest_age_seconds"
	metricAnswers    = "gpufleet_collector_clickhouse_answers"
	metricFreshness  = "gpufleet_collector_freshness_seconds"
	metricLog        = "gpufleet_collector_log_size_bytes"
	metricLogLimit   = "gpufleet_collector_log_limit_bytes"
	metricMemory     = "gpufleet_collector_memory_held_bytes"
	metricMemLimit   = "gpufleet_collector_memory_limit_bytes"
	metricQuarantine = "gpufleet_collector_quarantine_size_bytes"
	metricQuarLimit  = "gpufleet_collector_quarantine_limit_bytes"
)

// brokenStreams in words.
const brokenStreams = "streams broken"

// losses are the counters of what goes wrong, in words.
var losses = []struct{ metric, what, by string }{
	{"gpufleet_collector_quarantined_batches_total", "batches put into quarantine", "reason"},
	{"gpufleet_collector_refused_batches_total", "batches refused by ClickHouse", ""},
	{"gpufleet_collector_view_failures_total", "inserts refused by a view", "view"},
	{"gpufleet_collector_retried_batches_total", "batches asked for again", "reason"},
	{"gpufleet_collector_store_failures_total", "calls of ClickHouse failed", "reason"},
	{"gpufleet_collector_unclear_inserts_total", "inserts without a clear answer", "reason"},
	{"gpufleet_collector_refused_streams_total", "streams refused", "code"},
	{"gpufleet_collector_broken_streams_total", brokenStreams, "code"},
	{"gpufleet_collector_foreign_refused_readings_total", "pushed readings refused", "reason"},
	{"gpufleet_collector_foreign_failed_requests_total", "pushes failed", "reason"},
	{"gpufleet_collector_foreign_refused_connections_total", "connections that push refused", "reason"},
}

// collectorOf is what two readings of one collector say. Without an earlier one there are no rates.
func collectorOf(address string, now, before reading) Collector {
	c := Collector{
		Address: address, Nodes: int64(now.sum(metricNodes, anyOf)), Streams: int64(now.sum(metricStreams, anyOf)),
		RowsPerSecond: now.rate(before, metricRows, anyOf), BytesPerSecond: now.rate(before, metricBytes, anyOf),
		StoredPerSecond: now.rate(before, metricStored, anyOf), OldestSeconds: now.sum(metricOldest, anyOf), Answers: true,
		Log: now.fill(metricLog, metricLogLimit, anyOf), Memory: now.fill(metricMemory, metricMemLimit, anyOf),
		Quarantine: now.fill(metricQuarantine, metricQuarLimit, anyOf), Losses: lossesOf(now, before),
	}
	for _, m := range now.families[metricAnswers].GetMetric() {
		if value(m) == 0 {
			c.Answers = false
			if shard := label(m, "shard"); shard != "" {
				c.Silent = append(c.Silent, shard)
			}
		}
	}
	tables := make(map[string]bool)
	for _, family := range []string{metricMemLimit, metricRows, metricStored} {
		for _, m := range now.families[family].GetMetric() {
			tables[label(m, "table")] = true
		}
	}
	for table := range tables {
		which := of(table)
		quantiles := now.quantiles(before, metricFreshness, which, 0.5, 0.99)
		c.Lanes = append(c.Lanes, Lane{
			Table: table, Streams: int64(now.sum(metricStreams, which)), RowsPerSecond: now.rate(before, metricRows, which),
			StoredPerSecond: now.rate(before, metricStored, which), FreshnessP50: quantiles[0], FreshnessP99: quantiles[1],
			Log: now.fill(metricLog, metricLogLimit, which), Memory: now.fill(metricMemory, metricMemLimit, which),
		})
	}
	slices.SortFunc(c.Lanes, func(a, b Lane) int { return strings.Compare(a.Table, b.Table) })
	return c
}

func (r reading) fill(size, limit string, which match) Fill {
	return Fill{Bytes: int64(r.sum(size, which)), Limit: int64(r.sum(limit, which))}
}

// lossesOf are those that have happened since the collector began: those that go on first, then the many.
func lossesOf(now, before reading) []Loss {
	found := []Loss{}
	for _, l := range losses {
		for _, m := range now.families[l.metric].GetMetric() {
			one := Loss{What: l.what, Table: label(m, "table"), Total: uint64(value(m))}
			if l.by != "" {
				one.Reason = label(m, l.by)
			}
			if one.Total == 0 {
				continue
			}
			one.PerSecond = now.rate(before, l.metric, same(m))
			found = append(found, one)
		}
	}
	slices.SortStableFunc(found, worstFirst)
	return found
}

// worstFirst puts first what goes on fastest, then what has happened most often.
func worstFirst(a, b Loss) int {
	return cmp.Or(cmp.Compare(perSecond(b.PerSecond), perSecond(a.PerSecond)), cmp.Compare(b.Total, a.Total))
}

// perSecond counts what is not known as nothing.
func perSecond(rate *float64) float64 {
	if rate == nil {
		return 0
	}
	return *rate
}

// same means the metric of another reading that has the same labels.
func same(one *dto.Metric) match {
	return func(other *dto.Metric) bool {
		if len(one.GetLabel()) != len(other.GetLabel()) {
			return false
		}
		for _, l := range one.GetLabel() {
			if label(other, l.GetName()) != l.GetValue() {
				return false
			}
		}
		return true
	}
}
