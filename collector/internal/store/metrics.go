// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are the store's own metrics, each by table.
type instruments struct {
	rows, units, retries, failures, refusals, views, moved metric.Int64Counter
	seconds                                                metric.Float64Histogram
}

func newInstruments(m metric.Meter) (*instruments, error) {
	var i instruments
	var problems []error
	counter := func(name, help string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithDescription(help))
		problems = append(problems, err)
		return c
	}
	i.rows = counter("gpufleet.collector.stored.rows", "Rows that ClickHouse has, counted.")
	i.units = counter("gpufleet.collector.units", "Inserts that were settled.")
	i.retries = counter("gpufleet.collector.unclear.inserts", "Inserts that ended without a clear answer, so that the store was asked, by reason.")
	i.failures = counter("gpufleet.collector.store.failures", "Calls that ClickHouse did not answer, or answered with an error, by reason.")
	i.refusals = counter("gpufleet.collector.refused.batches", "Batches that ClickHouse will never take.")
	i.views = counter("gpufleet.collector.view.failures", "Inserts that a materialized view on the table did not take: its rows are missing, or nothing lands until it is mended.")
	i.moved = counter("gpufleet.collector.moved.batches", "Batches that were not stored here because their agent has gone to another collector, which is to store them.")
	seconds, err := m.Float64Histogram("gpufleet.collector.insert.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the first try of a unit until it was settled."))
	i.seconds = seconds
	return &i, errors.Join(append(problems, err)...)
}

func byTable(table string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("table", table))
}

func (i *instruments) inserted(ctx context.Context, table string, rows int64, took time.Duration) {
	i.rows.Add(ctx, rows, byTable(table))
	i.units.Add(ctx, 1, byTable(table))
	i.seconds.Record(ctx, took.Seconds(), byTable(table))
}

func byReason(table, reason string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("table", table), attribute.String("reason", reason))
}

func (i *instruments) retried(ctx context.Context, table string, err error) {
	i.retries.Add(ctx, 1, byReason(table, reasonOf(err)))
}

func (i *instruments) failed(ctx context.Context, table string, err error) {
	i.failures.Add(ctx, 1, byReason(table, reasonOf(err)))
}

// reasonOf names the kind of an error: few words, so that there are few series.
func reasonOf(err error) string {
	exception, answered := errors.AsType[*clickhouse.Exception](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return "count" // of rows: other ones than were sent
	case inView(err):
		return "view"
	case isTooMuch(err):
		return "too_much"
	case answered && refused[exception.Code]:
		return "refused"
	case answered:
		return fmt.Sprintf("clickhouse_%d", exception.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case network, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "network"
	default:
		return "other"
	}
}

func (i *instruments) left(ctx context.Context, table string, batches int64) {
	i.moved.Add(ctx, batches, byTable(table))
}

func (i *instruments) refused(ctx context.Context, table string) {
	i.refusals.Add(ctx, 1, byTable(table))
}

func (i *instruments) viewFailed(ctx context.Context, table, view string) {
	i.views.Add(ctx, 1, byTable(table), metric.WithAttributes(attribute.String("view", view)))
}
