// SPDX-License-Identifier: Apache-2.0

package otlpout

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// point is one value of a metric.
type point struct {
	*instrument
	attributes []attribute.KeyValue
	value      float64
}

// instrument is one metric that is exported. Sums over GPUs have names of our own: under hw.* a backend would add them
// to the GPUs themselves.
type instrument struct{ name, unit, help string }

// The instruments.
var (
	nodeGPUs        = &instrument{"gpufleet.node.gpus", "{gpu}", "GPUs that were read within the last two minutes."}
	nodeUtilization = &instrument{"gpufleet.node.gpu.utilization", "1", "Mean share of time in which a kernel ran, of the GPUs that tell it."}
	nodePower       = &instrument{"gpufleet.node.gpu.power", "W", "Power drawn by the GPUs that tell it, together."}
	nodeMargin      = &instrument{"gpufleet.node.gpu.temperature_margin", "Cel", "Degrees left until the hottest GPU slows down."}
	nodeMemory      = &instrument{"gpufleet.node.gpu.memory.usage", "By", "Device memory in use, of the GPUs that tell it, together."}
	gpusByState     = &instrument{"gpufleet.gpus", "{gpu}", "GPUs by state: busy, allocated idle, unallocated, unknown, silent."}
	costPerHour     = &instrument{"gpufleet.cost", "{currency}/h", "What GPUs cost by the hour, by state, where a price is known."}
	openFaults      = &instrument{"gpufleet.faults", "{fault}", "Faults that began within a day and were reported within the last hour, by severity."}

	gpuUtilization = &instrument{"hw.gpu.utilization", "1", "Share of time in which a kernel ran."}
	gpuMemory      = &instrument{"hw.gpu.memory.usage", "By", "Device memory in use."}
	gpuPower       = &instrument{"hw.power", "W", "Power drawn."}
	gpuTemperature = &instrument{"hw.temperature", "Cel", "Temperature of the GPU."}
	gpuMargin      = &instrument{"gpufleet.gpu.temperature_margin", "Cel", "Degrees left until the GPU slows down."}
	gpuAge         = &instrument{"gpufleet.gpu.age", "s", "How long ago the GPU was read."}
)

// place is what most rows are grouped by.
type place struct {
	Provider *string `ch:"provider"`
	Region   *string `ch:"region"`
	Model    *string `ch:"model"`
}

func (p place) attributes(more ...attribute.KeyValue) []attribute.KeyValue {
	for _, a := range []struct {
		key   string
		value *string
	}{{"cloud.provider", p.Provider}, {"cloud.region", p.Region}, {"hw.model", p.Model}} {
		if a.value != nil {
			more = append(more, attribute.String(a.key, *a.value))
		}
	}
	return more
}

type nodeRow struct {
	place
	Node        *string  `ch:"node_name"`
	GPUs        uint64   `ch:"gpus"`
	Utilization *float64 `ch:"utilization"`
	Power       *float64 `ch:"power"`
	Margin      *float64 `ch:"margin"`
	Memory      *float64 `ch:"memory"`
}

// MIG instances are parts of a GPU that is there itself.
const nodeQuery = `SELECT provider, region, model, node_name, count() AS gpus, toNullable(avg(gpu_utilization_ratio)) AS utilization,
    toFloat64(sumOrNull(coalesce(power_average_watts, power_instant_watts))) AS power, toFloat64(minOrNull(temperature_margin_celsius)) AS margin,
    toFloat64(sumOrNull(memory_used_bytes)) AS memory
FROM fleet_now WHERE parent_gpu_uuid IS NULL GROUP BY ALL`

type stateRow struct {
	place
	State string `ch:"state"`
	GPUs  uint64 `ch:"gpus"`
}

const stateQuery = `SELECT provider, region, model, state, count() AS gpus FROM fleet_cost_now GROUP BY ALL
UNION ALL SELECT provider, region, model, 'silent' AS state, count() AS gpus FROM fleet_silent WHERE parent_gpu_uuid IS NULL GROUP BY ALL`

type costRow struct {
	place
	State    string  `ch:"state"`
	Currency string  `ch:"currency"`
	Basis    string  `ch:"basis"`
	PerHour  float64 `ch:"per_hour"`
}

const costQuery = `SELECT provider, region, model, state, assumeNotNull(toString(currency)) AS currency, assumeNotNull(toString(basis)) AS basis,
    toFloat64(sum(assumeNotNull(price_per_gpu_hour))) AS per_hour
FROM (SELECT * FROM fleet_cost_now WHERE price_per_gpu_hour IS NOT NULL) GROUP BY ALL`

type faultRow struct {
	place
	Severity string `ch:"severity"`
	Faults   uint64 `ch:"faults"`
}

const faultQuery = `SELECT provider, region, model, ifNull(toString(severity), 'unknown') AS severity, count() AS faults
FROM fleet_faults WHERE ts >= now64(3) - INTERVAL 1 DAY AND last_seen >= now64(3) - INTERVAL 1 HOUR GROUP BY ALL`

