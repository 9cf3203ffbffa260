// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric"

	"github.com/gpufleet/gpufleet/agent/internal/exposition"
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

// Instrument exports what the agent has done as metrics.
func (a *Agent) Instrument(m metric.Meter) error {
	type reading struct {
		name, help string
		value      func(Stats) int64
	}
	counters := []reading{
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
	gauges := []reading{
		{"gpufleet.agent.gpus", "GPUs that answer.", func(s Stats) int64 { return s.GPUs }},
		{"gpufleet.agent.batches.waiting", "Batches that are not stored yet.", func(s Stats) int64 { return s.BatchesWaiting }},
		{"gpufleet.agent.queue.bytes", "Bytes of batches that are not stored yet.", func(s Stats) int64 { return s.BytesWaiting }},
		{"gpufleet.agent.queue.oldest.seconds", "Age of the oldest batch that is not stored yet.", func(s Stats) int64 { return int64(s.OldestWaiting.Seconds()) }},
		{"gpufleet.agent.spool.bytes", "Bytes of the spool's files.", func(s Stats) int64 { return s.SpoolBytes }},
		{"gpufleet.agent.spool.aside", "Files of the spool that are kept because of damage.", func(s Stats) int64 { return s.SpoolSetAside }},
		{"gpufleet.agent.spool.failing", "1 while the spool's disk does not work.", func(s Stats) int64 { return int64(boolInt(s.SpoolFailing)) }},
	}
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
	if err := errors.Join(append(problems, err)...); err != nil {
		return fmt.Errorf("register agent metrics: %w", err)
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
