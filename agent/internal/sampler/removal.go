// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
)

// removeAfter is how long a GPU that is lost and not listed belongs to the node all the same: a dead GPU has to be
// seen for longer than one night, and one that was taken out is not to be missed for ever.
const removeAfter = 24 * time.Hour

// sweep compares the GPUs that are known with a listing: one that has no worker and is not listed is lost, one that
// was unbound, or has been lost for too long, is removed.
func (r *session) sweep(listed []gpu.Device, now time.Time) error {
	lostAndListed := false
	for _, uuid := range slices.Sorted(maps.Keys(r.known)) {
		h := r.known[uuid]
		if h.identity == nil || h.identity.ParentUUID != "" {
			continue // it was removed, or is an instance
		}
		isListed := slices.ContainsFunc(listed, func(d gpu.Device) bool { return d.UUID() == uuid })
		if isListed {
			h.listedAt, lostAndListed = now, lostAndListed || h.lost
			continue
		}
		if slices.ContainsFunc(r.workers, func(w *worker) bool { return w.uuid == uuid && !w.lost }) {
			continue
		}
		h.unbound = h.unbound || r.unnamed && !h.lost
		if err := r.sweepOne(uuid, h, now); err != nil {
			return err
		}
	}
	r.unnamed = false
	if lostAndListed && due(now, &r.lastKept, lostInterval) {
		r.lostChanged()
	}
	return nil
}

func (r *session) sweepOne(uuid string, h *history, now time.Time) error {
	missing := now.Sub(h.missingSince())
	switch {
	case h.unbound:
		return r.remove(uuid, h, "it was unbound from the driver")
	case !h.lost:
		h.lost, h.lostAt = true, now
		r.lostChanged()
		return r.write(event.Event{UUID: uuid, Kind: "gpu_lost", Message: "the driver was opened again, and does not list it"})
	case missing >= removeAfter:
		return r.remove(uuid, h, fmt.Sprintf("the driver has not listed it for %s", missing.Round(time.Hour)))
	default:
		return nil
	}
}

// remove ends what is written of a GPU. If it comes back it is a new one of the same name.
func (r *session) remove(uuid string, h *history, why string) error {
	r.workers = slices.DeleteFunc(r.workers, func(w *worker) bool { return w.uuid == uuid })
	r.stats.Reduced.move(h.strain.cut, noCut)
	for _, instance := range slices.Sorted(maps.Keys(r.known)) {
		if i := r.known[instance].identity; i != nil && i.ParentUUID == uuid {
			if err := r.endInventory(instance, r.known[instance]); err != nil {
				return err
			}
		}
	}
	if err := r.endInventory(uuid, h); err != nil {
		return err
	}
	h.lost, h.unbound, h.strain = false, false, strain{}
	r.lostChanged()
	if r.cfg.Usage != nil {
		r.cfg.Usage(Usage{UUID: uuid, Gone: true})
	}
	r.cfg.Logger.Info("GPU is removed", "gpu", uuid, "reason", why)
	return r.write(event.Event{UUID: uuid, Kind: "gpu_removed", Message: why})
}

// endInventory writes the last observation of a GPU, which ends the interval of the one before.
func (r *session) endInventory(uuid string, h *history) error {
	h.found = false
	if h.identity == nil {
		return nil
	}
	cells := gpuCells(time.Now(), uuid, h.identity, true)
	h.identity = nil
	return r.cfg.Sink.Append(schema.GPUInventoryID, cells)
}

// endOldParts ends the inventory of a GPU's instances of which none is there: those of before the driver was opened.
func (r *session) endOldParts(w *worker) error {
	for _, uuid := range slices.Sorted(maps.Keys(r.known)) {
		h := r.known[uuid]
		if h.identity == nil || h.identity.ParentUUID != w.uuid {
			continue
		}
		if slices.ContainsFunc(r.workers, func(p *worker) bool { return p.uuid == uuid }) {
			continue
		}
		if err := r.endInventory(uuid, h); err != nil {
			return err
		}
	}
	return nil
}
