// SPDX-License-Identifier: Apache-2.0

package place

import (
	"maps"
	"slices"
)

// tracker remembers what one source has said, so that each thing is reported once.
type tracker struct {
	known map[string]Notice // by id
}

// changes are what is new in what a source says now. What is no longer listed has ended.
func (t *tracker) changes(now []Notice) (changed []Notice) {
	if t.known == nil {
		t.known = make(map[string]Notice)
	}
	listed := make(map[string]bool)
	for _, n := range slices.Backward(now) {
		if listed[n.ID] {
			continue // of two that contradict each other the later one counts
		}
		listed[n.ID] = true
		if old, seen := t.known[n.ID]; worthTelling(n, old, seen) {
			changed = append(changed, n)
		}
		t.known[n.ID] = n
	}
	slices.Reverse(changed)
	for _, id := range slices.Sorted(maps.Keys(t.known)) {
		if listed[id] {
			continue
		}
		if gone, ended := t.vanish(id); ended {
			changed = append(changed, gone)
		}
	}
	return changed
}

// worthTelling: what had ended before it was seen for the first time is news to nobody.
func worthTelling(n, old Notice, seen bool) bool {
	if n.Kind == MaintenanceEnded && (!seen || old.Kind == MaintenanceEnded) {
		return false
	}
	return !seen || n.Kind != old.Kind || n.State != old.State || !n.NotBefore.Equal(old.NotBefore)
}

// vanish ends a maintenance that is no longer listed. An interruption that is no longer listed stays known: it
// was told once, and nothing takes it back.
func (t *tracker) vanish(id string) (ended Notice, ok bool) {
	n := t.known[id]
	switch n.Kind {
	case MaintenanceScheduled, MaintenanceStarted:
		delete(t.known, id)
		n.Kind, n.State = MaintenanceEnded, "no longer listed"
		return n, true
	case MaintenanceEnded:
		delete(t.known, id)
	default:
		if len(t.known) > maxNotices {
			delete(t.known, id)
		}
	}
	return Notice{}, false
}