type gpuRow struct {
	place
	Node        *string  `ch:"node_name"`
	UUID        string   `ch:"uuid"`
	Utilization *float64 `ch:"utilization"`
	Memory      *float64 `ch:"memory"`
	Power       *float64 `ch:"power"`
	Temperature *float64 `ch:"temperature"`
	Margin      *float64 `ch:"margin"`
	Age         float64  `ch:"age"`
}

const gpuQuery = `SELECT provider, region, model, node_name, assumeNotNull(gpu_uuid) AS uuid, toNullable(toFloat64(gpu_utilization_ratio)) AS utilization,
    toFloat64(memory_used_bytes) AS memory, toFloat64(coalesce(power_average_watts, power_instant_watts)) AS power,
    toFloat64(gpu_temperature_celsius) AS temperature, toFloat64(temperature_margin_celsius) AS margin, age_seconds AS age
FROM (SELECT * FROM fleet_now WHERE gpu_uuid IS NOT NULL)`

// gather collects points.
type gather struct{ points []point }

func (g *gather) add(i *instrument, attributes []attribute.KeyValue, value float64) {
	g.points = append(g.points, point{i, attributes, value})
}

// addKnown adds what is not NULL.
func (g *gather) addKnown(i *instrument, attributes []attribute.KeyValue, value *float64) {
	if value != nil {
		g.add(i, attributes, *value)
	}
}

// ask asks all that is exported.
func (c Config) ask(ctx context.Context) ([]point, error) {
	var g gather
	parts := []func(context.Context, *gather) error{c.nodes, c.states, c.costs, c.faults}
	if c.PerGPU {
		parts = append(parts, c.gpus)
	}
	for _, part := range parts {
		if err := part(ctx, &g); err != nil {
			return nil, err
		}
	}
	return g.points, nil
}

func (c Config) nodes(ctx context.Context, g *gather) error {
	var rows []nodeRow
	if err := c.Database.Select(ctx, &rows, nodeQuery); err != nil {
		return err
	}
	for _, r := range rows {
		a := named(r.attributes(), "host.name", r.Node)
		g.add(nodeGPUs, a, float64(r.GPUs))
		g.addKnown(nodeUtilization, a, r.Utilization)
		g.addKnown(nodePower, a, r.Power)
		g.addKnown(nodeMargin, a, r.Margin)
		g.addKnown(nodeMemory, a, r.Memory)
	}
	return nil
}

func (c Config) states(ctx context.Context, g *gather) error {
	var rows []stateRow
	if err := c.Database.Select(ctx, &rows, stateQuery); err != nil {
		return err
	}
	for _, r := range rows {
		g.add(gpusByState, r.attributes(attribute.String("gpufleet.state", r.State)), float64(r.GPUs))
	}
	return nil
}

func (c Config) costs(ctx context.Context, g *gather) error {
	var rows []costRow
	if err := c.Database.Select(ctx, &rows, costQuery); err != nil {
		return err
	}
	for _, r := range rows {
		g.add(costPerHour, r.attributes(
			attribute.String("gpufleet.state", r.State), attribute.String("gpufleet.currency", r.Currency), attribute.String("gpufleet.basis", r.Basis)), r.PerHour)
	}
	return nil
}

func (c Config) faults(ctx context.Context, g *gather) error {
	var rows []faultRow
	if err := c.Database.Select(ctx, &rows, faultQuery); err != nil {
		return err
	}
	for _, r := range rows {
		g.add(openFaults, r.attributes(attribute.String("gpufleet.severity", r.Severity)), float64(r.Faults))
	}
	return nil
}

func (c Config) gpus(ctx context.Context, g *gather) error {
	var rows []gpuRow
	if err := c.Database.Select(ctx, &rows, gpuQuery); err != nil {
		return err
	}
	for _, r := range rows {
		a := named(r.attributes(attribute.String("hw.id", r.UUID), attribute.String("hw.type", "gpu")), "host.name", r.Node)
		g.addKnown(gpuUtilization, a, r.Utilization)
		g.addKnown(gpuMemory, a, r.Memory)
		g.addKnown(gpuPower, a, r.Power)
		g.addKnown(gpuTemperature, a, r.Temperature)
		g.addKnown(gpuMargin, a, r.Margin)
		g.add(gpuAge, a, r.Age)
	}
	return nil
}

func named(attributes []attribute.KeyValue, key string, value *string) []attribute.KeyValue {
	if value == nil {
		return attributes
	}
	return append(attributes, attribute.String(key, *value))
}

// metricsOf puts points together by their metrics.
func metricsOf(points []point, at time.Time) []metricdata.Metrics {
	var order []*instrument
	byMetric := make(map[*instrument][]metricdata.DataPoint[float64])
	for _, p := range points {
		if byMetric[p.instrument] == nil {
			order = append(order, p.instrument)
		}
		byMetric[p.instrument] = append(byMetric[p.instrument], metricdata.DataPoint[float64]{Attributes: attribute.NewSet(p.attributes...), Time: at, Value: p.value})
	}
	metrics := make([]metricdata.Metrics, len(order))
	for i, m := range order {
		metrics[i] = metricdata.Metrics{Name: m.name, Unit: m.unit, Description: m.help, Data: metricdata.Gauge[float64]{DataPoints: byMetric[m]}}
	}
	return metrics
}
