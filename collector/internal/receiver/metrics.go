// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/status"
)

// instruments are the receiver's own metrics.
type instruments struct {
	rows, bytes, batches, duplicates, quarantines, refusedStreams, unkept metric.Int64Counter
}

func newInstruments(m metric.Meter) (*instruments, error) {
	var i instruments
	var problems []error
	counter := func(name, help string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithDescription(help))
		problems = append(problems, err)
		return c
	}
	i.rows = counter("gpufleet.collector.received.rows", "Rows of batches that were admitted.")
	i.bytes = counter("gpufleet.collector.received.bytes", "Bytes of batches that were admitted, as they came over the wire.")
	i.batches = counter("gpufleet.collector.received.batches", "Batches that were admitted.")
	i.duplicates = counter("gpufleet.collector.duplicate.batches", "Batches that came again and were not stored again.")
	i.quarantines = counter("gpufleet.collector.quarantined.batches", "Batches that were put into quarantine, by reason.")
	i.refusedStreams = counter("gpufleet.collector.refused.streams", "Streams that were refused, by gRPC code.")
	i.unkept = counter("gpufleet.collector.log.refused.batches", "Batches that the log did not take: it was full, or its disk failed. Agents keep them and send them again.")
	return &i, errors.Join(problems...)
}

func byTable(table string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("table", table))
}

func (i *instruments) admitted(ctx context.Context, table string, rows, bytes int64) {
	i.rows.Add(ctx, rows, byTable(table))
	i.bytes.Add(ctx, bytes, byTable(table))
	i.batches.Add(ctx, 1, byTable(table))
}

func (i *instruments) duplicate(ctx context.Context, table string) {
	i.duplicates.Add(ctx, 1, byTable(table))
}

func (i *instruments) quarantined(ctx context.Context, table, reason string) {
	i.quarantines.Add(ctx, 1, metric.WithAttributes(attribute.String("table", table), attribute.String("reason", reason)))
}

func (i *instruments) refusedStream(ctx context.Context, err error) {
	i.refusedStreams.Add(ctx, 1, metric.WithAttributes(attribute.String("code", status.Code(err).String())))
}

func (i *instruments) notKept(ctx context.Context, table string) {
	i.unkept.Add(ctx, 1, byTable(table))
}
