// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

var _ gpu.Binder = (*driver)(nil)

// bindLocked takes a GPU from the driver, or gives it back. As the real one does, a driver that is open keeps the
// GPU until it is closed, and sees one that it was given only when it is opened anew.
func (n *Node) bindLocked(index int, bound bool, at int64) {
	if n.unbound[index] != bound {
		return // it is so already
	}
	if n.unbound == nil {
		n.unbound = make(map[int]bool)
	}
	n.unbound[index] = !bound
	binding := gpu.Binding{Time: time.Unix(0, at), UUID: n.boards[index].uuid, Bound: bound}
	for _, d := range n.open {
		select {
		case d.changes <- binding:
		default: // nobody has asked for long
		}
	}
}

// NextBinding waits for a GPU to be bound or unbound.
func (d *driver) NextBinding(timeout time.Duration) (gpu.Binding, gpu.Return) {
	switch ret := d.enter(callBindings); ret {
	case gpu.FunctionNotFound:
		return gpu.Binding{}, gpu.NotSupported
	case gpu.Uninitialized:
		return gpu.Binding{}, ret
	default:
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case binding := <-d.changes:
		return binding, gpu.Success
	case <-d.closed:
		return gpu.Binding{}, gpu.Uninitialized
	case <-timer.C:
		return gpu.Binding{}, gpu.Timeout
	}
}
