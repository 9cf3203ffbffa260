// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"context"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// search lists the GPUs in a goroutine of its own: the call may hang with a sick GPU. It may be
// called by Run's goroutine alone.
func (r *session) search(ctx context.Context) {
	if r.searching {
		return
	}
	r.searching = true
	r.done.Go(func() {
		devices, ret := r.driver.Devices()
		if !ret.OK() {
			r.cfg.Logger.Error("list GPUs", "return", ret)
			devices = nil
		}
		select {
		case r.found <- devices:
		case <-ctx.Done():
		}
	})
}

// searchIfLost searches again where there is reason to: a GPU is lost, or there is none at all.
func (r *session) searchIfLost(ctx context.Context, now time.Time) {
	missing := len(r.workers) == 0 || slices.ContainsFunc(r.workers, func(w *worker) bool { return w.lost })
	if missing && due(now, &r.lastSearch, r.cfg.RescanInterval) {
		r.search(ctx)
	}
}

// attach gives each GPU that has no worker one. If every GPU is gone, the driver is opened again.
func (r *session) attach(devices []gpu.Device) error {
	r.searching, r.searched, r.lastInventory = false, true, time.Now()
	for _, d := range devices {
		known := slices.IndexFunc(r.workers, func(w *worker) bool { return w.uuid == d.UUID() })
		switch {
		case known >= 0 && !r.workers[known].lost:
			continue
		case known >= 0:
			r.workers = slices.Delete(r.workers, known, known+1)
		}
		w := newWorker(d, gpu.DriverBranch(r.system.DriverVersion), r.cfg.Subsecond, time.Now)
		r.workers = append(r.workers, w)
		r.done.Go(func() { w.run(r.results) })
	}
	if len(devices) == 0 && len(r.workers) > 0 && !slices.ContainsFunc(r.workers, func(w *worker) bool { return !w.lost }) {
		return errDriverGone
	}
	return r.observeNode(time.Now())
}

// observeNode writes a row of node_inventory.
func (r *session) observeNode(now time.Time) error {
	return r.cfg.Sink.Append(schema.NodeInventoryID, r.cfg.Node.cells(now, r.system, int64(len(r.workers))))
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
		r.lastSearch = time.Time{}
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
