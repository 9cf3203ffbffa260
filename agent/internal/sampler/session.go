// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
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
	found   chan []gpu.Device // answers of a search for GPUs

	lastHealth, lastInventory, lastSearch time.Time
	searching, searched                   bool
	missed                                int64 // ticks, not written yet
	lastMissed                            time.Time
	done                                  sync.WaitGroup // workers, event watcher, search
}

// session samples until the context ends or the driver is gone.
func (s *Sampler) session(ctx context.Context, driver gpu.Driver) error {
	system, ret := driver.System()
	if !ret.OK() {
		s.cfg.Logger.Error("ask driver for its version", "return", ret)
	}
	run := &session{
		Sampler: s, driver: driver, system: system,
		results: make(chan *worker, 64), events: make(chan gpu.Event, 64), found: make(chan []gpu.Device, 1),
	}
	run.lastHealth = spread(time.Now(), s.cfg.Node.Name, s.cfg.HealthInterval)
	stop, cancel := context.WithCancel(ctx)
	run.done.Go(func() { run.watch(stop) })
	run.search(stop)
	err := run.loop(ctx)
	cancel()
	return run.close(err)
}

// spread gives each node its own place in the interval, so that a fleet does not write its minutes at
// once.
func spread(now time.Time, node string, interval time.Duration) time.Time {
	return now.Add(-time.Duration(wire.NodeID(node) % uint64(interval)))
}

// loop owns the clock. Nothing in it waits for the driver.
func (r *session) loop(ctx context.Context) error {
	next := nextTick(time.Now(), r.cfg.Interval, r.cfg.Phase)
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-r.eventsDue:
			err = r.flushEvents()
		case <-timer.C:
			next, err = r.tick(ctx, next)
			timer.Reset(time.Until(next))
		case w := <-r.results:
			err = r.result(w)
		case e := <-r.events:
			err = r.driverEvent(e)
		case e := <-r.reports:
			err = r.write(e)
		case devices := <-r.found:
			err = r.attach(devices)
		}
		if err != nil {
			return err
		}
	}
}

// nextTick is the first tick after now.
func nextTick(now time.Time, interval, phase time.Duration) time.Time {
	return now.Add(-phase).Truncate(interval).Add(interval + phase)
}

// tick asks every GPU that is free, counts what was late or missed, and gives the time of the next
// tick.
func (r *session) tick(ctx context.Context, planned time.Time) (time.Time, error) {
	now := time.Now()
	late := now.Sub(planned)
	missed := max(int64(late/r.cfg.Interval), 0)
	if late < -r.cfg.Interval { // the clock was set back
		missed = 0
	}
	if late > r.cfg.Interval/10 {
		r.stats.LateTicks.Add(1)
	}
	if missed > 0 {
		r.stats.MissedTicks.Add(uint64(missed))
		r.missed += missed
	}
	if err := r.tellMissed(now); err != nil {
		return planned, err
	}
	r.stats.Ticks.Add(1)
	next := request{
		health:   due(now, &r.lastHealth, r.cfg.HealthInterval),
		identity: r.searched && due(now, &r.lastInventory, r.cfg.InventoryInterval),
	}
	if next.identity {
		if err := r.observeNode(now); err != nil {
			return planned, err
		}
	}
	for _, w := range r.workers {
		if err := r.ask(w, next, now); err != nil {
			return planned, err
		}
	}
	r.searchIfLost(ctx, now)
	return nextTick(now, r.cfg.Interval, r.cfg.Phase), r.cfg.Sink.FlushDue(now)
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
	return r.write(Event{Kind: "ticks_missed", Count: &missed, Message: "ticks did not start: the machine is short of CPU, or was suspended"})
}

// due tells whether the interval has passed since the last time, and if so makes now the last time.
func due(now time.Time, last *time.Time, interval time.Duration) bool {
	if !last.IsZero() && now.Sub(*last) < interval-interval/100 {
		return false
	}
	*last = now
	return true
}

// ask gives a worker its request; one that is still busy is skipped, and reported once if it has been
// for too long.
func (r *session) ask(w *worker, next request, now time.Time) error {
	if w.lost {
		return nil
	}
	if !w.busy {
		next.attach = !w.attached
		next.identity = next.identity || !w.attached
		next.health = next.health || !w.attached
		w.busy, w.since = true, now
		w.requests <- next
		return nil
	}
	r.stats.SkippedRows.Add(1)
	if w.stuck || now.Sub(w.since) < r.cfg.StuckAfter {
		return nil
	}
	w.stuck = true
	r.answering(w, false)
	r.cfg.Logger.Warn("GPU does not answer", "gpu", w.uuid, "since", w.since)
	return r.write(Event{UUID: w.uuid, Kind: "gpu_stuck", Message: fmt.Sprintf("a driver call has not returned for %s", now.Sub(w.since).Round(time.Second))})
}

// result writes what a worker read.
func (r *session) result(w *worker) error {
	w.busy = false
	r.stats.DriverCalls.Add(w.calls)
	r.stats.ReadNanos.Add(uint64(w.spent))
	if w.ret.Lost() {
		return r.lose(w)
	}
	if err := r.back(w); err != nil {
		return err
	}
	if err := r.cfg.Sink.Append(schema.SamplesID, w.sampleCells); err != nil {
		return err
	}
	r.stats.Rows.Add(1)
	if w.request.health {
		if err := r.cfg.Sink.Append(schema.HealthID, w.healthCells); err != nil {
			return err
		}
	}
	for i := range w.raw {
		if err := r.cfg.Sink.Append(schema.SubsecondID, w.raw[i].cells(w.id)); err != nil {
			return err
		}
	}
	if w.identityRead {
		if err := r.cfg.Sink.Append(schema.GPUInventoryID, gpuCells(time.Now(), w.uuid, &w.identity)); err != nil {
			return err
		}
	}
	if w.reset {
		return r.write(Event{UUID: w.uuid, Kind: "counters_reset", Message: "a counter went down: the driver was loaded again, or the GPU was reset"})
	}
	return nil
}

// back notes that a GPU answered for the first time, or again after it was stuck.
func (r *session) back(w *worker) error {
	r.answering(w, true)
	wasStuck := w.stuck
	w.stuck = false
	switch {
	case !w.attached:
		w.attached = true
		return r.write(Event{UUID: w.uuid, Kind: "gpu_found", Message: w.identity.Model})
	case wasStuck:
		return r.write(Event{UUID: w.uuid, Kind: "gpu_recovered", Message: "driver calls return again"})
	default:
		return nil
	}
}

// answering keeps count of the GPUs that answer.
func (r *session) answering(w *worker, now bool) {
	switch {
	case now && !w.counted:
		r.stats.GPUs.Add(1)
	case !now && w.counted:
		r.stats.GPUs.Add(-1)
	}
	w.counted = now
}

// lose retires a worker whose GPU is gone. It is searched for from now on.
func (r *session) lose(w *worker) error {
	w.lost = true
	close(w.requests)
	r.answering(w, false)
	r.cfg.Logger.Warn("GPU is lost", "gpu", w.uuid, "return", w.ret)
	return r.write(Event{UUID: w.uuid, Kind: "gpu_lost", Message: w.ret.String()})
}
