// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are the door's own metrics.
type instruments struct {
	readings, refused, unknown, duplicates, requests metric.Int64Counter

	mu    sync.Mutex // guards names
	names map[string]bool
}

// maxNames bounds the names of unknown metrics that are counted apart, and otherName is that of the others.
const (
	maxNames  = 200
	otherName = "other"
)

func newInstruments(m metric.Meter) (*instruments, error) {
	i := instruments{names: make(map[string]bool)}
	var problems []error
	counter := func(name, help string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithDescription(help))
		problems = append(problems, err)
		return c
	}
	i.readings = counter("gpufleet.collector.foreign.readings", "Readings that other programs pushed and that have a column here, by protocol.")
	i.refused = counter("gpufleet.collector.foreign.refused.readings", "Readings that other programs pushed and that are not kept, by protocol and reason.")
	i.unknown = counter("gpufleet.collector.foreign.unknown.readings", "Readings of metrics that are not known here, by name; of the first names, the rest is other.")
	i.duplicates = counter("gpufleet.collector.foreign.duplicate.readings", "Readings that came again and were not stored again.")
	i.requests = counter("gpufleet.collector.foreign.failed.requests", "Requests that were not kept and are to come again, by protocol and reason.")
	return &i, errors.Join(problems...)
}

func (i *instruments) took(ctx context.Context, r *Request) {
	protocol := attribute.String("protocol", r.from.Protocol)
	i.readings.Add(ctx, int64(r.cells), metric.WithAttributes(protocol))
	for reason, n := range map[string]int64{"no_column": r.noColumn, "no_value": r.noValue} {
		if n > 0 {
			i.refused.Add(ctx, n, metric.WithAttributes(protocol, attribute.String("reason", reason)))
		}
	}
	i.duplicates.Add(ctx, r.duplicates)
	for name, n := range r.outcome.unknown {
		i.unknown.Add(ctx, n, metric.WithAttributes(attribute.String("metric", i.bounded(name))))
	}
	var refused int64
	for _, n := range r.outcome.reasons {
		refused += n
	}
	if refused > 0 {
		i.refused.Add(ctx, refused, metric.WithAttributes(protocol, attribute.String("reason", "refused")))
	}
}

// bounded is the name under which an unknown metric is counted.
func (i *instruments) bounded(name string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.names[name] {
		if len(i.names) >= maxNames || len(name) > maxFactBytes {
			return otherName
		}
		i.names[name] = true
	}
	return name
}

func (i *instruments) refuse(ctx context.Context, from Source, reason string, n int) {
	i.refused.Add(ctx, int64(n), metric.WithAttributes(attribute.String("protocol", from.Protocol), attribute.String("reason", reason)))
}

func (i *instruments) failed(ctx context.Context, from Source, err error) {
	reason := "not_durable"
	if errors.Is(err, ErrBusy) {
		reason = "busy"
	}
	i.requests.Add(ctx, 1, metric.WithAttributes(attribute.String("protocol", from.Protocol), attribute.String("reason", reason)))
}
