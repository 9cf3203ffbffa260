// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// result writes what a worker read.
func (r *session) result(w *worker) error {
	if w.burst.reading {
		return r.burstResult(w)
	}
	w.busy, w.gone = false, false
	r.stats.DriverCalls.Add(w.calls)
	r.stats.ReadNanos.Add(uint64(w.spent))
	if w.retired {
		return nil
	}
	if err := r.judgeTick(w); err != nil {
		return err
	}
	switch {
	case w.parent != nil && !w.ret.OK():
		return r.partFailed(w)
	}
	failed := w.failed
	w.failed = w.ret
	switch {
	case w.ret.Lost():
		return r.lose(w)
	case !w.ret.OK():
		w.gone = w.ret.Gone()
		r.answering(w, false)
		if err := r.giveRows(w); err != nil {
			return err
		}
		if w.ret != failed {
			r.cfg.Logger.Warn("GPU cannot be read", "gpu", w.uuid, "return", w.ret)
		}
		return r.endIfGone()
	}
	if err := r.back(w); err != nil {
		return err
	}
	r.heed(w)
	r.tellUsage(w)
	if err := r.writeRows(w); err != nil || !w.partsRead {
		return err
	}
	return r.takeParts(w)
}

// writeRows begins with what the GPU is: who looks at the rows on their way knows it only from there.
func (r *session) writeRows(w *worker) error {
	if w.identityRead {
		if err := r.writeIdentity(w); err != nil {
			return err
		}
	}
	r.history(w.uuid).epoch = w.counterEpoch
	if err := r.takeSample(w); err != nil {
		return err
	}
	if w.request.health {
		if err := r.cfg.Sink.Append(schema.HealthID, w.healthCells); err != nil {
			return err
		}
	}
	if w.reset {
		return r.write(event.Event{UUID: w.uuid, Kind: "counters_reset", Message: "a counter went down: the driver was loaded again, or the GPU was reset"})
	}
	return nil
}

// writeIdentity writes a row of gpu_inventory if something changed, or if one was asked for.
func (r *session) writeIdentity(w *worker) error {
	cells := gpuCells(time.Now(), w.uuid, &w.identity, false)
	identity := w.identity
	r.history(w.uuid).identity = &identity
	if !w.request.inventory && cells[gpuHash] == w.written {
		return nil
	}
	w.written = cells[gpuHash]
	return r.cfg.Sink.Append(schema.GPUInventoryID, cells)
}

// history is what is remembered of a GPU.
func (s *Sampler) history(uuid string) *history {
	h := s.known[uuid]
	if h == nil {
		h = &history{}
		s.known[uuid] = h
	}
	return h
}

// back notes that a GPU answered for the first time, or again after it was stuck or lost.
func (r *session) back(w *worker) error {
	if err := r.driverBack(); err != nil {
		return err
	}
	r.answering(w, true)
	h := r.history(w.uuid)
	wasStuck, wasLost, wasKnown := w.stuck, h.lost || h.unbound, h.found
	w.attached, w.stuck = true, false
	h.found, h.lost, h.unbound, h.backoff = true, false, false, 0
	if wasLost {
		r.lostChanged()
	}
	switch {
	case wasLost:
		return r.write(event.Event{UUID: w.uuid, Kind: "gpu_recovered", Message: "the driver answers for it again"})
	case !wasKnown:
		return r.write(event.Event{UUID: w.uuid, Kind: "gpu_found", Message: strings.TrimSpace(w.identity.Model + " " + w.identity.MIGProfile)})
	case wasStuck:
		return r.write(event.Event{UUID: w.uuid, Kind: "gpu_recovered", Message: "driver calls return again"})
	default:
		return nil
	}
}

// answering keeps count of the GPUs that answer, without MIG instances.
func (r *session) answering(w *worker, now bool) {
	switch {
	case w.parent != nil:
	case now && !w.counted:
		r.stats.GPUs.Add(1)
	case !now && w.counted:
		r.stats.GPUs.Add(-1)
	}
	w.counted = now
}

// longestBackoff bounds the time between two tries of a GPU that is listed and lost, in searches.
const longestBackoff = 10

// lose retires a worker whose GPU is gone. It is searched for from now on. A GPU that is listed, but
// was tried in vain, is tried less and less often, and not reported again.
func (r *session) lose(w *worker) error {
	w.lost = true
	close(w.requests)
	r.answering(w, false)
	if err := errors.Join(r.giveRows(w), r.retireParts(w)); err != nil {
		return err
	}
	h := r.history(w.uuid)
	h.retry = time.Now().Add(h.backoff)
	h.backoff = min(max(2*h.backoff, r.cfg.RescanInterval), longestBackoff*r.cfg.RescanInterval)
	if h.lost {
		return nil
	}
	h.lost, h.lostAt = true, time.Now()
	r.lostChanged()
	r.cfg.Logger.Warn("GPU is lost", "gpu", w.uuid, "return", w.ret)
	lost := event.Event{UUID: w.uuid, Kind: "gpu_lost", Message: w.ret.String()}
	if w.ret == gpu.ResetRequired {
		lost.Fault = &event.Fault{RecoveryAction: new(resetRequired)}
	}
	if err := r.write(lost); err != nil {
		return err
	}
	return r.endIfGone()
}

// resetRequired is what field 230 of NVML says of a GPU that requires a reset.
const resetRequired int64 = 1

// endIfGone ends the session if the driver is gone for every GPU that is not lost or stuck.
func (r *session) endIfGone() error {
	gone := false
	for _, w := range r.workers {
		if !w.gone && !w.lost && !w.stuck && w.parent == nil {
			return nil
		}
		gone = gone || w.gone
	}
	if !gone {
		return nil
	}
	if err := r.driverMissing("is gone"); err != nil {
		return err
	}
	return errDriverGone
}
