// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// gauges show what a collector holds at the moment, where counters show what it has done.
type gauges struct {
	logBytes, logLimit, memoryBytes, memoryLimit, streams, nodes, quarantineBytes, quarantineLimit, answers metric.Int64ObservableGauge
	oldest                                                                                                  metric.Float64ObservableGauge
}

// register has the gauges observed until the returned function is called.
func (p *pipeline) register() (unregister func() error, err error) {
	g, err := newGauges(p.cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("register gauges: %w", err)
	}
	registration, err := p.cfg.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		p.observe(ctx, o, g)
		return nil
	}, g.logBytes, g.logLimit, g.memoryBytes, g.memoryLimit, g.streams, g.nodes, g.quarantineBytes, g.quarantineLimit, g.answers, g.oldest)
	if err != nil {
		return nil, fmt.Errorf("register gauges: %w", err)
	}
	return registration.Unregister, nil
}

func newGauges(m metric.Meter) (gauges, error) {
	var g gauges
	var problems []error
	gauge := func(name, unit, help string) metric.Int64ObservableGauge {
		i, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		problems = append(problems, err)
		return i
	}
	g.logBytes = gauge("gpufleet.collector.log.size", "By", "Files of the log of accepted batches, by table.")
	g.logLimit = gauge("gpufleet.collector.log.limit", "By", "What they may take at most, by table.")
	g.memoryBytes = gauge("gpufleet.collector.memory.held", "By", "Batches that were admitted and are not stored yet, in memory, by table.")
	g.memoryLimit = gauge("gpufleet.collector.memory.limit", "By", "What they may take at most, by table: then agents are told to wait.")
	g.streams = gauge("gpufleet.collector.streams", "{stream}", "Streams of agents that are open, by table.")
	g.nodes = gauge("gpufleet.collector.nodes", "{node}", "Nodes of which a stream is open.")
	g.quarantineBytes = gauge("gpufleet.collector.quarantine.size", "By", "Files of the quarantine.")
	g.quarantineLimit = gauge("gpufleet.collector.quarantine.limit", "By", "What they may take at most.")
	g.answers = gauge("gpufleet.collector.clickhouse.answers", "", "1 if ClickHouse answered when this was read, else 0: then accepted batches wait in the log.")
	oldest, err := m.Float64ObservableGauge("gpufleet.collector.oldest.age", metric.WithUnit("s"),
		metric.WithDescription("Time for which the oldest batch that was admitted and is not stored yet has been here; 0 if there is none."))
	g.oldest = oldest
	return g, errors.Join(append(problems, err)...)
}

// answerWait is how long those who read the metrics wait for ClickHouse.
const answerWait = time.Second

func (p *pipeline) observe(ctx context.Context, o metric.Observer, g gauges) {
	place := func(shard int, table string) metric.MeasurementOption {
		return metric.WithAttributes(append(p.shardAttribute(shard), attribute.String("table", table))...)
	}
	for i, s := range p.store.parts {
		if s.log == nil {
			continue
		}
		for _, f := range s.log.Fills() {
			o.ObserveInt64(g.logBytes, f.Used, place(i, f.Table))
			o.ObserveInt64(g.logLimit, f.Limit, place(i, f.Table))
		}
	}
	for _, l := range p.load.Tables() {
		o.ObserveInt64(g.memoryBytes, l.HeldBytes, place(l.Shard, l.Table))
		o.ObserveInt64(g.memoryLimit, l.LimitBytes, place(l.Shard, l.Table))
		o.ObserveInt64(g.streams, l.Streams, place(l.Shard, l.Table))
	}
	o.ObserveInt64(g.nodes, p.load.Nodes())
	o.ObserveFloat64(g.oldest, p.load.Oldest(time.Now()).Seconds())
	used, limit := p.quarantine.Used()
	o.ObserveInt64(g.quarantineBytes, used)
	o.ObserveInt64(g.quarantineLimit, limit)
	p.observeAnswers(ctx, o, g)
}

// shardAttribute tells the shards of a cluster apart; the one server has none.
func (p *pipeline) shardAttribute(shard int) []attribute.KeyValue {
	if !p.cfg.Cluster.on() {
		return nil
	}
	return []attribute.KeyValue{attribute.Int("shard", shard+1)}
}

// observeAnswers asks all shards at the same time.
func (p *pipeline) observeAnswers(ctx context.Context, o metric.Observer, g gauges) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	var asking sync.WaitGroup
	for i, s := range p.store.parts {
		asking.Go(func() {
			var answers int64
			if stored, err := s.opened(); err == nil && stored.Ping(ctx) == nil {
				answers = 1
			}
			o.ObserveInt64(g.answers, answers, metric.WithAttributes(p.shardAttribute(i)...))
		})
	}
	asking.Wait()
}
