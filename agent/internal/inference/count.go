// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"math/bits"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// mostPerSecond is more than any server makes or takes of anything that is counted here. An increment beyond it is a
// mistake of whoever counts, or somebody's joke, and is left out.
const mostPerSecond = 10_000_000

// counters are those of one server, from page to page.
type counters struct {
	last     map[string]*counter
	pages    uint64 // that were read
	at       time.Time
	start    float64 // of the server's process; 0 if it does not tell
	epoch    int64
	resets   uint16                // a bit for each of the latest pages, set if counters went down for no known reason
	vanished map[string][]*counter // of the page before and not of this one, by their keys without a model; made when it is needed
}

// counter is one series.
type counter struct {
	count    uint64
	page     uint64 // on which it was last
	nameless string // its key without a model
}

// tallyKey parts what a page counts into rows.
type tallyKey struct {
	engine      int // of the table
	model, role string
}

// tally is what one row has. A kind that is not known is NULL.
type tally struct {
	n       [kinds]uint64
	known   [kinds]bool
	counted [kinds]bool // there is a counter of it, whether its increment is known or not
}

func (t *tally) add(k kind, n uint64) {
	t.n[k] += n
	t.known[k] = true
}

// isOfTokens tells that the server counts tokens.
func (t *tally) isOfTokens() bool {
	for k := range kinds {
		if k.tokens() && t.counted[k] {
			return true
		}
	}
	return false
}

// outcome is what one page says.
type outcome struct {
	tallies  map[tallyKey]*tally
	reason   string
	resets   int
	doubtful int
}

// steadyPages is how many pages are looked back on, and mostResets how many of them may show a reset: a server does not
// start that often, but several servers behind one address look like one that does.
const (
	steadyPages = 10
	mostResets  = 3
	mostTallies = 64
)

// take takes a page that was read at a time.
func (c *counters) take(all []engine, p *page, from found, at time.Time) outcome {
	o := outcome{tallies: make(map[tallyKey]*tally)}
	if c.last == nil {
		c.last = make(map[string]*counter)
		c.epoch = 1
	}
	known := p.byName()
	began, moved := c.began(known)
	c.vanished = nil
	elapsed := at.Sub(c.at)
	for i := range all {
		if !all[i].isOn(p) {
			continue
		}
		for _, m := range all[i].metrics {
			for _, s := range m.pick(known) {
				key := tallyKey{i, modelOf(&all[i], s, from), roleOf(&all[i], s, from)}
				t := o.tallies[key]
				if t == nil {
					t = &tally{}
					o.tallies[key] = t
				}
				c.count(&o, t, m.kind, &all[i], s, known, began, elapsed)
			}
		}
	}
	c.finish(&o, began, moved, at)
	return o
}

// began tells whether the server's process is another than that of the page before, and whether it is an earlier one,
// which no restart makes.
func (c *counters) began(known map[string][]*series) (anew, earlier bool) {
	start := 0.0
	if list := known[startTime]; len(list) > 0 {
		start = list[0].value
	}
	const slack = 1.5 // seconds
	if start > 0 && c.start > 0 {
		anew, earlier = start > c.start+slack, start < c.start-slack
	}
	c.start = start
	return anew, earlier
}

// count adds one series to a row.
func (c *counters) count(o *outcome, t *tally, k kind, e *engine, s *series, known map[string][]*series, began bool, elapsed time.Duration) {
	n, ok := s.count(k)
	if !ok {
		o.doubtful++
		return
	}
	if k.isGauge() {
		t.add(k, n)
		t.counted[k] = true
		return
	}
	t.counted[k] = true
	gained, certain := c.next(o, s.key(), s.keyWithout(e.modelLabel(s)), n, known, began)
	switch {
	case !certain:
	case gained > uint64((elapsed.Seconds()+1)*mostPerSecond):
		o.doubtful++
	default:
		t.add(k, gained)
	}
}

// next is what a counter has gained since the page before. The first page says nothing. A counter that is new counts from
// 0 on, unless one that was the same but for its model is no more: then it is that one, under another name.
func (c *counters) next(o *outcome, key, nameless string, n uint64, known map[string][]*series, began bool) (gained uint64, certain bool) {
	before := c.last[key]
	c.last[key] = &counter{count: n, page: c.pages + 1, nameless: nameless}
	switch {
	case c.pages == 0:
		return 0, false
	case before == nil:
		if renamed := c.takeVanished(nameless, known); renamed != nil && n >= renamed.count {
			return n - renamed.count, true
		}
		return n, true
	case began || n < before.count:
		o.resets++
		return n, true
	default:
		return n - before.count, true
	}
}

