// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// assemblyWait is how long the further lines of one message may take. The kernel writes them at once; another
	// processor's lines may come between.
	assemblyWait = 250 * time.Millisecond
	// maxAssembled bounds what is held back at once.
	maxAssembled = 32
	// sameEvent is the time within which two lines tell of one and the same event.
	sameEvent = 10 * time.Second
	// maxRemembered bounds what is remembered of events and GPUs.
	maxRemembered = 256
)

// parser finds what concerns GPUs in the lines of the log. It keeps what is needed to put messages of several lines
// together, and no more; it belongs to one goroutine.
type parser struct {
	report func(f Finding, since time.Duration)
	uuids  map[string]string // of GPUs, by PCI address: the driver names them once
	events map[event]time.Duration
	aer    map[string]*aerError // PCIe errors whose lines are still coming, by the prefix of their lines
	lost   *lostGPU             // a message that may be about a GPU that fell off the bus
}

// event is something that other lines may tell of again.
type event struct {
	kind Kind
	code uint32
	bus  string
}

func newParser(report func(Finding, time.Duration)) *parser {
	return &parser{report: report, uuids: map[string]string{}, events: map[event]time.Duration{}, aer: map[string]*aerError{}}
}

// line looks at one line. at has what is known of its record; since is the log's clock.
func (p *parser) line(at Finding, since time.Duration, text string) {
	at.Text = printable(text)
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "NVRM:":
		p.driverLine(at, since, text)
	case "nvidia:":
		p.probeLine(at, since, text)
	case "nvidia", "nvidia-nvswitch", "pcieport", "pci", "vfio-pci":
		p.pciLine(at, since, text)
	case "mlx5_core":
		p.pciLine(at, since, text)
		p.networkLine(at, since, text)
	case "Out", "Memory", "mce:":
		p.hostLine(at, since, text)
	default:
		if strings.HasPrefix(word, "nvidia-nvswitch") {
			p.switchLine(at, since, text)
		}
	}
}

// passed tells that the log's clock has gone on to since: what was waited for longer does not come any more.
func (p *parser) passed(since time.Duration) {
	p.finish(func(h held) bool { return since-h.since > assemblyWait })
}

// expire is passed by the node's clock, for when no line comes.
func (p *parser) expire(now time.Time) {
	p.finish(func(h held) bool { return !now.Before(h.due) })
}

// flush ends all waiting.
func (p *parser) flush() {
	p.finish(func(held) bool { return true })
}

// finish reports what is held back and has become old, in the order of the log.
func (p *parser) finish(old func(held) bool) {
	if p.lost != nil && old(p.lost.held) {
		p.lost = nil // it was about something else
	}
	if len(p.aer) == 0 {
		return
	}
	var done []*aerError
	for prefix, e := range p.aer {
		if old(e.held) {
			done = append(done, e)
			delete(p.aer, prefix)
		}
	}
	slices.SortFunc(done, func(a, b *aerError) int { return int(a.first.Sequence) - int(b.first.Sequence) })
	for _, e := range done {
		p.report(e.finding(), e.since)
	}
}

// held is a message whose further lines are waited for.
type held struct {
	first Finding       // as of the first line
	since time.Duration // of the first line
	due   time.Time     // when waiting ends
	lines int
}

func newHeld(first Finding, since time.Duration) held {
	return held{first: first, since: since, due: time.Now().Add(assemblyWait), lines: 1}
}

// due is when the next waiting ends; zero if nothing is waited for.
func (p *parser) due() (next time.Time) {
	if p.lost != nil {
		next = p.lost.due
	}
	for _, e := range p.aer {
		next = earliest(next, e.due)
	}
	return next
}

// oldest is the sequence of the first line that is held back.
func (p *parser) oldest() (sequence uint64, ok bool) {
	if p.lost != nil {
		sequence, ok = p.lost.first.Sequence, true
	}
	for _, e := range p.aer {
		if !ok || e.first.Sequence < sequence {
			sequence, ok = e.first.Sequence, true
		}
	}
	return sequence, ok
}

// happened remembers an event, and tells whether it was there already within sameEvent.
func (p *parser) happened(e event, since time.Duration) bool {
	again := p.recently(e, since)
	if len(p.events) >= maxRemembered {
		maps.DeleteFunc(p.events, func(e event, _ time.Duration) bool { return !p.recently(e, since) })
	}
	if len(p.events) < maxRemembered {
		p.events[e] = since
	}
	return again
}

// recently tells whether the event was within sameEvent.
func (p *parser) recently(e event, since time.Duration) bool {
	before, ok := p.events[e]
	return ok && (since-before).Abs() <= sameEvent
}
