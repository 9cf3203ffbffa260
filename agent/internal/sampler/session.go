// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// session is the time between opening the driver and closing it.
type session struct {
	*Sampler
	driver  gpu.Driver
	system  gpu.System
	workers []*worker
	results chan *worker
	events  chan gpu.Event
	changes chan gpu.Binding
	found   chan listing // answers of a search for GPUs

	started, lastSearch                     time.Time
	lastHealth, lastIdentity, lastInventory time.Time
	lastUsage                               time.Time
	searching, wanted                       bool   // a search runs; another one is wanted
	searched                                bool   // a search has ended
	listed                                  *int64 // GPUs that the driver listed at the latest; nil if it did not answer
	lastHarvest, lastParts, lastSlow        time.Time
	lastKept                                time.Time // which GPUs are lost, though nothing changed
	clock                                   driverClock
	subsecond                               subsecondRow
	burstTimer                              *time.Timer // for the next read of bursts
	bursting                                bool        // it runs
	profilers                               chan string // answers of a look for profilers; takes one
	lastLook                                time.Time   // for them
	looking                                 bool
	missed                                  int64     // ticks, not written yet
	late                                    bool      // the latest tick was
	reopen                                  time.Time // when the driver is to be opened anew; zero: it is not
	lastMissed                              time.Time
	clocks                                  func() instant
	pace                                    pace
	done                                    sync.WaitGroup // workers, event watcher, search
}

// session samples until the context ends or the driver is gone.
func (s *Sampler) session(ctx context.Context, driver gpu.Driver) error {
	system, ret := driver.System()
	if !ret.OK() {
		s.cfg.Logger.Error("ask driver for its version", "return", ret)
	}
	run := &session{
		Sampler: s, driver: driver, system: system,
		results: make(chan *worker, 64), events: make(chan gpu.Event, 64), changes: make(chan gpu.Binding, 64), found: make(chan listing, 1), started: time.Now(),
		profilers: make(chan string, 1), clock: newDriverClock(), burstTimer: stoppedTimer(),
	}
	run.clocks = s.cfg.clocks(run.started)
	run.lastHealth = spread(time.Now(), s.cfg.Node.Name, s.cfg.HealthInterval)
	stop, cancel := context.WithCancel(ctx)
	run.done.Go(func() { run.watch(stop) })
	if binder, ok := driver.(gpu.Binder); ok {
		run.done.Go(func() { run.watchBindings(stop, binder) })
	}
	run.search(stop)
	err := s.versionSeen(system.DriverVersion)
	if err == nil {
		err = run.loop(ctx)
	}
	cancel()
	return run.close(err)
}

// stoppedTimer is a timer that is still to be set.
func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// spread gives each node its own place in the interval, so that a fleet does not write its minutes at
// once.
func spread(now time.Time, node string, interval time.Duration) time.Time {
	return now.Add(-time.Duration(wire.NodeID(node) % uint64(interval)))
}

// loop owns the clock. Nothing in it waits for the driver.
func (r *session) loop(ctx context.Context) error {
	next := nextTick(time.Now(), r.cfg.Interval, r.cfg.Phase)
	timer := time.NewTimer(r.until(next))
	defer timer.Stop()
	defer r.burstTimer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case d := <-r.demands:
			err = r.obey(d, time.Now())
		case <-r.burstTimer.C:
			r.burstDue(time.Now())
		case name := <-r.profilers:
			r.sawProfiler(name)
		case <-timer.C:
			next, err = r.tick(ctx, next)
			timer.Reset(r.until(next))
		case w := <-r.results:
			err = r.result(w)
		case e := <-r.events:
			err = r.driverEvent(e)
		case b := <-r.changes:
			err = r.binding(b)
		case l := <-r.found:
			err = r.attach(l)
		}
		if err != nil {
			return err
		}
	}
}

// until plans a tick, and is the time until then; less than none if it is over.
func (r *session) until(next time.Time) time.Duration {
	wait := time.Until(next)
	r.pace.plan(r.clocks(), wait)
	return wait
}

// after is the time after which the next tick lies: the tick that was planned, if the wall clock runs
// slow and has not come to it. A clock that was set back by more is followed.
func after(now, planned time.Time, interval time.Duration) time.Time {
	if planned.After(now) && planned.Sub(now) <= interval {
		return planned
	}
	return now
}

// nextTick is the first tick after now.
func nextTick(now time.Time, interval, phase time.Duration) time.Time {
	return now.Add(-phase).Truncate(interval).Add(interval + phase)
}

