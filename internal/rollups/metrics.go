// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments are the builder's own metrics.
type instruments struct {
	samples, failures metric.Int64Counter
	seconds           metric.Float64Histogram
	lag               metric.Float64ObservableGauge
	lateHours         metric.Int64ObservableGauge
	attributes        []attribute.KeyValue // of each
	boundary          atomic.Int64         // seconds since 1970; 0: not known
	hours             atomic.Int64
}

func newInstruments(m metric.Meter, attributes []attribute.KeyValue) (*instruments, error) {
	i := &instruments{attributes: attributes}
	var problems []error
	add := func(err error) { problems = append(problems, err) }
	var err error
	i.samples, err = m.Int64Counter("gpufleet.rollup.samples", metric.WithDescription("Samples that were rolled up, by kind: new, or again because some came late."))
	add(err)
	i.failures, err = m.Int64Counter("gpufleet.rollup.failures", metric.WithDescription("Looks at the rollups that ended with an error."))
	add(err)
	i.seconds, err = m.Float64Histogram("gpufleet.rollup.duration", metric.WithUnit("s"), metric.WithDescription("Time that it took to roll up new minutes, or an hour with late samples."))
	add(err)
	i.lag, err = m.Float64ObservableGauge("gpufleet.rollup.lag", metric.WithUnit("s"),
		metric.WithDescription("How old the newest minute is that is rolled up, by its end. Above 300: the rollups are behind."))
	add(err)
	i.lateHours, err = m.Int64ObservableGauge("gpufleet.rollup.late.hours", metric.WithDescription("Hours with samples that came after they were rolled up, and wait for it."))
	add(err)
	return i, errors.Join(problems...)
}

// observe gives the gauges their values until the registration ends.
func (i *instruments) observe(m metric.Meter) (metric.Registration, error) {
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		by := metric.WithAttributes(i.attributes...)
		if at := i.boundary.Load(); at > 0 {
			o.ObserveFloat64(i.lag, time.Since(time.Unix(at, 0)).Seconds(), by)
		}
		o.ObserveInt64(i.lateHours, i.hours.Load(), by)
		return nil
	}, i.lag, i.lateHours)
}

func (i *instruments) moved(boundary int64) { i.boundary.Store(boundary) }

func (i *instruments) waiting(hours int) { i.hours.Store(int64(hours)) }

func (i *instruments) failed(ctx context.Context) {
	i.failures.Add(ctx, 1, metric.WithAttributes(i.attributes...))
}

func (i *instruments) rolledUp(ctx context.Context, samples uint64, kind string, took time.Duration) {
	if samples == 0 {
		return
	}
	by := metric.WithAttributes(append(slices.Clone(i.attributes), attribute.String("kind", kind))...)
	i.samples.Add(ctx, int64(samples), by)
	if took > 0 {
		i.seconds.Record(ctx, took.Seconds(), by)
	}
}
