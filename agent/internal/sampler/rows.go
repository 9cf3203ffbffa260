// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// longestHold bounds how long a row waits for its rings, however seldom batches are sent.
const longestHold = 10 * time.Second

// harvestDue tells whether all rings are read at this tick: it is the last one before batches are sent, or rows
// have waited for long enough.
func (r *session) harvestDue(now time.Time) bool {
	if r.cfg.Flush <= r.cfg.Interval {
		return true
	}
	next := nextTick(now, r.cfg.Interval, r.cfg.Phase)
	period := func(t time.Time) time.Time { return t.Add(-r.cfg.FlushPhase).Truncate(r.cfg.Flush) }
	if period(now).Equal(period(next)) && now.Sub(r.lastHarvest) < longestHold {
		return false
	}
	r.lastHarvest = now
	return true
}

// takeSample holds the row that a worker read, and gives out what is held once all rings were read.
func (r *session) takeSample(w *worker) error {
	w.held.add(w)
	if err := r.takeRings(w); err != nil {
		return err
	}
	if !w.harvested {
		return nil
	}
	w.held.judge(&w.rings)
	return r.giveRows(w)
}

// takeRings spreads what rings gave over the rows that are held.
func (r *session) takeRings(w *worker) error {
	if w.newest != 0 {
		r.clock.align(w.newest, w.harvestAt)
	}
	for ring := range w.rings {
		s := &w.rings[ring]
		if s.outcome != whole && s.outcome != overrun {
			continue
		}
		if s.outcome == overrun {
			w.held.mark(schema.QualityOverrun, r.clock.wall(s.before), r.clock.wall(s.samples[0].DriverTimeMicroseconds))
		}
		w.held.merge(ring, s.samples, &r.clock)
		if !r.cfg.Subsecond {
			continue
		}
		for _, sample := range s.samples {
			if err := r.cfg.Sink.Append(schema.SubsecondID, r.subsecond.cells(w.id, ring, sample, &r.clock)); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveRows writes the rows that are held, with what is known of their rings.
func (r *session) giveRows(w *worker) error {
	r.stats.Rows.Add(uint64(w.held.n))
	return w.held.release(func(cells []batch.Cell) error { return r.cfg.Sink.Append(schema.SamplesID, cells) })
}

// subsecondRow is the memory for a row of gpu_subsecond.
type subsecondRow [7]batch.Cell

// cells lays a driver's sample out as the wire columns of gpu_subsecond.
func (row *subsecondRow) cells(id batch.Cell, ring int, s gpu.RingSample, clock *driverClock) []batch.Cell {
	row[0] = batch.Number(clock.wall(s.DriverTimeMicroseconds))
	row[1] = id
	row[2] = batch.Text(rings[ring].signal)
	row[3] = batch.ID(s.DriverTimeMicroseconds)
	row[4] = batch.Number(s.Value)
	row[5], row[6] = batch.Cell{}, batch.Cell{} // burst and fault_id
	return row[:]
}
