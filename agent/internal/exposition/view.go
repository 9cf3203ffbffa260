// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"math"
	"strconv"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// view is a GPU as it is at a scrape.
type view struct {
	device
	driver, node string
	tick         int64 // ms between rows of gpu_samples
	fresh        bool  // gpu_samples counts
	healthFresh  bool  // gpu_health counts
	parent       *view
}

// reading is where a metric of the schema stands in the rows.
type reading struct {
	metric schema.Metric
	sample int // its level or increment in gpu_samples; -1: none
	level  int // in gpu_health
	total  int // in gpu_health
	wraps  bool
}

// readingOf places a metric.
func readingOf(m schema.Metric) reading {
	r := reading{metric: m, sample: -1, level: -1, total: -1}
	if c, ok := m.SamplesColumn(); ok {
		r.sample = samples().place(c.Name)
	}
	for _, c := range m.HealthColumns() {
		switch {
		case c.Counter:
			r.total = health().place(c.Name)
		case m.Kind != schema.Counter:
			r.level = health().place(c.Name)
		}
	}
	for _, s := range m.Sources {
		r.wraps = r.wraps || s.Wraps32
	}
	return r
}

// of is the metric's value in its stored unit: a level, or the total of a counter; false if it is not
// known now.
func (r *reading) of(v *view) (float64, bool) {
	switch {
	case r.metric.Kind == schema.Counter:
		return r.totalOf(v)
	case r.sample >= 0:
		return r.number(v.sample(r.sample))
	default:
		return r.number(v.healthValue(r.level))
	}
}

// totalOf is the total of a counter. Of one that is read each tick it is the driver's total when it was
// first asked and all increments since: that never goes down, and moves with every row. The driver's own
// total of a counter that wraps within seconds means nothing: that one counts from 0.
func (r *reading) totalOf(v *view) (float64, bool) {
	if r.sample < 0 {
		return r.number(v.healthValue(r.total))
	}
	base := v.bases[r.total]
	if _, answered := v.sample(r.sample); !answered || base.at == 0 {
		return 0, false
	}
	if r.wraps {
		base.number = 0
	}
	return float64(base.number) + float64(v.gained[r.sample]), true
}

func (r *reading) number(n int64, ok bool) (float64, bool) {
	if r.metric.Type == schema.Float64 {
		return math.Float64frombits(uint64(n)), ok
	}
	return float64(n), ok
}

// sample is the latest value of a column of gpu_samples. It counts for two of its own periods: some are
// not read at every tick.
func (v *view) sample(i int) (int64, bool) {
	s := v.samples[i]
	return s.number, v.fresh && s.at > 0 && v.sampleAt-s.at <= 2*max(s.period, v.tick, samples().period(i))
}

func (v *view) healthValue(i int) (int64, bool) {
	return v.health[i].number, v.healthFresh && v.health[i].at > 0
}

// numberText is a number as a label; "" for NULL.
func numberText(c batch.Cell) string {
	if !c.OK {
		return ""
	}
	return strconv.FormatInt(c.Int, 10)
}