// tick asks every GPU that is free, counts what was late or missed, and gives the time of the next
// tick.
func (r *session) tick(ctx context.Context, planned time.Time) (time.Time, error) {
	now := time.Now()
	if err := r.holdPace(); err != nil {
		return planned, err
	}
	if err := r.tellMissed(now); err != nil {
		return planned, err
	}
	if !r.reopen.IsZero() && !now.Before(r.reopen) {
		return planned, errBound
	}
	r.stats.Ticks.Add(1)
	r.stats.LastTick.Store(now.UnixMilli())
	next, err := r.whatIsDue(now)
	if err != nil {
		return planned, err
	}
	for _, w := range r.workers {
		if err := r.ask(w, next, now); err != nil {
			return planned, err
		}
	}
	r.searchIfWanted(ctx, now)
	return nextTick(after(now, planned, r.cfg.Interval), r.cfg.Interval, r.cfg.Phase), r.cfg.Sink.FlushDue(now)
}

// whatIsDue is what all GPUs are asked at this tick. What the node is becomes known with the first
// search, or with one that does not end.
func (r *session) whatIsDue(now time.Time) (request, error) {
	next := request{
		health: due(now, &r.lastHealth, r.cfg.HealthInterval), usage: r.usageDue(now), harvest: r.harvestDue(now),
		parts: due(now, &r.lastParts, partsInterval),
	}
	next.slow = next.harvest && due(now, &r.lastSlow, schema.SlowSeconds*time.Second) // the batch that is sent next has it
	if !r.searched {
		if now.Sub(r.started) < r.cfg.StuckAfter {
			return next, nil
		}
		return next, r.observeNode(now, r.system, nil)
	}
	next.identity = due(now, &r.lastIdentity, r.cfg.IdentityInterval)
	if due(now, &r.lastInventory, r.cfg.InventoryInterval) {
		next.identity, next.inventory, next.reprobe, r.wanted = true, true, true, true
	}
	return next, r.observeNode(now, r.system, r.listed)
}

// missedInterval bounds how often missed ticks are written: a node that is short of CPU must not be
// made shorter.
const missedInterval = 10 * time.Second

func (r *session) tellMissed(now time.Time) error {
	if r.missed == 0 || !due(now, &r.lastMissed, missedInterval) {
		return nil
	}
	missed := r.missed
	r.missed = 0
	return r.write(event.Event{Kind: "ticks_missed", Count: &missed, Message: "ticks did not start: the machine is short of CPU, or was suspended"})
}

// due tells whether the interval has passed since the last time, and if so makes now the last time.
func due(now time.Time, last *time.Time, interval time.Duration) bool {
	if !last.IsZero() && now.Sub(*last) < interval-interval/100 {
		return false
	}
	*last = now
	return true
}

// requestFor is what one worker is asked: of one that is new, everything.
func (r *session) requestFor(w *worker, next request) request {
	if !w.attached {
		next.attach, next.identity, next.inventory, next.health = true, true, true, true
		next.usage = r.cfg.Usage != nil
	}
	_, s := r.strainOf(w)
	next.cut = s.cut
	next.harvest = next.harvest || w.owesHarvest
	next.slow = next.slow || w.owesSlow
	w.owesHarvest, w.owesSlow = false, false
	isWhole := w.parent == nil // it tells of its instances who uses them, too
	next.parts, next.usage = isWhole && (next.parts || w.owesParts || next.attach), isWhole && next.usage
	next.reprobe = next.reprobe || w.owesProbe
	w.owesParts, w.owesProbe = false, false
	return next
}

// ask gives a worker its request; one that is still busy is skipped, and reported once if it has been
// for too long. So is one whose late reading came in this very millisecond: no two rows of a GPU have one time.
func (r *session) ask(w *worker, next request, now time.Time) error {
	if w.lost {
		return nil
	}
	if !w.busy && now.UnixMilli() == w.lastSample.UnixMilli() {
		r.stats.SkippedRows.Add(1)
		return nil
	}
	if !w.busy {
		if r.rests(w, next) {
			return nil
		}
		w.busy, w.since = true, now
		w.requests <- r.requestFor(w, next)
		return nil
	}
	if r.owe(w, next) {
		return nil
	}
	r.stats.SkippedRows.Add(1)
	w.owesHarvest, w.owesSlow = w.owesHarvest || next.harvest, w.owesSlow || next.slow
	if w.stuck || now.Sub(w.since) < r.cfg.StuckAfter {
		return nil
	}
	w.stuck = true
	r.answering(w, false)
	if err := r.giveRows(w); err != nil {
		return err
	}
	r.cfg.Logger.Warn("GPU does not answer", "gpu", w.uuid, "since", w.since)
	err := r.write(event.Event{UUID: w.uuid, Kind: "gpu_stuck", Message: fmt.Sprintf("a driver call has not returned for %s", now.Sub(w.since).Round(time.Second))})
	if err != nil {
		return err
	}
	return r.endIfGone()
}
