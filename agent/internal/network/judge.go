// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"strings"
	"time"
)

// condition is what is held of a port.
type condition uint8

const (
	unknown condition = iota // never seen, or its state cannot be read
	up
	down
	missing
)

// finding is an event of a port.
type finding struct {
	kind, message string
	count         *int64
}

// Kinds of events (schema.EventKinds).
const (
	kindDown     = "port_down"
	kindUp       = "port_up"
	kindFlapping = "port_flapping"
	kindSteady   = "port_steady"
	kindDegraded = "port_degraded"
	kindRestored = "port_restored"
	kindMissing  = "port_missing"
	kindRemoved  = "port_removed"
	kindFound    = "port_found"
	kindStuck    = "port_stuck"
	kindUnstuck  = "port_unstuck"
)

// settled is how long a flapping port must stay as it is before that is told: events of each change
// would be the noise that the judgement is there to replace.
const settled = time.Minute

// grace is how long a counter may be late to tell of a loss that was seen.
const grace = 5 * time.Second

// judgement is what is held of a port over time. It belongs to Run's goroutine.
type judgement struct {
	condition condition
	since     time.Time // of the condition
	last      look      // the latest that was understood
	told      condition // by the latest event, or found at the start
	flaps     flaps
	expected  float64 // Gb/s by configuration; 0: none
	best      rate    // seen so far
	slow      bool    // port_degraded was told
	slowSince time.Time

	carrier   reading   // of the latest look
	carrierOf string    // the network device that it is of
	ahead     int       // losses that were seen, and that the carrier's count may still tell of
	aheadTill time.Time // then no longer
	noted     int       // losses since the latest reading of link_downed
	credit    int       // of those before, that it may still tell of
	downed    reading   // the latest reading of link_downed
}

// judge weighs the latest look, and the counters if they were read with it.
func (p *port) judge(now time.Time, counted bool) (found []finding) {
	l := &p.now
	c := l.condition()
	if c == unknown { // nothing can be said of a state that cannot be read
		return nil
	}
	before, last := p.condition, p.last
	p.last = *l
	if c != before {
		p.condition, p.since = c, now
	}
	if f, ok := p.tell(now, before, last); ok { // the loss that begins the flapping is still told
		found = append(found, f)
	}
	found = append(found, p.lost(now, before == up && c != up, counted)...)
	if p.flaps.settle(now) {
		found = append(found, p.quiet(now))
	}
	return append(found, p.speed(now)...)
}

func (l *look) condition() condition {
	switch {
	case l.missing:
		return missing
	case l.state.name == "":
		return unknown
	case l.up():
		return up
	default:
		return down
	}
}

// tell makes an event of a change. A port that was found in a condition has not changed; one that
// flaps has to stay for a while.
func (p *port) tell(now time.Time, before condition, last look) (finding, bool) {
	told := p.told
	if told == unknown {
		p.told = p.condition
		return finding{}, false
	}
	hold := p.flaps.active && p.condition != missing && told != missing
	if p.condition == told || hold && now.Sub(p.since) < settled {
		return finding{}, false
	}
	p.told = p.condition
	was := " (was " + last.String() + ")"
	if before == p.condition {
		was = "; so for " + now.Sub(p.since).Round(time.Second).String()
	}
	f := finding{kind: kindUp, message: p.evidence() + was}
	switch {
	case p.condition == missing:
		f = finding{kind: kindMissing, message: "it is no longer listed" + was}
	case told == missing:
		f.kind = kindFound
	case p.condition == down:
		f.kind = kindDown
	}
	return f, true
}

// String says what a look found.
func (l *look) String() string {
	if l.missing {
		return "missing"
	}
	words := []string{l.state.name}
	if l.physical.name != "" {
		words = append(words, l.physical.name)
	}
	return strings.Join(words, ", ")
}

