// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// listing is the answer of a search.
type listing struct {
	devices []gpu.Device
	ret     gpu.Return
}

// search lists the GPUs in a goroutine of its own: the call may hang with a sick GPU. It may be
// called by Run's goroutine alone.
func (r *session) search(ctx context.Context) {
	r.searching, r.wanted = true, false
	r.done.Go(func() {
		devices, ret := r.driver.Devices()
		if !ret.OK() {
			r.cfg.Logger.Error("list GPUs", "return", ret)
			devices = nil
		}
		select {
		case r.found <- listing{devices, ret}:
		case <-ctx.Done():
		}
	})
}

// searchIfWanted searches again where there is reason to: a GPU is lost, there is none at all, the
// driver told of a change, or it is time to look for new ones.
func (r *session) searchIfWanted(ctx context.Context, now time.Time) {
	if r.searching {
		return
	}
	missing := len(r.workers) == 0 || slices.ContainsFunc(r.workers, func(w *worker) bool { return w.lost })
	if r.wanted || missing && due(now, &r.lastSearch, r.cfg.RescanInterval) {
		r.search(ctx)
	}
}

// attach gives each GPU that has no worker one. If every GPU is gone, the driver is opened again.
func (r *session) attach(l listing) error {
	now := time.Now()
	if !r.searched {
		r.searched, r.lastInventory, r.lastIdentity = true, now, now
	}
	r.searching, r.listed = false, nil
	if l.ret.OK() {
		n := int64(len(l.devices))
		r.listed = &n
	}
	for _, d := range l.devices {
		r.attachOne(d, now)
	}
	if err := r.endIfNoneIsThere(l); err != nil {
		return err
	}
	if err := r.observeNode(now, r.system, r.listed); err != nil || !l.ret.OK() {
		return err
	}
	return r.sweep(l.devices, now)
}

// endIfNoneIsThere ends the session if the driver does not list the GPUs that it had, or none at all.
func (r *session) endIfNoneIsThere(l listing) error {
	answering := slices.ContainsFunc(r.workers, func(w *worker) bool { return !w.lost && w.parent == nil })
	switch {
	case !answering && l.ret.Gone():
		if err := r.driverMissing("does not list its GPUs: " + l.ret.String()); err != nil {
			return err
		}
		return errDriverGone
	case !answering && len(l.devices) == 0 && len(r.workers) > 0:
		return errDriverGone
	case l.ret.OK() && len(l.devices) == 0:
		if err := r.driverBack(); err != nil {
			return err
		}
	}
	return nil
}

// attachOne gives a GPU a worker. One that was known goes on with the next counter epoch: what it
// counted meanwhile is not known.
func (r *session) attachOne(d gpu.Device, now time.Time) {
	h := r.history(d.UUID())
	known := slices.IndexFunc(r.workers, func(w *worker) bool { return w.uuid == d.UUID() })
	if known >= 0 {
		if !r.workers[known].lost || now.Before(h.retry) {
			return
		}
		r.workers = slices.Delete(r.workers, known, known+1)
	}
	r.start(d, nil)
}

// start gives a GPU, or a MIG instance of one, a worker.
func (r *session) start(d gpu.Device, parent *worker) {
	how := manner{
		branch: gpu.DriverBranch(r.system.DriverVersion), interval: r.cfg.Interval, slow: r.cfg.SlowCall, now: time.Now, clocks: r.clocks, observer: &r.stats.observer,
	}
	w := newWorker(d, how, r.history(d.UUID()).epoch+1)
	w.parent = parent
	r.workers = append(r.workers, w)
	r.done.Go(func() { w.run(r.results) })
}

// watch passes the driver's events on.
func (r *session) watch(ctx context.Context) {
	wait := time.Second
	for ctx.Err() == nil {
		e, ret := r.driver.NextEvent(time.Second)
		switch {
		case ret.OK():
			select {
			case r.events <- e:
			case <-ctx.Done():
			}
			wait = time.Second
		case ret == gpu.Timeout:
		case ret.Unsupported():
			return
		default:
			r.cfg.Logger.Warn("wait for driver event", "return", ret, "retry_in", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, time.Minute)
		}
	}
}

// driverEvent writes an event; some mean that the list of GPUs has changed.
func (r *session) driverEvent(e gpu.Event) error {
	if e.Kind == gpu.EventUnavailable || e.Kind == gpu.EventMIGConfig {
		r.wanted = true
	}
	if e.Kind == gpu.EventMIGConfig {
		for _, w := range r.workers {
			w.owesParts = w.owesParts || w.uuid == e.UUID
		}
	}
	return r.write(driverEvent(e))
}

// close ends the workers and releases the driver. A call that hangs in the driver cannot be ended:
// after StopWait its goroutine is left behind, and said so.
func (r *session) close(err error) error {
	for _, w := range r.workers {
		if !w.lost {
			close(w.requests)
		}
		r.answering(w, false)
		err = errors.Join(err, r.giveRows(w))
	}
	go r.discard()
	idle := make(chan struct{})
	go func() {
		r.done.Wait()
		close(idle)
	}()
	if !waitFor(idle, r.cfg.StopWait) {
		r.cfg.Logger.Warn("a driver call has not returned; closing the driver all the same", "waited", r.cfg.StopWait)
	}
	closed := make(chan struct{})
	go func() {
		if ret := r.driver.Close(); !ret.OK() {
			r.cfg.Logger.Warn("close the driver", "return", ret)
		}
		r.done.Wait()
		close(r.results)
		close(closed)
	}()
	if !waitFor(closed, r.cfg.StopWait) {
		r.cfg.Logger.Warn("the driver did not close; leaving its calls behind", "waited", r.cfg.StopWait)
		r.leash.leftBehind()
	}
	return err
}

// discard takes the results that nobody waits for any more, so that no worker hangs on them.
func (r *session) discard() {
	for range r.results {
	}
}

func waitFor(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
