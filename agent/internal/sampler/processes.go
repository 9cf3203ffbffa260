// SPDX-License-Identifier: Apache-2.0

package sampler

import (
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
}

// Driver calls that it takes to read who uses a GPU.
const (
	processCalls  = 3 // one for each kind of context
	instanceCalls = 1 // more only for instances that are new
)

func (r *session) usageDue(now time.Time) bool {
	return r.cfg.Usage != nil && due(now, &r.lastUsage, r.cfg.UsageInterval)
}

// readUsage asks who uses the GPU. It comes last in a request: the rows do not wait for what is slow here.
// Instances that cannot be read are those that were read before.
func (w *worker) readUsage() gpu.Return {
	u := &w.usage
	if d, ok := w.device.(gpu.Instances); ok {
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
		started := time.Now()
		u.Processes, u.Return = d.Processes(u.Processes)
		w.called(callProcesses, processCalls, started)
	}
	if stops(u.Return) {
		return u.Return
	}
	return gpu.Success
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
