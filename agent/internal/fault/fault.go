// SPDX-License-Identifier: Apache-2.0

// Package fault makes one fault of what several sources say of it. The driver reports an XID by an event,
// the kernel's log has it with the process that it befell, a minute later a counter has gone up: a Journal
// puts these into one fault with the evidence of each, judges it by the catalogue, and writes it.
//
// A fault is written gatherFor after it was first heard of, so that most are one row. What comes later is
// another row with the same fault_id, which holds all that is known by then. A Journal promises that no
// source's word is dropped: what is said again by the same source is a fault of its own, or, in a storm, is
// counted. What became of a GPU (it is lost, or stuck) stays an event of its own kind where a code tells more. All rows of a fault have the time and the GPU of its first one. It owns timers and no goroutine.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

const (
	// gatherFor is how long a fault waits for its other sources before it is written.
	gatherFor = 200 * time.Millisecond
	// matchWithin is how far apart two sources may be in time and still speak of one fault.
	matchWithin = 5 * time.Second
	// counterLag is how much later a counter may be: it is read once a minute.
	counterLag = 2 * time.Minute
	// stormAfter is the number of equal faults within stormWindow from which on they are gathered for
	// stormGather, and counted: a GPU can log thousands of lines a second.
	stormAfter  = 10
	stormWindow = time.Minute
	stormGather = 10 * time.Second
	// maxEvidence bounds what is kept of one fault; the rest is counted.
	maxEvidence = 16
	// maxRemembered bounds the faults that later evidence may join.
	maxRemembered = 1024
)

// Writer writes events. Package event has one.
type Writer interface {
	Write(e event.Event) error
}

// Judge knows how bad a fault is and what to do about it. Catalogue is one.
type Judge interface {
	// Judge is asked again when more is known of a fault. branch is the driver's, 0 if unknown.
	Judge(e event.Event, branch int) Verdict
}

// Verdict is what a catalogue says of a fault.
type Verdict struct {
	Severity, Class, Action string // "" is not known
	Version                 string // of the catalogue
}

// Config is what a Journal needs.
type Config struct {
	Node    string // name of the node
	Epoch   uint64 // life of this agent
	Writer  Writer
	Judge   Judge
	Devices *Devices
	// OnFault is told of each new fault when it is written. It must not block, nor call the Journal.
	OnFault func(event.Event)
	Logger  *slog.Logger
}

// Journal fuses faults, and passes all other events on. It may be used by several goroutines.
type Journal struct {
	cfg Config

	mu     sync.Mutex // guards the fields below
	faults []*fused   // oldest first
	opened uint64     // faults so far
	err    error      // of a write by a timer, told by the next call
}

// fused is one fault, with what was said of it so far.
type fused struct {
	device   string // UUID, or PCI address of a device that is no GPU that we know
	number   uint64 // among the faults of this life
	merged   event.Event
	said     map[saying]int64 // how often each source said each thing
	outcomes []event.Event    // that no row tells yet
	last     time.Time        // when one did last
	gravest  Verdict          // on any of the lines that were said
	evidence []evidence
	dropped  int // pieces of evidence beyond maxEvidence
	written  bool
	changed  bool // since it was written
	timer    *time.Timer
}

// saying is what a source said, in short: it may say a code and its symptom of one fault, but not one of them twice.
type saying struct{ source, code string }

func sayingOf(e event.Event) saying { return saying{e.Source, codeOf(e)} }

// NewJournal makes a journal.
func NewJournal(cfg Config) *Journal { return &Journal{cfg: cfg} }

// Write fuses a fault, and writes any other event as it is.
func (j *Journal) Write(e event.Event) error {
	rule, isFault := ruleFor(e)
	if !isFault {
		return j.cfg.Writer.Write(e)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	e = j.complete(e)
	f := j.matchLocked(e, rule)
	if f == nil {
		f = j.openLocked(e)
	}
	if same(f.merged, e) || rule.outcome {
		f.heed(j.cfg.Judge.Judge(e, j.cfg.Devices.Branch()))
	}
	f.add(e)
	if rule.outcome {
		f.outcomes = append(f.outcomes, e)
	}
	if f.timer == nil {
		f.timer = time.AfterFunc(j.gatherLocked(f), func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.err = errors.Join(j.err, j.writeLocked(f))
		})
	}
	return nil
}

// Flush writes what waits. It leaves no timer behind.
func (j *Journal) Flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range j.faults {
		j.err = errors.Join(j.err, j.writeLocked(f))
	}
	return j.err
}

// complete fills in what every fault has.
func (j *Journal) complete(e event.Event) event.Event {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Source == "" {
		e.Source = schema.SourceAgent
	}
	detail := event.Fault{}
	if e.Fault != nil {
		detail = *e.Fault
	}
	if e.UUID == "" && detail.PCIBusID != "" {
		e.UUID = j.cfg.Devices.byAddress(detail.PCIBusID)
	}
	if detail.PCIBusID = normal(detail.PCIBusID); detail.PCIBusID == "" {
		detail.PCIBusID = j.cfg.Devices.addressOf(e.UUID)
	}
	e.Fault = &detail
	return e
}

