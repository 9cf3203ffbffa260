// SPDX-License-Identifier: Apache-2.0

package synthetic

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
)

const gpusPerNode = 8

// Fleet is a number of H100s in one training job. It moves on with every record that is taken.
type Fleet struct {
	random *rand.Rand
	gpus   []gpu
	clock  int64 // milliseconds since 1970
	epoch  int64
	batch  int64
	busy   float64 // of the whole job, 0 to 1: GPUs of a job rise and fall together
	phase  int     // ticks left in which busy stays
}

type gpu struct {
	id      int64
	signals []*signal // in the order of schema.Metrics
}

// signal is the course of one metric of one GPU.
type signal struct {
	metric schema.Metric
	base   float64 // level under full load, or increment a second
	noise  float64 // standard deviation
	step   float64 // values are multiples of it
	absent bool
	total  float64 // of a counter
	value  float64 // of this tick: level, or increment
}

// NewFleet makes a fleet whose first tick is startMilliseconds after 1970. Equal seeds make equal fleets.
func NewFleet(seed uint64, gpus int, startMilliseconds int64) *Fleet {
	f := &Fleet{random: rand.New(rand.NewPCG(seed, 2)), clock: startMilliseconds, epoch: startMilliseconds - 86_400_000}
	metrics := schema.Metrics()
	for range gpus {
		g := gpu{id: int64(f.random.Uint64())}
		for _, m := range metrics {
			g.signals = append(g.signals, f.signal(m))
		}
		f.gpus = append(f.gpus, g)
	}
	return f
}

// signal draws the course of a metric on one GPU from what its name and unit say.
func (f *Fleet) signal(m schema.Metric) *signal {
	s := &signal{metric: m, step: 1, total: f.random.Float64() * 1e12}
	s.absent = strings.Contains(m.Requires, "GB200") || strings.Contains(m.Meaning, "before A100")
	spread := 0.9 + 0.2*f.random.Float64()
	switch {
	case m.Kind == schema.State, strings.Contains(m.Unit, "{"):
		s.total = float64(f.random.IntN(3)) // errors and states stay where they are
	case m.Name == "throttle_power_microseconds":
		s.base, s.noise = 2000, 3000
	case strings.HasPrefix(m.Name, "throttle_"), isIdlePipe(m.Name):
		s.total = 0
	case m.Unit == "‰":
		s.base, s.noise = 800*spread, 25
	case m.Unit == "Cel":
		s.base, s.noise = 62*spread, 0.6
	case m.Unit == "W":
		s.base, s.noise = 640*spread, 12
	case m.Unit == "mJ":
		s.base, s.noise = 640_000*spread, 9000
	case m.Unit == "MHz":
		s.base, s.noise, s.step = 1900*spread, 10, 15
	case strings.Contains(m.Unit, "By/s"):
		s.base, s.noise = 90_000*spread, 6000
	case strings.Contains(m.Name, "link_"):
		s.base, s.noise = 180e9*spread, 8e9
	case strings.HasPrefix(m.Name, "pcie_"):
		s.base, s.noise = 1.5e9*spread, 2e8
	default:
		s.base, s.step = 60e9*spread, 2<<20 // memory in use: still, in pages
	}
	return s
}

// isIdlePipe tells whether training in half precision leaves a pipe alone.
func isIdlePipe(metric string) bool {
	return slices.Contains([]string{
		"fp64_active_permille", "tensor_dfma_active_permille", "tensor_dmma_active_permille", "tensor_imma_active_permille",
	}, metric)
}

// tick moves the whole fleet on.
func (f *Fleet) tick(seconds float64) {
	if f.phase--; f.phase < 0 {
		f.phase, f.busy = 5+f.random.IntN(40), []float64{1, 1, 1, 0.3}[f.random.IntN(4)]
	}
	for _, g := range f.gpus {
		for _, s := range g.signals {
			f.move(s, seconds)
		}
	}
	f.clock += int64(seconds * 1000)
}

func (f *Fleet) move(s *signal, seconds float64) {
	level := s.base
	if s.metric.Unit != "By" || s.noise > 0 { // memory stays allocated when the job waits
		level *= 0.2 + 0.8*f.busy
	}
	if s.metric.Kind == schema.Counter {
		level *= seconds
	}
	if s.noise > 0 {
		level += f.random.NormFloat64() * s.noise * seconds
	}
	level = max(0, float64(int64(level/s.step))*s.step)
	if s.metric.Unit == "‰" {
		level = min(1000, level)
	}
	if s.metric.Kind == schema.State || strings.Contains(s.metric.Unit, "{") {
		s.value = 0
		if s.metric.Kind != schema.Counter {
			s.value = s.total
		}
		return
	}
	s.value = level
	s.total += level
}

// Record takes ticks rows of every GPU, seconds apart, in the order in which an agent reads them: all
// GPUs of a tick, then the next tick. The columns may be those of any table of metrics, or of several.
func (f *Fleet) Record(columns []schema.Column, ticks int, seconds float64) arrow.RecordBatch {
	rows := make([][]value, 0, ticks*len(f.gpus))
	places := placesOf(columns)
	f.batch++
	for range ticks {
		f.tick(seconds)
		for i := range f.gpus {
			rows = append(rows, f.row(i, places, seconds))
		}
	}
	return build(columns, len(rows), func(b array.Builder, column, row int) {
		v := rows[row][column]
		switch {
		case v.absent:
			b.AppendNull()
		case columns[column].Type == schema.Name: // tenant and zone: nobody's
			b.AppendEmptyValue()
		default:
			appendInteger(b, v.number)
		}
	})
}

type value struct {
	number int64
	absent bool
}

// place tells where the values of a column come from.
type place struct {
	column string
	metric int // in schema.Metrics; -1 for the columns that are none
	total  bool
}

func placesOf(columns []schema.Column) []place {
	known := map[string]place{}
	for i, m := range schema.Metrics() {
		if c, ok := m.SamplesColumn(); ok {
			known[c.Name] = place{metric: i}
		}
		for _, c := range m.HealthColumns() {
			known[c.Name] = place{metric: i, total: c.Counter}
		}
	}
	places := make([]place, len(columns))
	for i, c := range columns {
		p, ok := known[c.Name]
		if !ok {
			p.metric = -1
		}
		p.column = c.Name
		places[i] = p
	}
	return places
}

func (f *Fleet) row(g int, places []place, seconds float64) []value {
	row := make([]value, len(places))
	jitter := int64(f.random.IntN(4))
	for i, p := range places {
		if p.metric < 0 {
			row[i].number = f.fact(g, p.column, seconds, jitter)
			continue
		}
		s := f.gpus[g].signals[p.metric]
		row[i] = value{number: int64(s.value), absent: s.absent}
		if p.total {
			row[i].number = int64(s.total)
		}
	}
	return row
}

// fact is the value of a column that is no metric.
func (f *Fleet) fact(g int, column string, seconds float64, jitter int64) int64 {
	switch column {
	case schema.ColumnTime:
		return f.clock + jitter
	case schema.ColumnGPU:
		return f.gpus[g].id
	case schema.ColumnNode:
		return f.gpus[g/gpusPerNode*gpusPerNode].id
	case schema.ColumnEpoch:
		return f.epoch
	case schema.ColumnSequence:
		return f.batch
	case schema.ColumnInterval:
		return int64(seconds*1000) + jitter - 2
	case schema.ColumnQuality:
		return schema.QualityRing
	default:
		return 0
	}
}