// evidence is what the latest look found, with what speaks for it.
func (p *port) evidence() string {
	words := []string{p.now.String()}
	if p.now.up() && p.now.rate.gigabits > 0 {
		words = append(words, p.now.rate.String())
	}
	if p.net != "" && p.now.operstate != "" {
		words = append(words, p.net+" is "+p.now.operstate)
	}
	if p.now.downed.ok {
		words = append(words, fmt.Sprintf("link_downed stands at %d", p.now.downed.count))
	}
	return strings.Join(words, "; ")
}

// lost notes link losses: one that was seen, and those between two looks that counters tell of.
func (p *port) lost(now time.Time, seen, counted bool) (found []finding) {
	began := false
	if seen {
		p.noted++
		began = p.flaps.add(loss{at: now, seen: true})
	}
	unseen := p.lostCarrier(now, seen)
	p.noted += unseen
	if counted {
		unseen += p.lostLink()
	}
	for range unseen {
		began = p.flaps.add(loss{at: now}) || began
	}
	if !began {
		return nil
	}
	return []finding{{kind: kindFlapping, count: p.flaps.count(), message: fmt.Sprintf("it lost its link %s; it counts as flapping until it is quiet for %s",
		p.flaps.sum(now), p.flaps.rule.Quiet)}}
}

// mostLosses bounds what one step of a counter can mean.
const mostLosses = 1000

// lostCarrier is how many losses the carrier's count tells of that no look has seen.
func (p *port) lostCarrier(now time.Time, seen bool) int {
	if seen {
		p.ahead, p.aheadTill = p.ahead+1, now.Add(grace)
	} else if now.After(p.aheadTill) {
		p.ahead = 0
	}
	before, same := p.carrier, p.carrierOf == p.net
	p.carrier, p.carrierOf = p.now.carrier, p.net
	if !before.ok || !p.carrier.ok || !same || p.carrier.count < before.count {
		return 0
	}
	gained := int(min(p.carrier.count-before.count, mostLosses))
	confirmed := min(gained, p.ahead)
	p.ahead -= confirmed
	return gained - confirmed
}

// lostLink is how many losses link_downed tells of that were not noted before. It is read once a
// minute, and may tell of one that was noted just before only a minute later.
func (p *port) lostLink() int {
	i := linkDowned()
	now, before := p.readings[i], p.downed
	if !now.ok && !p.now.missing {
		return 0 // the next reading tells of what was lost meanwhile
	}
	noted, credit := p.noted, p.credit
	p.downed, p.noted, p.credit = now, 0, 0
	if !now.ok || !before.ok || now.count < before.count || saturated(now.count, p.sources[i]) {
		return 0
	}
	gained := int(min(now.count-before.count, mostLosses))
	p.credit = max(min(noted, noted+credit-gained), 0)
	return max(gained-noted-credit, 0)
}

// quiet tells that the port no longer counts as flapping.
func (p *port) quiet(now time.Time) finding {
	p.told = p.condition
	return finding{kind: kindSteady, count: p.flaps.count(), message: fmt.Sprintf("it has been quiet for %s, and lost its link %s; %s",
		p.flaps.rule.Quiet, p.flaps.sum(now), p.evidence())}
}

// speed tells when a port that is up runs slower than it should, and when it does no longer.
func (p *port) speed(now time.Time) []finding {
	r := p.now.rate
	if r.gigabits == 0 { // or it is not up
		return nil
	}
	slow := r.gigabits < max(p.best.gigabits, p.expected)
	if !slow && r.gigabits > p.best.gigabits {
		p.best = r
	}
	if slow == p.slow || p.flaps.active && now.Sub(p.slowSince) < settled {
		return nil
	}
	p.slow, p.slowSince = slow, now
	switch {
	case !slow:
		return []finding{{kind: kindRestored, message: "it runs at " + r.String() + " again"}}
	case p.expected > p.best.gigabits:
		return []finding{{kind: kindDegraded, message: fmt.Sprintf("it runs at %s, and %s is expected by configuration", r, rate{gigabits: p.expected})}}
	default:
		return []finding{{kind: kindDegraded, message: fmt.Sprintf("it runs at %s, and has run at %s", r, p.best)}}
	}
}
