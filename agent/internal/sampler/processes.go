// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math/bits"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// Usage is who uses one GPU, as its driver says.
type Usage struct {
	UUID      string
	Minor     *int64 // of /dev/nvidiaN; nil if the driver does not tell
	Instances []gpu.Instance
	Processes []gpu.Process
	Return    gpu.Return // of the processes: without Success there are none
	Gone      bool       // the GPU is no longer in the node, and the rest means nothing
}

// instanceCalls is what it takes to list the instances of a GPU; more only for those that are new.
const instanceCalls = 1

// rareLooks is the number of looks in which one asks for kinds of contexts of which there are none.
const rareLooks = 6

func (r *session) usageDue(now time.Time) bool {
	return r.cfg.Usage != nil && due(now, &r.lastUsage, r.cfg.UsageInterval)
}

// readUsage asks who uses the GPU. It comes last in a request: the rows do not wait for what is slow here.
// Instances that cannot be read are those that were read before.
func (w *worker) readUsage() gpu.Return {
	u := &w.usage
	if d, ok := w.device.(gpu.Instances); w.isWhole() {
		u.Instances = nil // those of before it was made whole are gone
	} else if ok {
		started := time.Now()
		instances, ret := d.Instances(nil)
		w.called(callParts, instanceCalls, started)
		switch {
		case stops(ret):
			return ret
		case ret.OK():
			u.Instances = instances
		}
	}
	u.Processes, u.Return = u.Processes[:0], gpu.NotSupported
	if d, ok := w.device.(gpu.Processes); ok {
		kinds := w.kindsDue()
		started := time.Now()
		u.Processes, u.Return = d.Processes(kinds, u.Processes)
		w.called(callProcesses, uint64(bits.OnesCount8(uint8(kinds))), started)
		w.seen(kinds, u.Processes)
	}
	if stops(u.Return) {
		return u.Return
	}
	return gpu.Success
}

// kindsDue are the kinds of contexts that are asked for: compute always, others while there are some.
func (w *worker) kindsDue() gpu.ProcessKinds {
	kinds := w.kinds
	if w.looks%rareLooks == 0 {
		kinds = gpu.AllProcesses
	}
	kinds.Add(gpu.ComputeProcess)
	w.looks++
	return kinds
}

func (w *worker) seen(asked gpu.ProcessKinds, list []gpu.Process) {
	w.kinds &^= asked
	for i := range list {
		w.kinds.Add(list[i].Kind)
	}
}

// isWhole tells that the GPU was not split when it was last asked how.
func (w *worker) isWhole() bool {
	_, ok := w.device.(gpu.Splitter)
	return ok && w.partsKnown && len(w.instances) == 0
}

// tellUsage hands on a copy of what a worker read: the worker goes on with its own.
func (r *session) tellUsage(w *worker) {
	if !w.request.usage || r.cfg.Usage == nil {
		return
	}
	u := w.usage
	u.UUID, u.Minor = w.uuid, w.identity.Minor
	u.Instances, u.Processes = slices.Clone(u.Instances), slices.Clone(u.Processes)
	r.cfg.Usage(u)
}
