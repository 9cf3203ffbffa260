// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// level is the reading in the stored unit.
func (w *worker) level(i int, source *schema.Source) batch.Cell {
	r := w.readings[i]
	if !r.ok {
		return batch.Cell{}
	}
	if source.Kind == schema.FromProfile || source.Decoding == schema.BitErrorRate { // scaled and rounded before
		return batch.Cell{Int: r.value, OK: true}
	}
	return batch.Cell{Int: scale(source, r.value), OK: true}
}

// increment is what the counter gained since its previous reading, in the stored unit.
func (w *worker) increment(counters []counter, i int, source *schema.Source) batch.Cell {
	r := w.readings[i]
	if !r.ok {
		return batch.Cell{}
	}
	c := &counters[i]
	delta, ok, reset := c.next(r.value, r.bits, source.Wraps32, func(v int64) int64 { return scale(source, v) })
	// One reset shows in the counters of a minute later than in those of a second: the epoch has begun.
	w.reset = w.reset || reset && c.epoch == w.counterEpoch
	c.epoch = w.counterEpoch
	return batch.Cell{Int: delta, OK: ok}
}

// fill makes rows of the readings. Their heads come last: a reset begins an epoch with the rows in
// which it shows. The columns of rings are filled in when a harvest has come: see hold.
func (w *worker) fill(health bool) {
	w.fillSample()
	if health {
		w.fillHealth()
	}
	if w.reset {
		w.beginEpoch(health)
	}
	w.head(w.sampleCells, w.sampleAt, w.lastSample)
	w.sampleCells[qualityCell] = batch.Cell{Int: w.quality, OK: true}
	w.lastSample = w.sampleAt
	if health {
		w.head(w.healthCells, w.healthAt, w.lastHealth)
		w.lastHealth = w.healthAt
	}
}

func (w *worker) fillSample() {
	clear(w.sampleCells[sampleHead:])
	w.fillSteps(&w.plans.second)
	w.fillSteps(&w.plans.slow) // what was not read is NULL
}

func (w *worker) fillSteps(p *plan) {
	cells := w.sampleCells
	for _, s := range p.steps {
		m := &allMetrics()[s.metric]
		if m.Kind != schema.Counter {
			cells[m.sample] = w.level(s.metric, s.source)
			continue
		}
		cells[m.sample] = w.increment(w.sampleCounters, s.metric, s.source)
		if w.wrappedTwice(m) {
			cells[m.sample] = batch.Cell{}
		}
	}
}

// wrappedTwice tells that a counter of 32 bits may have wrapped more than once since the previous row:
// what it gained is unknown.
func (w *worker) wrappedTwice(m *metric) bool {
	if m.rate < 0 || !w.readings[m.rate].ok || w.lastSample.IsZero() {
		return false
	}
	bytesPerSecond := float64(w.readings[m.rate].value) * (1 << 20)
	return bytesPerSecond*w.sampleAt.Sub(w.lastSample).Seconds() > 1<<31
}

func (w *worker) fillHealth() {
	cells := w.healthCells
	clear(cells[healthHead:])
	for _, p := range w.plans.all() {
		for _, s := range p.steps {
			m := &allMetrics()[s.metric]
			if m.total >= 0 {
				cells[m.total] = w.level(s.metric, s.source)
			}
			if m.delta >= 0 {
				cells[m.delta] = w.increment(w.healthCounters, s.metric, s.source)
			}
			if m.level >= 0 {
				cells[m.level] = w.level(s.metric, s.source)
			}
		}
	}
}

// beginEpoch begins a counter epoch, to which all counters that were just read belong. What a counter
// that wraps gained over the reset is unknown: it cannot be told from a wrap.
func (w *worker) beginEpoch(health bool) {
	w.counterEpoch++
	for i := range w.readings {
		if !w.readings[i].ok {
			continue
		}
		w.sampleCounters[i].epoch = w.counterEpoch
		if health {
			w.healthCounters[i].epoch = w.counterEpoch
		}
	}
	for _, s := range w.plans.second.steps {
		if s.source.Wraps32 {
			w.sampleCells[allMetrics()[s.metric].sample] = batch.Cell{}
		}
	}
}

// Cells before the metrics: time, GPU, interval, counter epoch, and in gpu_samples the quality.
const (
	healthHead  = 4
	sampleHead  = 5
	qualityCell = sampleHead - 1
)

func (w *worker) head(cells []batch.Cell, at, previous time.Time) {
	cells[0] = batch.Cell{Int: at.UnixMilli(), OK: true}
	cells[1] = w.id
	cells[2] = batch.Cell{Int: at.Sub(previous).Milliseconds(), OK: !previous.IsZero()}
	cells[3] = batch.Cell{Int: w.counterEpoch, OK: true}
}