// takeVanished finds a counter of the page before that is not on this one. Each is found once.
func (c *counters) takeVanished(nameless string, known map[string][]*series) *counter {
	if c.vanished == nil {
		present := make(map[string]bool)
		for _, list := range known {
			for _, s := range list {
				present[s.key()] = true
			}
		}
		c.vanished = make(map[string][]*counter)
		for key, last := range c.last {
			if last.page == c.pages && !present[key] {
				c.vanished[last.nameless] = append(c.vanished[last.nameless], last)
			}
		}
	}
	list := c.vanished[nameless]
	if len(list) != 1 {
		return nil // several: which of them it was is not known
	}
	c.vanished[nameless] = nil
	return list[0]
}

// finish notes what the page as a whole was like.
func (c *counters) finish(o *outcome, began, earlier bool, at time.Time) {
	c.pages++
	c.at = at
	c.resets <<= 1
	if o.resets > 0 {
		c.epoch++
		if !began {
			c.resets |= 1
		}
	}
	if earlier {
		c.resets |= 1<<steadyPages - 1
	}
	if len(c.last) > 2*maxSeries {
		for key, last := range c.last {
			if last.page != c.pages {
				delete(c.last, key)
			}
		}
	}
	c.judge(o)
}

// judge finds what speaks against the counts, and leaves out what serves no model of its own.
func (c *counters) judge(o *outcome) {
	ofTokens := false
	for _, t := range o.tallies {
		ofTokens = ofTokens || t.isOfTokens()
	}
	switch {
	case len(o.tallies) > mostTallies:
		o.reason, o.tallies = reasonModels, nil
	case bits.OnesCount16(c.resets&(1<<steadyPages-1)) >= mostResets:
		o.reason = reasonSeveral
		for _, t := range o.tallies {
			t.forgetIncrements()
		}
	case !ofTokens:
		o.reason = reasonNoTokens
	}
	for key, t := range o.tallies {
		if ofTokens && !t.isOfTokens() {
			delete(o.tallies, key) // a part of the server that serves no model of its own
		}
	}
}

func (t *tally) forgetIncrements() {
	for k := range kinds {
		if !k.isGauge() {
			t.known[k] = false
		}
	}
}

// byName has the series of a page by their names.
func (p *page) byName() map[string][]*series {
	known := make(map[string][]*series)
	for i := range p.series {
		known[p.series[i].name] = append(known[p.series[i].name], &p.series[i])
	}
	return known
}

func (e *engine) isOn(p *page) bool {
	for _, prefix := range e.prefixes {
		if p.prefixed[prefix] {
			return true
		}
	}
	return false
}

// pick is the series of the metric on a page.
func (m *metric) pick(known map[string][]*series) []*series {
	for _, name := range m.names {
		var picked []*series
		for _, s := range known[name] {
			if m.fits(s) {
				picked = append(picked, s)
			}
		}
		if len(picked) > 0 {
			return picked
		}
	}
	return nil
}

func (m *metric) fits(s *series) bool {
	for name, value := range m.must {
		if s.get(name) != value {
			return false
		}
	}
	for name, values := range m.beyond {
		if slices.Contains(values, s.get(name)) {
			return false
		}
	}
	for name, value := range m.only {
		if got := s.get(name); got != "" && got != value {
			return false
		}
	}
	return true
}

// modelLabel is the label of a series that names its model; "" if none does.
func (e *engine) modelLabel(s *series) string {
	for _, name := range e.model {
		if s.get(name) != "" {
			return name
		}
	}
	return ""
}

const maxLabelRunes = 128

func modelOf(e *engine, s *series, from found) string {
	if from.model != "" {
		return from.model
	}
	if name := e.modelLabel(s); name != "" {
		return process.Printable(s.get(name), maxLabelRunes)
	}
	return from.podModel
}

func roleOf(e *engine, s *series, from found) string {
	if from.role != "" {
		return from.role
	}
	if role := e.roles[s.get(e.roleIn)]; role != "" {
		return role
	}
	return e.role
}

// derive fills in what follows from other counts.
func (t *tally) derive(e *engine) {
	if e.beside && t.known[computed] {
		t.add(input, t.n[computed]+t.n[cached])
	}
	if !t.known[input] && t.known[computed] {
		t.add(input, t.n[computed]+t.n[cached]+t.n[transferred])
	}
	if !t.counted[computed] && t.known[input] && t.known[cached] {
		t.add(computed, t.n[input]-min(t.n[input], t.n[cached]))
	}
}

// rejected is what was drafted for nothing.
func (t *tally) rejected() (uint64, bool) {
	if !t.known[drafted] || !t.known[accepted] {
		return 0, false
	}
	return t.n[drafted] - min(t.n[drafted], t.n[accepted]), true
}
