// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// eventLimit bounds the events that wait to be read; the oldest give way, as in a driver.
const eventLimit = 256

// bindingLimit bounds the GPUs that wait to be told of.
const bindingLimit = 32

// driver is one opening of a node's GPU driver.
type driver struct {
	node    *Node
	devices []device
	closed  chan struct{}
	wake    chan struct{} // holds one token while events wait
	changes chan gpu.Binding

	mu     sync.Mutex // guards the fields below
	queue  []gpu.Event
	isShut bool
}

var _ gpu.Driver = (*driver)(nil)

// System tells the versions of the node's driver.
func (d *driver) System() (gpu.System, gpu.Return) {
	if ret := d.enter(callSystem); !ret.OK() {
		return gpu.System{}, ret
	}
	s := d.node.software
	return gpu.System{DriverVersion: s.driver, NVMLVersion: s.nvml, CUDAVersion: s.cuda}, gpu.Success
}

// Devices lists the GPUs that are not lost.
func (d *driver) Devices() ([]gpu.Device, gpu.Return) {
	if ret := d.enter(callDevices); !ret.OK() {
		return nil, ret
	}
	list := make([]gpu.Device, 0, len(d.devices))
	for i := range d.devices {
		b := d.devices[i].board
		b.mu.Lock()
		lost := b.fault.lost
		b.mu.Unlock()
		if !lost {
			list = append(list, &d.devices[i])
		}
	}
	return list, gpu.Success
}

// enter is what each call of the driver begins with.
func (d *driver) enter(c call) gpu.Return {
	n := d.node
	if callSet(n.hidden.Load()).has(c) {
		return gpu.FunctionNotFound
	}
	if callSet(n.blocked.Load()).has(c) {
		<-d.closed
	}
	select {
	case <-d.closed:
		return gpu.Uninitialized
	default:
	}
	now := n.now().UnixNano()
	n.happen(now)
	if now < n.downUntil.Load() {
		return gpu.DriverNotLoaded
	}
	return gpu.Success
}

// NextEvent waits for the next event of the node. It sleeps until something happens: an injected fault, the
// next fault by chance, the timeout or the closing of the driver.
func (d *driver) NextEvent(timeout time.Duration) (gpu.Event, gpu.Return) {
	if ret := d.enter(callEvents); ret == gpu.FunctionNotFound || ret == gpu.Uninitialized {
		if ret == gpu.FunctionNotFound {
			ret = gpu.NotSupported
		}
		return gpu.Event{}, ret
	}
	deadline := time.Now().Add(timeout)
	var timer *time.Timer
	for {
		d.node.happen(d.node.now().UnixNano())
		if event, ok := d.pop(); ok {
			return event, gpu.Success
		}
		left := time.Until(deadline)
		if left <= 0 {
			return gpu.Event{}, gpu.Timeout
		}
		left = d.node.untilDue(left)
		if timer == nil {
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		select {
		case <-d.closed:
			return gpu.Event{}, gpu.Uninitialized
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// pop takes the oldest event that waits.
func (d *driver) pop() (gpu.Event, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return gpu.Event{}, false
	}
	event := d.queue[0]
	d.queue = d.queue[1:]
	if len(d.queue) == 0 {
		d.queue = nil
	}
	return event, true
}

// push hands an event to whoever waits for it.
func (d *driver) push(event gpu.Event) {
	d.mu.Lock()
	if len(d.queue) == eventLimit {
		d.queue = d.queue[1:]
	}
	d.queue = append(d.queue, event)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default: // the token is there already
	}
}

// Close releases the driver and all calls that are blocked in it.
func (d *driver) Close() gpu.Return {
	d.mu.Lock()
	shut := d.isShut
	d.isShut = true
	d.mu.Unlock()
	if shut {
		return gpu.Uninitialized
	}
	close(d.closed)
	d.node.forget(d)
	return gpu.Success
}
