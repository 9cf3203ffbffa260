// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// Bursts says how GPUs are read at 10 Hz when something happens to them. The reads lie between the ticks, and a
// tick never waits for one that has not begun:
//
//	tick  │                             │                             │
//	burst │ ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙│ ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙  ∙│
//	       └ half a period after the tick                            └ left out, if the one before took longer than this
type Bursts struct {
	On      bool
	For     time.Duration // how long, if an order does not say
	PerHour int           // of one GPU, at most; slowdowns may have half of them
}

const (
	burstPeriod = 100 * time.Millisecond
	burstOffset = burstPeriod / 2 // from the tick
	burstWindow = time.Hour       // in which bursts are counted
	// LongestBurst bounds what an order may ask for.
	LongestBurst = time.Minute
	// ShortestBurst is a few reads.
	ShortestBurst = time.Second
)

// Order asks for a burst.
type Order struct {
	UUID     string        // of the GPU; "" for all of the node
	For      time.Duration // 0: as configured; at most LongestBurst
	Reason   string        // for the event
	Everyday bool          // it may not use up what an hour allows: bursts for something graver may follow
	Asked    bool          // by somebody from afar, who is told of a refusal in any case
}

// Outcome is what came of an order.
type Outcome struct {
	Reading []string      // UUIDs of the GPUs that are read at 10 Hz now
	For     time.Duration // that each of them is read for, at the least
	Refused []error       // why others are not
}

var (
	// ErrBurstsOff says that the agent is told to make no bursts.
	ErrBurstsOff = errors.New("bursts are switched off")
	// ErrNotSampling says that no GPU driver is open.
	ErrNotSampling = errors.New("no GPU is read now: the driver is released or missing")
)

// orderWait bounds how long an order waits for Run's goroutine, which never waits for the driver.
const orderWait = 5 * time.Second

// demand is an order on its way to Run's goroutine.
type demand struct {
	order    Order
	profiler string       // the name of one that runs on the node; not empty: the order is refused
	only     bool         // tell which GPUs would be read, and begin nothing
	outcome  chan Outcome // takes one
}

// Burst has GPUs read at 10 Hz for a while. A GPU that is in a burst goes on with it, for longer if less than half of
// the new one was left, which then counts towards what an hour allows. An error says that no GPU is read faster for it. It may be called by several goroutines, while Run
// runs.
func (s *Sampler) Burst(ctx context.Context, o Order) (Outcome, error) {
	switch {
	case !s.cfg.Bursts.On:
		return Outcome{}, ErrBurstsOff
	case o.For == 0:
		o.For = s.cfg.Bursts.For
	}
	if o.For < ShortestBurst || o.For > LongestBurst {
		return Outcome{}, fmt.Errorf("burst of %s: %s to %s", o.For, ShortestBurst, LongestBurst)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, orderWait, ErrNotSampling)
	defer cancel()
	if s.cfg.Profiler == nil {
		return s.demand(ctx, demand{order: o})
	}
	if done, err := s.demand(ctx, demand{order: o, only: true}); err != nil {
		return done, err // no need to look at all processes of the node
	}
	return s.demand(ctx, demand{order: o, profiler: s.cfg.Profiler()})
}

// demand has Run's goroutine carry an order out.
func (s *Sampler) demand(ctx context.Context, d demand) (Outcome, error) {
	d.outcome = make(chan Outcome, 1)
	select {
	case s.demands <- d:
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	}
	done := <-d.outcome
	switch {
	case len(done.Reading) > 0:
		return done, nil
	case len(done.Refused) > 0:
		return done, errors.Join(done.Refused...)
	case d.order.UUID == "":
		return done, ErrNotSampling
	default:
		return done, fmt.Errorf("GPU %s: there is none on this node", d.order.UUID)
	}
}

// burstState is what a worker's burst has come to.
type burstState struct {
	until   time.Time     // zero: there is none
	reading bool          // the request that the worker has is one of the burst
	owed    *request      // that the tick made meanwhile
	took    time.Duration // by the slowest of the latest reads

	heldDown  bool  // by heat or the hardware, at the latest
	reasons   int64 // of that, when they were last read
	contested bool  // a profiler has the GPU: profiler, as of the latest result
	burstReader
}

// obey carries an order out.
func (r *session) obey(d demand, now time.Time) error {
	done := Outcome{For: d.order.For}
	refused := make(map[*worker]error)
	var failed error
	for _, w := range r.workers {
		if d.order.UUID != w.uuid && (d.order.UUID != "" || w.parent != nil) { // a MIG instance has what its GPU has
			continue
		}
		if left := w.burst.until.Sub(now); left >= d.order.For/2 {
			done.Reading, done.For = append(done.Reading, w.uuid), min(done.For, left)
			continue
		}
		if why := r.refuses(w, &d, now); why != nil {
			done.Refused, refused[w] = append(done.Refused, fmt.Errorf("GPU %s: %w", w.uuid, why)), why
			continue
		}
		done.Reading = append(done.Reading, w.uuid)
		if !d.only {
			failed = errors.Join(failed, r.beginBurst(w, &d.order, now))
		}
	}
	for _, w := range r.workers {
		if why := refused[w]; why != nil && (!d.only || len(done.Reading) == 0) { // else the order is still to come
			failed = errors.Join(failed, r.tellRefusal(w, &d.order, why))
		}
	}
	d.outcome <- done
	return failed
}

