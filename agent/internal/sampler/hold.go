// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// hold keeps the rows of a GPU until its rings were harvested, and spreads the driver's samples over them by
// their times: one call brings the samples of several rows. Rows wait for their batch anyway, and the harvest
// falls on the tick before it is sent, so nothing is later for it.
//
//	row     1     2     3     4     5 ─┐ harvest          each row has the samples
//	ring  ∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙∙┘ of all rings     since the row before it
//
// It belongs to Run's goroutine.
type hold struct {
	rows      []heldRow
	n         int // of rows that are in use; the others are kept for their memory
	open      [ringCount]ringStats
	there     ringSet // rings that the GPU has
	secondary ringSet // of which most rows have no samples

	conflict bool // the latest row that was given out shows that another profiler has the GPU
}

// heldRow is a row of gpu_samples that lacks its ring columns.
type heldRow struct {
	cells   []batch.Cell
	at      int64 // wall time, µs
	quality int64
	asked   ringSet // that getters stood in for
	stats   [ringCount]ringStats
}

// ringStats is what became of the samples of one ring.
type ringStats struct {
	n              int64
	low, high, sum int64
	last           int64
}

func (s *ringStats) add(v int64) {
	if s.n == 0 {
		s.low, s.high = v, v
	}
	s.n++
	s.low, s.high, s.sum, s.last = min(s.low, v), max(s.high, v), s.sum+v, v
}

// value is one figure of the samples in the stored unit.
func (s *ringStats) value(source *schema.Source) int64 {
	switch source.Combine {
	case schema.Min:
		return scale(source, s.low)
	case schema.Mean:
		half := s.n / 2
		return scale(source, (s.sum+half)/s.n)
	case schema.Last:
		return scale(source, s.last)
	case schema.Max, schema.Sum:
	}
	return scale(source, s.high)
}

// ringColumn is a column of gpu_samples that a ring fills.
type ringColumn struct {
	cell   int
	source *schema.Source
}

// ringColumns are the columns of each ring.
var ringColumns = sync.OnceValue(func() (columns [ringCount][]ringColumn) {
	for i := range allMetrics() {
		m := &allMetrics()[i]
		for j := range m.Sources {
			s := &m.Sources[j]
			for ring := range rings {
				if s.Kind == schema.FromRing && s.ID == uint32(rings[ring].kind) {
					columns[ring] = append(columns[ring], ringColumn{m.sample, s})
				}
			}
		}
	}
	return columns
})

// add holds a copy of the row that a worker read.
func (h *hold) add(w *worker) {
	h.there, h.secondary = w.plans.rings, w.secondary()
	if h.n == len(h.rows) {
		h.rows = append(h.rows, heldRow{cells: make([]batch.Cell, len(w.sampleCells))})
	}
	row := &h.rows[h.n]
	h.n++
	copy(row.cells, w.sampleCells)
	row.at, row.quality, row.asked, row.stats = w.sampleAt.UnixMicro(), w.quality, w.snapshots, h.open
	h.open = [ringCount]ringStats{}
}

// merge gives the samples of a ring to the rows that they belong to. What is newer than the last row waits for
// the next one. Both are in order of time.
func (h *hold) merge(ring int, samples []gpu.RingSample, clock *driverClock) {
	row := 0
	for _, s := range samples {
		at := clock.wall(s.DriverTimeMicroseconds)
		for row < h.n && h.rows[row].at < at {
			row++
		}
		if row < h.n {
			h.rows[row].stats[ring].add(s.Value)
		} else {
			h.open[ring].add(s.Value)
		}
	}
}

// mark sets quality bits of the rows that lack samples of between two times, in µs: those that were read then,
// and the one after.
func (h *hold) mark(bits, from, to int64) {
	for i := range h.n {
		if h.rows[i].at <= from {
			continue
		}
		h.rows[i].quality |= bits
		if h.rows[i].at >= to {
			return
		}
	}
}

// judge tells the rows what became of the GPU's rings, once all of them were read.
func (h *hold) judge(states *[ringCount]ringState) {
	var silent, without ringSet
	filled := slices.ContainsFunc(states[:], func(s ringState) bool { return s.outcome == whole || s.outcome == overrun })
	for i := range states {
		switch {
		case !h.there.has(i):
		case filled && states[i].outcome == empty && states[i].active.IsZero(): // a ring that this driver never fills
		case states[i].outcome == empty:
			without |= 1 << i
		case states[i].outcome == unanswered, states[i].outcome == notAsked && !h.secondary.has(i):
			silent |= 1 << i
		}
	}
	for i := range h.n {
		row := &h.rows[i]
		switch {
		case row.lacks(without):
			row.quality |= schema.QualityIdleRing
		case h.there != 0 && silent == 0 && row.quality&schema.QualityOverrun == 0:
			row.quality |= schema.QualityRing
		}
	}
}

// lacks tells whether the row has no samples of one of the rings.
func (r *heldRow) lacks(some ringSet) bool {
	for i := range r.stats {
		if some.has(i) && r.stats[i].n == 0 {
			return true
		}
	}
	return false
}

// release gives out the rows, completed, and forgets them.
func (h *hold) release(write func(cells []batch.Cell) error) error {
	for i := range h.n {
		h.rows[i].complete(h.there)
		h.conflict = h.rows[i].quality&schema.QualityProfileConflict != 0
		if err := write(h.rows[i].cells); err != nil {
			return err
		}
	}
	h.n = 0
	return nil
}

// complete fills in the ring columns.
func (r *heldRow) complete(there ringSet) {
	for ring := range rings {
		s := &r.stats[ring]
		if !there.has(ring) || s.n == 0 {
			continue
		}
		for _, c := range ringColumns()[ring] {
			r.cells[c.cell] = batch.Cell{Int: s.value(c.source), OK: true}
		}
	}
	if r.lacks(r.asked) { // else the rings gave what getters stood in for
		r.quality |= schema.QualitySnapshot
	}
	r.distrustProfile()
	r.cells[qualityCell] = batch.Cell{Int: r.quality, OK: true}
}
