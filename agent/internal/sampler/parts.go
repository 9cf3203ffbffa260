// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// MIG instances are GPUs of their own, with a worker each. The GPU that they are parts of is asked for them by its
// own worker: one that hangs does not keep the others from being found.

// partsInterval is the time between two looks at how GPUs are split, should the driver not tell of a change.
const partsInterval = time.Minute

// partsCalls is what a GPU costs that is not split.
const partsCalls = 1

// readParts lists the MIG instances of the GPU. Where that fails, as when one of them vanishes meanwhile, those that are
// known stay.
func (w *worker) readParts() gpu.Return {
	splitter, ok := w.device.(gpu.Splitter)
	if !ok {
		return gpu.Success
	}
	started := time.Now()
	parts, ret := splitter.Parts()
	w.called(callParts, partsCalls+uint64(len(parts)), started)
	if ret.OK() {
		w.instances, w.partsRead, w.partsKnown = parts, true, true
	}
	return ret
}

// takeParts gives the instances of a GPU workers, and ends those of instances that are gone.
func (r *session) takeParts(w *worker) error {
	changed := false
	for _, p := range slices.Clone(r.workers) {
		if p.parent != w || slices.ContainsFunc(w.instances, func(d gpu.Device) bool { return d == p.device }) {
			continue
		}
		changed = true
		if err := r.retire(p); err != nil {
			return err
		}
	}
	for _, d := range w.instances {
		if slices.ContainsFunc(r.workers, func(p *worker) bool { return p.device == d }) {
			continue
		}
		changed = true
		r.start(d, w)
	}
	if err := r.endOldParts(w); err != nil {
		return err
	}
	// A GPU that is split answers less than one that is whole. What it was probed for just now is right.
	w.owesProbe = changed && !w.request.attach && !w.request.reprobe
	return nil
}

// retire ends the worker of an instance that is gone, as after it was destroyed: that is no loss.
func (r *session) retire(p *worker) error {
	p.retired = true
	close(p.requests)
	r.workers = slices.DeleteFunc(r.workers, func(w *worker) bool { return w == p })
	r.cfg.Logger.Info("MIG instance is gone", "gpu", p.uuid, "parent", p.parent.uuid)
	return errors.Join(r.giveRows(p), r.endInventory(p.uuid, r.history(p.uuid)))
}

// retireParts ends the workers of all instances of a GPU.
func (r *session) retireParts(w *worker) error {
	for _, p := range slices.Clone(r.workers) {
		if p.parent != w {
			continue
		}
		if err := r.retire(p); err != nil {
			return err
		}
	}
	return nil
}

// partFailed has the GPU of an instance that does not answer asked whether it is still there.
func (r *session) partFailed(p *worker) error {
	p.parent.owesParts = true
	if p.ret != p.failed {
		r.cfg.Logger.Warn("MIG instance cannot be read", "gpu", p.uuid, "parent", p.parent.uuid, "return", p.ret)
	}
	p.failed = p.ret
	return r.giveRows(p)
}
