// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"slices"
)

// Holder is who has a GPU or instance, as far as its workload may serve something. What is not known is empty.
type Holder struct {
	UUID string // of the GPU or instance

	Kind                   string
	Namespace, Pod, PodUID string
	Job                    string
	Deployment, Team       string
	Model, Role            string // as the pod's labels say

	Address string // of the pod
	Page    string // URL of the page of metrics that the pod's annotations name

	PID     uint32 // that holds most of the GPU's memory; 0 if none is known
	Process string // its name
}

// Holders is who has what, as it was last seen. It may be called while Run runs. Callers must not change it.
func (w *Watcher) Holders() []Holder {
	if list := w.holders.Load(); list != nil {
		return *list
	}
	return nil
}

// publish lets Holders know what the tracker knows.
func (w *Watcher) publish() {
	list := w.tracker.holders()
	w.holders.Store(&list)
}

// holders are the owners of all intervals that are open, in the order of UUIDs.
func (t *tracker) holders() []Holder {
	var list []Holder
	for uuid, tr := range t.targets {
		for i := range tr.open {
			o := &tr.open[i].owner
			if o.Kind == kindNone {
				continue
			}
			list = append(list, Holder{
				UUID: uuid, Kind: o.Kind, Namespace: o.Namespace, Pod: o.Pod, PodUID: o.PodUID, Job: o.Job, Deployment: o.Deployment, Team: o.Team,
				Model: o.Model, Role: o.offer.role, Address: o.offer.address, Page: o.offer.page, PID: o.use.pid, Process: o.use.name,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b Holder) int { return cmp.Compare(a.UUID, b.UUID) })
	return list
}
