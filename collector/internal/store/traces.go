// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// lap writes the lap that the unit's traced batches have come to the end of.
func (u *unit) lap(name string, err error, more ...attribute.KeyValue) {
	if !u.traced {
		return
	}
	for n := range u.items {
		u.items[n].Span.Lap(name, err, more...)
	}
}

// insertLap is that of one try to insert.
func (u *unit) insertLap(id string, err error) {
	if u.traced {
		u.lap("insert", err, attribute.String("db.system.name", "clickhouse"), attribute.String("db.collection.name", u.table.Name),
			attribute.String("gpufleet.insert", id), attribute.Int64("gpufleet.unit.rows", u.rows),
			attribute.Int("gpufleet.unit.batches", len(u.items)), attribute.Int("gpufleet.try", u.tries))
	}
}

// context carries the present lap of the first traced batch to ClickHouse: one insert has one parent.
func (u *unit) context(ctx context.Context) context.Context {
	if !u.traced {
		return ctx
	}
	for n := range u.items {
		if c := u.items[n].Span.Context(); c.IsValid() {
			return trace.ContextWithSpanContext(ctx, c)
		}
	}
	return ctx
}

// withTrace has ClickHouse write its own spans of a request below ours (system.opentelemetry_span_log), and its query
// log name the trace.
func withTrace(r *http.Request) *http.Request {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return r
	}
	ctx := r.Context()
	traced := r.Clone(ctx) // a RoundTripper must not change the request
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(traced.Header))
	return traced
}
