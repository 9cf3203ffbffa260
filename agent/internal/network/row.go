// SPDX-License-Identifier: Apache-2.0

package network

import (
	"math"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
)

// written is what was told of a port before.
type written struct {
	countedAt  time.Time // of the latest pass in which a counter was read: from then on count the increments of the next row
	complained string    // the latest file that could not be understood
}

// stateMissing stands in the rows of a port that was there and is gone.
const stateMissing = "MISSING"

// row lays the latest reading of a port out as the wire columns of network_ports.
func (d *device) row(p *port) []batch.Cell {
	n := &p.now
	counts, interval, reset := p.increments(d.countedAt)
	if reset {
		p.epoch++
	}
	cells := make([]batch.Cell, 0, 32+len(counts))
	cells = append(cells,
		batch.Milliseconds(d.readAt), batch.Text(d.name), batch.Number(p.number), interval, batch.Number(p.epoch),
		batch.TextOrNull(p.linkLayer), batch.TextOrNull(d.facts.driver), batch.TextOrNull(d.facts.firmware), batch.TextOrNull(d.facts.board), batch.TextOrNull(d.facts.pci),
		batch.NumberOrNull(d.facts.numa), batch.TextOrNull(p.net), batch.TextOrNull(n.operstate),
		n.stateCell(), batch.TextOrNull(n.physical.name), rateCell(n.rate), flag(p.flaps.active), flag(p.slow))
	return append(cells, counts...)
}

// stateCell is the state in the kernel's word.
func (l *look) stateCell() batch.Cell {
	if l.missing {
		return batch.Text(stateMissing)
	}
	return batch.TextOrNull(l.state.name)
}

// increments are the cells of the counters, of each the total and what it gained; and the time that those gains cover.
// One row has one such time: it begins with the latest pass in which any counter was read. A counter that was left out
// of that pass covers more, so that its gain is NULL for once; its total tells it all the same.
func (p *port) increments(now time.Time) (cells []batch.Cell, interval batch.Cell, reset bool) {
	cells = make([]batch.Cell, 0, 2*len(p.readings))
	before, counted := p.countedAt, false
	for i, r := range p.readings {
		if !r.ok {
			cells = append(cells, batch.Cell{}, batch.Cell{})
			continue
		}
		source, c := p.sources[i], &p.counters[i]
		covered := c.have && c.at.Equal(before)
		delta, certain, restarted := c.next(r.count, source)
		c.at, counted = now, true
		if covered {
			interval = batch.Number(now.Sub(before).Milliseconds())
		}
		reset = reset || restarted
		total, fits := multiplied(r.count, source)
		gained, small := multiplied(delta, source)
		cells = append(cells, batch.Cell{Int: total, OK: fits}, batch.Cell{Int: gained, OK: certain && small && covered})
	}
	if counted {
		p.countedAt = now
	}
	return cells, interval, reset
}

func flag(on bool) batch.Cell {
	if on {
		return batch.Number(1)
	}
	return batch.Number(0)
}

// rateCell is NULL for a rate that is not known.
func rateCell(r rate) batch.Cell {
	return batch.Cell{Int: int64(math.Float64bits(r.gigabits)), OK: r.gigabits > 0}
}
