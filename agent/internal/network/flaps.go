// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"time"
)

// Flapping says when a port counts as flapping, and until when. A port that comes back each time looks
// well whenever one looks; so the judgement sticks.
type Flapping struct {
	Losses int           // of the link within Within make a port flapping
	Within time.Duration //
	Quiet  time.Duration // without a loss ends it
}

// loss is one time that the link of a port was lost.
type loss struct {
	at   time.Time
	seen bool // false: too short to be seen, a counter told of it
}

// flaps watches the link losses of one port.
type flaps struct {
	rule   Flapping
	latest []loss // oldest first; at most as many as the rule needs
	active bool
	began  time.Time // the first loss of those that made it flapping
	losses int       // since then
	unseen int       // of them
}

// add notes a loss. It tells whether the port began to flap with it.
func (f *flaps) add(l loss) (began bool) {
	f.latest = append(f.latest, l)
	f.latest = f.latest[max(len(f.latest)-f.rule.Losses, 0):]
	if f.active {
		f.note(l)
		return false
	}
	if len(f.latest) < f.rule.Losses || l.at.Sub(f.latest[0].at) > f.rule.Within {
		return false
	}
	f.active, f.began, f.losses, f.unseen = true, f.latest[0].at, 0, 0
	for _, l := range f.latest {
		f.note(l)
	}
	return true
}

func (f *flaps) note(l loss) {
	f.losses++
	if !l.seen {
		f.unseen++
	}
}

// settle tells whether the port has just been quiet for long enough.
func (f *flaps) settle(now time.Time) (ended bool) {
	if !f.active || now.Sub(f.latest[len(f.latest)-1].at) < f.rule.Quiet {
		return false
	}
	f.active, f.latest = false, nil // what sum says stays
	return true
}

// count is how often the link was lost since the port began to flap.
func (f *flaps) count() *int64 { return new(int64(f.losses)) }

// sum says it in words.
func (f *flaps) sum(now time.Time) string {
	words := fmt.Sprintf("%d times within %s", f.losses, now.Sub(f.began).Round(time.Second))
	if f.unseen > 0 {
		words += fmt.Sprintf(", of which %d were too short to be seen, and are known from counters", f.unseen)
	}
	return words
}
