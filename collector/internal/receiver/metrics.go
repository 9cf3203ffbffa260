// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/quarantine"
)

// instruments are the receiver's own metrics.
type instruments struct {
	rows, bytes, batches, duplicates, quarantines, refusedStreams, endedStreams, brokenStreams, retries, unkept metric.Int64Counter
	freshness                                                                                                   metric.Float64Histogram
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
	i.refusedStreams = counter("gpufleet.collector.refused.streams", "Streams that were refused, by reason and gRPC code: docs/operations.md says what each means.")
	i.endedStreams = counter("gpufleet.collector.ended.streams", "Streams that were ended because what proved them does not hold any more, by reason.")
	i.brokenStreams = counter("gpufleet.collector.broken.streams", "Streams that ended before all was answered, by gRPC code: docs/operations.md says what each means.")
	i.retries = counter("gpufleet.collector.retried.batches", "Batches that agents were asked to send again, by reason.")
	i.unkept = counter("gpufleet.collector.log.refused.batches", "Batches that the log did not take, by reason. Agents keep them and send them again.")
	freshness, err := m.Float64Histogram("gpufleet.collector.freshness", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(freshnessBounds...),
		metric.WithDescription("Age of the youngest row of a batch when the batch was stored, by table."))
	i.freshness = freshness
	return &i, errors.Join(append(problems, err)...)
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
	i.refusedStreams.Add(ctx, 1, metric.WithAttributes(attribute.String("code", status.Code(err).String()), attribute.String("reason", refusedFor(err))))
}

func (i *instruments) endedStream(ctx context.Context, err error) {
	i.endedStreams.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", refusedFor(err))))
}

func (i *instruments) brokenStream(ctx context.Context, err error) {
	i.brokenStreams.Add(ctx, 1, metric.WithAttributes(attribute.String("code", status.Code(err).String())))
}

func (i *instruments) notKept(ctx context.Context, table, reason string) {
	i.unkept.Add(ctx, 1, metric.WithAttributes(attribute.String("table", table), attribute.String("reason", reason)))
}

func (i *instruments) sentAgain(ctx context.Context, table, reason string) {
	i.retries.Add(ctx, 1, metric.WithAttributes(attribute.String("table", table), attribute.String("reason", reason)))
}

// freshnessBounds are the bounds of the histogram of freshness, in seconds: a flush and a unit are some seconds, and a
// backlog is hours.
var freshnessBounds = []float64{0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120, 300, 900, 3600, 14400, 86400}

// fresh belongs to nobody's context: the stream may have ended by then.
func (i *instruments) fresh(table string, age time.Duration) {
	i.freshness.Record(context.Background(), max(age, 0).Seconds(), byTable(table))
}

// whyAgain names why a batch is to be sent again, for the metrics.
func whyAgain(err error) string {
	if l, ok := errors.AsType[limited](err); ok {
		return l.reason
	}
	switch {
	case errors.Is(err, batchlog.ErrFull):
		return "log_full"
	case errors.Is(err, quarantine.ErrFull), status.Code(err) == codes.ResourceExhausted:
		return "quarantine_full"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "stream_ended"
	case status.Code(err) == codes.Unavailable:
		return "ledger"
	default:
		return "log_failed"
	}
}
