// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/gpufleet/gpufleet/agent/internal/exposition"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
)

// show has all rows pass a page, if they are to be shown.
func (a *Agent) show() {
	if a.cfg.Exposition == (Exposition{}) {
		return
	}
	a.page = exposition.New(exposition.Config{
		Options: a.cfg.Exposition, Node: a.cfg.Node.Name, Interval: a.cfg.Interval, HealthInterval: a.cfg.HealthInterval, Late: a.cfg.Flush + a.cfg.Interval, Now: time.Now,
	})
	a.sink = exposition.NewWatch(a.builder, a.page)
}

// Collector shows the latest readings of the GPUs, as Config.Exposition says; nil if it says none.
func (a *Agent) Collector() prometheus.Collector {
	if a.page == nil {
		return nil
	}
	return a.page
}

// instrument is one of the agent's own metrics.
type instrument struct {
	name, help string
	value      func(Stats) int64
}

// Instrument exports what the agent has done as metrics.
func (a *Agent) Instrument(m metric.Meter) error {
	counters := []instrument{
		{"gpufleet.agent.ticks", "Ticks that were started.", func(s Stats) int64 { return int64(s.Ticks) }},
		{"gpufleet.agent.ticks.missed", "Ticks that were not started, because the process was held up.", func(s Stats) int64 { return int64(s.MissedTicks) }},
		{"gpufleet.agent.ticks.late", "Ticks that started more than a tenth of the interval late.", func(s Stats) int64 { return int64(s.LateTicks) }},
		{"gpufleet.agent.rows", "Rows of gpu_samples.", func(s Stats) int64 { return int64(s.Rows) }},
		{"gpufleet.agent.rows.skipped", "Rows that a GPU did not give, because it was still busy with the tick before.", func(s Stats) int64 { return int64(s.SkippedRows) }},
		{"gpufleet.agent.driver.calls", "Calls into the GPU driver.", func(s Stats) int64 { return int64(s.DriverCalls) }},
		{"gpufleet.agent.batches.queued", "Batches that were made.", func(s Stats) int64 { return int64(s.BatchesQueued) }},
		{"gpufleet.agent.batches.stored", "Batches that the collector stored.", func(s Stats) int64 { return int64(s.BatchesStored) }},
		{"gpufleet.agent.batches.rejected", "Batches that the collector can never store.", func(s Stats) int64 { return int64(s.BatchesRejected) }},
		{"gpufleet.agent.batches.dropped", "Batches that were dropped because spool or queue was full.", func(s Stats) int64 { return int64(s.BatchesDropped) }},
		{"gpufleet.agent.batches.damaged", "Batches that could not be read back from the spool.", func(s Stats) int64 { return int64(s.BatchesDamaged) }},
		{"gpufleet.agent.batches.recovered", "Batches that earlier lives of the agent left in the spool.", func(s Stats) int64 { return int64(s.BatchesRecovered) }},
		{"gpufleet.agent.spool.syncs", "Times that the spool made batches durable.", func(s Stats) int64 { return int64(s.SpoolSyncs) }},
		{"gpufleet.agent.spool.sync.microseconds", "Time that this took.", func(s Stats) int64 { return s.SpoolSyncTime.Microseconds() }},
		{"gpufleet.agent.batches.resent", "Batches that were sent more than once.", func(s Stats) int64 { return int64(s.BatchesResent) }},
	}
	gauges := []instrument{
		{"gpufleet.agent.gpus", "GPUs that answer.", func(s Stats) int64 { return s.GPUs }},
		{"gpufleet.agent.gpus.reduced", "GPUs of which less is read, because the driver's calls took too long or ticks could not be held.", func(s Stats) int64 { return s.GPUsReduced }},
		{"gpufleet.agent.sampling.cut", "What is left out of the GPU of which the least is read: 0 nothing, 1 sub-second samples, 2 also performance monitoring, 3 also every second tick.", func(s Stats) int64 { return s.SamplingCut }},
		{"gpufleet.agent.batches.waiting", "Batches that are not stored yet.", func(s Stats) int64 { return s.BatchesWaiting }},
		{"gpufleet.agent.queue.bytes", "Bytes of batches that are not stored yet.", func(s Stats) int64 { return s.BytesWaiting }},
		{"gpufleet.agent.queue.oldest.seconds", "Age of the oldest batch that is not stored yet.", func(s Stats) int64 { return int64(s.OldestWaiting.Seconds()) }},
		{"gpufleet.agent.spool.bytes", "Bytes of the spool's files.", func(s Stats) int64 { return s.SpoolBytes }},
		{"gpufleet.agent.spool.aside", "Files of the spool that are kept because of damage.", func(s Stats) int64 { return s.SpoolSetAside }},
		{"gpufleet.agent.spool.failing", "1 while the spool's disk does not work.", func(s Stats) int64 { return int64(boolInt(s.SpoolFailing)) }},
	}
	counters = append(counters, burstCounters()...)
	counters, gauges = append(counters, inferenceCounters()...), append(gauges, inferenceGauges()...)
	var problems []error
	var instruments []metric.Observable
	values := make(map[metric.Int64Observable]func(Stats) int64)
	for _, r := range counters {
		c, err := m.Int64ObservableCounter(r.name, metric.WithDescription(r.help))
		problems, instruments, values[c] = append(problems, err), append(instruments, c), r.value
	}
	for _, r := range gauges {
		g, err := m.Int64ObservableGauge(r.name, metric.WithDescription(r.help))
		problems, instruments, values[g] = append(problems, err), append(instruments, g), r.value
	}
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := a.Stats()
		for instrument, value := range values {
			o.ObserveInt64(instrument, value(stats))
		}
		return nil
	}, instruments...)
	problems = append(problems, a.timeCalls(m))
	if err := errors.Join(append(problems, err)...); err != nil {
		return fmt.Errorf("register agent metrics: %w", err)
	}
	return nil
}

// callBounds are the bounds of the histogram of calls, in seconds: 0.1 ms is a value that the driver has at hand, and
// 50 ms a call that is slow.
var callBounds = []float64{0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5}

// timeCalls exports how long calls into the driver take, by the name of the function.
func (a *Agent) timeCalls(m metric.Meter) error {
	h, err := m.Float64Histogram("gpufleet.agent.driver.call.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(callBounds...),
		metric.WithDescription("Time that a call into the GPU driver took, by its function in libnvidia-ml. Of calls that belong together each counts with their mean; identity is all that read what a GPU is."))
	if err != nil {
		return err
	}
	known := sampler.CallNames()
	sets := make(map[string]metric.MeasurementOption, len(known))
	for _, name := range known {
		sets[name] = metric.WithAttributeSet(attribute.NewSet(attribute.String("call", name)))
	}
	a.source.Stats().ObserveCalls(callTimer{h, sets}.record)
	return nil
}

// callTimer times calls into the driver, which belong to nobody's context.
type callTimer struct {
	histogram metric.Float64Histogram
	sets      map[string]metric.MeasurementOption // by function
}

func (c callTimer) record(call string, took time.Duration) {
	c.histogram.Record(context.Background(), took.Seconds(), c.sets[call])
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
