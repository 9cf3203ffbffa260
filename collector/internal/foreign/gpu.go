// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"cmp"
	"slices"

	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
	"github.com/gpufleet/gpufleet/schema"
)

// parts are the two tables that readings go to.
const (
	samplesPart = iota
	healthPart
	parts
)

var partTables = [parts]uint8{schema.SamplesID, schema.HealthID}

// goesTo tells whether a table has something of a target: a counter that gpu_samples has the increments of has its total
// in gpu_health.
func goesTo(t *mapping.Target, part int) bool {
	second := t.Metric.Tier == schema.TierSecond
	if part == samplesPart {
		return second
	}
	return !second || t.Counter()
}

// remembered is how many times of a GPU are kept in mind: what is pushed again is among them, or is refused.
const remembered = 64

// moment is what came of a GPU at one time, by table.
type moment struct {
	ts    int64
	masks [parts]mapping.Mask
}

// gpu is what is known of a GPU, by one source.
type gpu struct {
	id       uint64
	moments  []moment // by time
	floor    int64    // the latest time that is forgotten
	came     int64    // when something of it came last, by our clock
	parts    [parts]history
	told     told
	interval interval
	life     int // counts how often an agent took over: increments go on from nothing before it
}

// told is what an inventory row said last.
type told struct {
	hash uint64
	at   int64 // milliseconds; 0: never
}

// sayAgain is after how long an inventory row and an owner are said again if nothing changed, as agents do.
const sayAgain = 3600_000

// changeWait is how long changed facts wait to be told after the last ones: two senders that tell different facts of
// one GPU would make a row of each request.
const changeWait = 60_000 // milliseconds

// stale tells whether it is to be said, again or anew. What is late is not.
func (t told) stale(hash uint64, now int64) bool {
	return t.at == 0 || t.hash != hash && now-t.at >= changeWait || now-t.at >= sayAgain
}

// history is what one table's rows of a GPU go on from. It is replaced once the rows are durable, and not before.
type history struct {
	last     int64 // time of the last row
	epoch    uint32
	counters []count // by the targets' bits
	minute   int64   // of which gpu_health has the readings in said
	said     mapping.Mask
}

type count struct {
	value, ts int64
	have      bool
}

func (h history) clone() *history {
	h.counters = slices.Clone(h.counters)
	return &h
}

// find is the place of a time among the moments.
func (g *gpu) find(ts int64) (int, bool) {
	return slices.BinarySearchFunc(g.moments, ts, func(m moment, ts int64) int { return cmp.Compare(m.ts, ts) })
}

// leave leaves a GPU to its agent: what it gains from now on is in the agent's rows.
func (g *gpu) leave() {
	g.life++
	for part := range parts {
		g.parts[part].last, g.parts[part].counters = 0, nil
	}
}

// late tells whether it is forgotten what came of a time.
func (g *gpu) late(ts int64) bool { return ts <= g.floor }

// come is what has come of a time, for one table.
func (g *gpu) come(ts int64, part int) mapping.Mask {
	if i, ok := g.find(ts); ok {
		return g.moments[i].masks[part]
	}
	return mapping.Mask{}
}

// note remembers what came of a time, and forgets the oldest for it. Only what is durable is noted: of what is not, the
// time must not be late when it comes again.
func (g *gpu) note(ts int64, part int, came mapping.Mask) {
	if g.late(ts) {
		return
	}
	i, ok := g.find(ts)
	if !ok {
		g.moments = slices.Insert(g.moments, i, moment{ts: ts})
	}
	g.moments[i].masks[part].Join(came)
	if len(g.moments) > remembered {
		g.floor = g.moments[0].ts
		g.moments = slices.Delete(g.moments, 0, 1)
	}
}

// knows tells whether all that a target gives has come at a time.
func (g *gpu) knows(ts int64, t *mapping.Target) bool {
	i, ok := g.find(ts)
	if !ok {
		return false
	}
	for part := range parts {
		if goesTo(t, part) && !g.moments[i].masks[part].Has(t.Bit) {
			return false
		}
	}
	return true
}

// step is what a table's row has of a counter.
func (h *history) step(c cell, ts int64) (delta int64, ok, reset bool) {
	for len(h.counters) <= c.target.Bit {
		h.counters = append(h.counters, count{})
	}
	last := &h.counters[c.target.Bit]
	if last.have && ts <= last.ts {
		return 0, false, false // late: what it gained is in the increment of the row after it
	}
	before := *last
	*last = count{c.value, ts, true}
	switch {
	case !before.have:
		return 0, false, false
	case c.value < before.value: // it was reset, and has counted what it shows since then
		return c.value, true, true
	case c.start > before.ts && c.start < ts: // it began anew, or whoever scrapes it did: what it gained is not known
		return 0, false, true
	default:
		return c.value - before.value, true, false
	}
}

// fresh tells whether gpu_health gets a reading: once a minute each, as from agents.
func (h *history) fresh(t *mapping.Target, ts int64) bool {
	minute := ts / 60_000
	if minute > h.minute {
		h.minute, h.said = minute, mapping.Mask{}
	}
	if minute < h.minute {
		return true // late: what was said in that minute is forgotten
	}
	if h.said.Has(t.Bit) {
		return false
	}
	h.said.Add(t.Bit)
	return true
}
