// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// device is one GPU of an opened driver. It keeps no readings of its own but the start of the profiling window.
type device struct {
	driver *driver
	board  *board

	window window
	parts  map[string]*part // MIG instances that are there now
}

// window is the time over which performance monitoring tells something.
type window struct {
	open   bool
	began  int64
	before totals
}

// move ends the window and begins the next one. A call that comes too early leaves it as it is.
func (w *window) move(now int64, done totals) (during totals, length time.Duration, ret gpu.Return) {
	length = time.Duration(now - w.began)
	if w.open && length < gpu.MinProfileWindow {
		return totals{}, 0, gpu.NotReady
	}
	during = done.minus(w.before)
	first := !w.open || during.quanta == 0
	w.open, w.began, w.before = true, now, done
	if first {
		return totals{}, 0, gpu.NotReady
	}
	return during, length, gpu.Success
}

var (
	_ gpu.Device   = (*device)(nil)
	_ gpu.Profiler = (*device)(nil)
	_ gpu.Ring     = (*device)(nil)
)

// enterLocked is what each call of a device begins with. On success the board is locked and up to date; the
// time is that of the call, in ns since 1970.
func (d *device) enterLocked(c call) (now int64, ret gpu.Return) {
	n, b := d.driver.node, d.board
	if callSet(n.hidden.Load()).has(c) {
		return 0, gpu.FunctionNotFound
	}
	if callSet(b.blocked.Load()).has(c) {
		<-d.driver.closed
	}
	select {
	case <-d.driver.closed:
		return 0, gpu.Uninitialized
	default:
	}
	now = n.now().UnixNano()
	n.happen(now)
	if now < n.downUntil.Load() {
		return now, gpu.DriverNotLoaded
	}
	b.mu.Lock()
	switch {
	case b.fault.lost:
		ret = gpu.GPUIsLost
	case b.fault.resetRequired:
		ret = gpu.ResetRequired
	default:
		b.advance(now / int64(quantum))
		return now, gpu.Success
	}
	b.mu.Unlock()
	return now, ret
}

// UUID names the GPU.
func (d *device) UUID() string { return d.board.uuid }

// Identity reads names, versions, limits and place.
func (d *device) Identity() (gpu.Identity, gpu.Return) {
	if _, ret := d.enterLocked(callIdentity); !ret.OK() {
		return gpu.Identity{}, ret
	}
	defer d.board.mu.Unlock()
	return d.driver.node.identity(d.board), gpu.Success
}

// Fields answers many fields.
func (d *device) Fields(values []gpu.FieldValue) gpu.Return {
	if _, ret := d.enterLocked(callFields); !ret.OK() {
		return ret
	}
	d.driver.node.answers.fill(d.board, values)
	d.board.mu.Unlock()
	return gpu.Success
}

// Get answers one getter.
func (d *device) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	n := d.driver.node
	if ret := unanswered(n.spec, n.software, getter); !ret.OK() {
		return ret
	}
	if _, ret := d.enterLocked(call(getter)); !ret.OK() {
		return ret
	}
	ret := d.board.get(getter, parts)
	d.board.mu.Unlock()
	return ret
}

// Profile fills in the performance monitoring metrics since the call that last succeeded or began a window. A
// call that comes too early leaves the window as it is.
func (d *device) Profile(values []gpu.ProfileValue) (time.Duration, gpu.Return) {
	if !d.driver.node.spec.gpm {
		return 0, gpu.NotSupported
	}
	now, ret := d.enterLocked(callProfile)
	if !ret.OK() {
		return 0, ret
	}
	defer d.board.mu.Unlock()
	done := d.board.done
	during, length, ret := d.window.move(now, done)
	if !ret.OK() {
		return 0, ret
	}
	if d.board.profiled() {
		during, done = totals{quanta: during.quanta}, totals{}
	}
	known := performance{window: during, total: done, grace: d.board.spec.grace, cycles: d.driver.node.software.cycleCounters}
	known.profile(values)
	return length, gpu.Success
}

// Samples appends the samples of one of the driver's ring buffers.
func (d *device) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if _, ret := d.enterLocked(callSamples); !ret.OK() {
		return into, ret
	}
	if len(d.board.slices) > 0 {
		d.board.mu.Unlock()
		return into, gpu.NotSupported // nvml.h: not on GPUs with MIG
	}
	into, ret := d.board.samples(kind, &d.driver.node.clock, since, into)
	d.board.mu.Unlock()
	return into, ret
}
