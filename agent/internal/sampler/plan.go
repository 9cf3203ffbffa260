// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math"
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// metric is one row of the schema's table with the places of its cells in gpu_samples and
// gpu_health; -1 where it has none.
type metric struct {
	schema.Metric
	sample, total, delta, level int
	rate                        int // index of the metric of its speed; -1 if it needs none
}

// allMetrics places the metrics; the same for every GPU.
var allMetrics = sync.OnceValue(func() []metric {
	samples, health := cellIndex(schema.SamplesID), cellIndex(schema.HealthID)
	var placed []metric
	for _, m := range schema.Metrics() {
		p := metric{Metric: m, sample: -1, total: -1, delta: -1, level: -1, rate: -1}
		if c, ok := m.SamplesColumn(); ok {
			p.sample = samples[c.Name]
		}
		for _, c := range m.HealthColumns() {
			switch {
			case c.Counter:
				p.total = health[c.Name]
			case m.Kind == schema.Counter:
				p.delta = health[c.Name]
			default:
				p.level = health[c.Name]
			}
		}
		placed = append(placed, p)
	}
	for i := range placed {
		for _, s := range placed[i].Sources {
			if s.Rate != "" {
				placed[i].rate = slices.IndexFunc(placed, func(m metric) bool { return m.Name == s.Rate })
			}
		}
	}
	return placed
})

func cellIndex(table uint8) map[string]int {
	t, _ := schema.TableByID(table)
	index := make(map[string]int)
	for i, c := range t.WireColumns() {
		index[c.Name] = i
	}
	return index
}

// step is one metric's place in a plan: which metric, from which of its sources, and where in the
// plan's field or profile values its answers stand.
type step struct {
	metric int
	source *schema.Source
	first  int // of fields or profiles
	count  int // more than one for a value per link
	getter gpu.Getter
}

// question is a getter and when it is asked.
type question struct {
	getter gpu.Getter
	turn   turn
	rings  ringSet // asked only while one of these is empty; none: always
}

// plan is what is asked of one GPU in one kind of reading: one call for all fields, one for each
// getter whose turn it is, one pair for all GPM metrics.
type plan struct {
	fields   []gpu.FieldValue
	profiles []gpu.ProfileValue // what is asked each time, then what is slow
	quick    int                // profiles that are asked each time
	getters  []question         // each getter once
	steps    []step
}

// scale is value × multiply ÷ divide, rounded to the nearest.
func scale(s *schema.Source, value int64) int64 {
	multiply, divide := max(s.Multiply, 1), max(s.Divide, 1)
	value *= multiply
	if divide == 1 {
		return value
	}
	half := divide / 2
	if value < 0 {
		half = -half
	}
	return (value + half) / divide
}

// bitErrorRate decodes NVML's coded rate. A rate above 1 is none.
func bitErrorRate(coded int64) (rate float64, ok bool) {
	mantissa, exponent := float64(coded>>8&0xf), float64(coded&0xff)
	rate = mantissa * math.Pow(10, -exponent)
	return rate, rate <= 1
}