// refuses tells why a GPU is not to be read at 10 Hz; nil if it may be.
func (r *session) refuses(w *worker, d *demand, now time.Time) error {
	h := r.history(w.uuid)
	h.bursts = slices.DeleteFunc(h.bursts, func(at time.Time) bool { return now.Sub(at) >= burstWindow })
	most := r.cfg.Bursts.PerHour
	if d.order.Everyday {
		most = (most + 1) / 2
	}
	switch {
	case w.parent != nil:
		return fmt.Errorf("it is a MIG instance, and a burst reads what is of the whole GPU: order that of its GPU, %s", w.parent.uuid)
	case w.lost || w.stuck || !w.attached:
		return errors.New("it does not answer")
	case d.profiler != "":
		return fmt.Errorf("the profiler %s runs on the node", d.profiler)
	case w.profiled():
		return errors.New("a profiler has its counters")
	case r.isCut(w):
		return errors.New("less is read of it, because the driver is slow")
	case len(h.bursts) >= most:
		return fmt.Errorf("%d bursts within an hour are enough", len(h.bursts))
	default:
		return nil
	}
}

// profiled tells that somebody else measures the GPU: its performance monitoring is in use, or counts nothing.
func (w *worker) profiled() bool { return w.burst.contested || w.held.conflict }

// isCut tells that less is read of a GPU to spare who works on it.
func (r *session) isCut(w *worker) bool {
	_, s := r.strainOf(w)
	return s.cut > noCut
}

// tellRefusal counts a refusal, and tells the first since a burst was begun.
func (r *session) tellRefusal(w *worker, o *Order, why error) error {
	r.stats.BurstsRefused.Add(1)
	h := r.history(w.uuid)
	if h.refused && !o.Asked {
		return nil
	}
	h.refused = true
	r.cfg.Logger.Info("burst refused", "gpu", w.uuid, "reason", o.Reason, "error", why)
	return r.write(event.Event{UUID: w.uuid, Kind: "burst_refused", Message: o.Reason + ": " + why.Error()})
}

func (r *session) beginBurst(w *worker, o *Order, now time.Time) error {
	h := r.history(w.uuid)
	h.bursts, h.refused = append(h.bursts, now), false
	if w.burst.until.IsZero() {
		w.burst.took = 0 // what held an earlier burst up is past
	}
	r.stats.Bursts.Add(1)
	if until := now.Add(o.For); until.After(w.burst.until) {
		w.burst.until = until
	}
	if !r.bursting {
		r.bursting = true
		r.burstTimer.Reset(time.Until(r.nextBurstRead(now)))
	}
	seconds := int64(o.For.Round(time.Second) / time.Second)
	return r.write(event.Event{UUID: w.uuid, Kind: "burst_started", Count: &seconds, Message: o.Reason})
}

func (r *session) nextBurstRead(now time.Time) time.Time {
	return nextTick(now, burstPeriod, r.cfg.Phase+burstOffset)
}

// burstDue asks every GPU that is in a burst, and free. One that would still be busy at the next tick, if it took as
// long as before, is left out.
func (r *session) burstDue(now time.Time) {
	tick := nextTick(now, r.cfg.Interval, r.cfg.Phase)
	r.bursting = false
	for _, w := range r.workers {
		switch b := &w.burst; {
		case b.until.IsZero():
		case w.lost || w.profiled() || r.isCut(w) || !now.Before(b.until):
			b.until = time.Time{}
		case w.busy || now.Add(b.took).After(tick):
			r.bursting = true
			r.stats.BurstReadsSkipped.Add(1)
			b.hope(!w.busy && now.Add(burstPeriod).After(tick))
		default:
			r.bursting = true
			b.reading, w.busy, w.since = true, true, now
			w.requests <- request{burst: true}
		}
	}
	if r.bursting {
		r.burstTimer.Reset(time.Until(r.nextBurstRead(now)))
		r.lookForProfilers(now)
	}
}

// hope forgets a little of how long a read took, once a tick that leaves reads out for it: one that was held up for once
// does not end the burst.
func (b *burstState) hope(leftOut bool) {
	if leftOut {
		b.took -= b.took / 8
	}
}

// owe has a tick's request wait for a read of a burst that is in the driver: no row is lost for it.
func (r *session) owe(w *worker, next request) bool {
	if !w.burst.reading || w.burst.owed != nil {
		return false
	}
	w.burst.owed = &next
	return true
}

// burstResult writes what a read of a burst has brought, and asks what the tick wanted meanwhile.
func (r *session) burstResult(w *worker) error {
	owed := w.burst.owed
	w.busy, w.burst.reading, w.burst.owed = false, false, nil
	w.burst.took = max(w.spent, w.burst.took-w.burst.took/8)
	r.stats.DriverCalls.Add(w.calls)
	r.stats.ReadNanos.Add(uint64(w.spent))
	r.stats.BurstReads.Add(1)
	switch {
	case w.retired:
		return nil
	case w.ret.Lost() && w.parent == nil: // of an instance the tick finds out more
		return r.lose(w)
	}
	if err := r.judge(w, w.burden); err != nil { // its calls count; whether a tick was late does not, once for each read
		return err
	}
	for _, s := range w.burst.samples {
		if err := r.cfg.Sink.Append(r.subsecond.ofBurst(w.id, s, &r.clock)); err != nil {
			return err
		}
	}
	if owed == nil {
		return nil
	}
	return r.ask(w, *owed, time.Now())
}