// matchLocked finds the fault that the event speaks of; nil if it is a new one.
func (j *Journal) matchLocked(e event.Event, rule rule) *fused {
	device := deviceOf(e)
	for _, f := range slices.Backward(j.faults) {
		if f.device != device {
			continue
		}
		apart, equal := e.Time.Sub(f.merged.Time).Abs(), same(f.merged, e)
		limit := matchWithin
		switch {
		case e.Source == schema.SourceCounter:
			limit = counterLag
		case equal && !f.written:
			limit = stormGather
		}
		switch {
		case apart > limit:
		case equal && !f.written: // another source, or one line of many
			return f
		case f.said[sayingOf(e)] > 0 && !rule.follows:
		case equal, rule.joins(f.merged):
			return f
		}
	}
	return nil
}

func (j *Journal) openLocked(e event.Event) *fused {
	j.forgetLocked()
	j.opened++
	f := &fused{device: deviceOf(e), number: j.opened, merged: e, said: make(map[saying]int64)}
	f.merged.Source = ""
	j.faults = append(j.faults, f)
	return f
}

// forgetLocked drops the faults that nothing can join any more.
func (j *Journal) forgetLocked() {
	old := time.Now().Add(-2 * counterLag)
	j.faults = slices.DeleteFunc(j.faults, func(f *fused) bool {
		return f.written && f.timer == nil && f.merged.Time.Before(old)
	})
	for len(j.faults) >= maxRemembered {
		i := slices.IndexFunc(j.faults, func(f *fused) bool { return f.timer == nil })
		if i < 0 {
			return
		}
		j.faults = slices.Delete(j.faults, i, i+1)
	}
}

// gatherLocked is how long a fault waits before it is written.
func (j *Journal) gatherLocked(f *fused) time.Duration {
	recent, since := 0, time.Now().Add(-stormWindow)
	for _, other := range j.faults {
		if other != f && other.device == f.device && same(other.merged, f.merged) && other.merged.Time.After(since) {
			recent++
		}
	}
	if recent >= stormAfter {
		return stormGather
	}
	return gatherFor
}

// add takes one source's word.
func (f *fused) add(e event.Event) {
	f.changed = true
	if len(f.evidence) < maxEvidence {
		f.evidence = append(f.evidence, evidence{Source: e.Source, Time: e.Time, Text: cmp.Or(e.Message, codeOf(e))})
	} else {
		f.dropped++
	}
	if s := sayingOf(e); f.said[s] == 0 || same(f.merged, e) {
		f.said[s]++
	}
	if e.Time.After(f.last) {
		f.last = e.Time
	}
	at := f.merged.Time
	if f.merged = merge(f.merged, e); f.written {
		f.merged.Time = at
	}
}

// codeOf is what an event says that has no words.
func codeOf(e event.Event) string {
	if e.XID == nil {
		return e.Kind
	}
	return fmt.Sprintf("%s %d", e.Kind, *e.XID)
}

// heed keeps the gravest verdict: of many lines of one code some may be harmless, and one not.
func (f *fused) heed(v Verdict) {
	if worse(f.gravest.Severity, v.Severity) != f.gravest.Severity {
		f.gravest = v
	}
}

// writeLocked writes what is known of a fault, unless that is written.
func (j *Journal) writeLocked(f *fused) error {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	if !f.changed {
		return nil
	}
	first := !f.written
	f.written, f.changed = true, false
	e := f.merged
	detail := *e.Fault
	if detail.ID == 0 {
		detail.ID = j.nameOf(f)
		f.merged.Fault.ID = detail.ID
	}
	verdict := j.cfg.Judge.Judge(e, j.cfg.Devices.Branch())
	if f.gravest.Severity != "" && worse(verdict.Severity, f.gravest.Severity) != verdict.Severity {
		verdict = f.gravest
	}
	detail.Severity, detail.Class, detail.Action, detail.CatalogVersion = verdict.Severity, verdict.Class, verdict.Action, verdict.Version
	detail.Evidence = encode(f.evidence, f.dropped)
	e.Fault, e.Source = &detail, f.sources()
	times := slices.Max(slices.Collect(maps.Values(f.said)))
	detail.Occurrences, detail.LastSeen = &times, f.last
	if first {
		j.cfg.Logger.Warn("fault", "kind", e.Kind, "gpu", e.UUID, "severity", detail.Severity, "action", detail.Action, "message", e.Message)
		if j.cfg.OnFault != nil {
			j.cfg.OnFault(e)
		}
	}
	return errors.Join(j.cfg.Writer.Write(e), j.writeOutcomesLocked(f))
}

// writeOutcomesLocked writes what became of the GPU, unless the fault's own row tells it.
func (j *Journal) writeOutcomesLocked(f *fused) (err error) {
	for _, o := range f.outcomes {
		if o.Kind != f.merged.Kind {
			o.Fault = nil
			err = errors.Join(err, j.cfg.Writer.Write(o))
		}
	}
	f.outcomes = nil
	return err
}

// sources are those that told of a fault, with commas between them.
func (f *fused) sources() string {
	var names []string
	for s := range f.said {
		names = append(names, s.source)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// nameOf makes the id of a fault.
func (j *Journal) nameOf(f *fused) uint64 {
	h := fnv.New64a()
	if name := f.merged.Fault.Name; name != "" {
		fmt.Fprintf(h, "%s %s", j.cfg.Node, name)
	} else {
		fmt.Fprintf(h, "%s %d %d", j.cfg.Node, j.cfg.Epoch, f.number)
	}
	return max(h.Sum64(), 1)
}

// deviceOf names what a fault is of.
func deviceOf(e event.Event) string {
	if e.UUID != "" {
		return e.UUID
	}
	return e.Fault.PCIBusID
}
