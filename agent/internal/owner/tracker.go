// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
)

// tracker turns what is seen at moments into intervals. It belongs to Run's goroutine.
type tracker struct {
	node    string
	targets map[string]*tracked // by UUID
}

// tracked is a GPU or an instance, and who has it.
type tracked struct {
	device.Target

	open   []interval
	looked time.Time       // the last look that left nothing open to doubt; zero before the first
	spent  time.Time       // up to here it is written who had it
	ended  map[uint64]bool // ids of intervals that were closed; an owner that comes back has another one
}

// interval is a stretch of time in which an owner has a GPU.
type interval struct {
	id      uint64
	owner   Owner
	from    time.Time
	to      time.Time // zero while it is open
	certain bool      // else it may turn out that somebody had the GPU all the time
}

// row is what is to be written of an interval.
type row struct {
	interval

	at   time.Time
	uuid string
}

func newTracker(node string) *tracker {
	return &tracker{node: node, targets: make(map[string]*tracked)}
}

// update compares with what was seen before: owners that came, left, or became better known.
func (t *tracker) update(now time.Time, s snapshot) (rows []row) {
	present := make(map[string]bool)
	for i := range s.found {
		f := &s.found[i]
		present[f.UUID] = true
		rows = append(rows, t.compare(now, f, s.away)...)
	}
	for _, uuid := range slices.Sorted(maps.Keys(t.targets)) {
		if present[uuid] {
			continue
		}
		for _, left := range t.targets[uuid].open { // an instance that is no more
			left.to = now
			rows = append(rows, row{left, now, uuid})
		}
		delete(t.targets, uuid)
	}
	return rows
}

// compare takes what was seen of one target.
func (t *tracker) compare(now time.Time, f *found, away bool) (rows []row) {
	tr := t.targets[f.UUID]
	if tr == nil {
		tr = &tracked{Target: f.Target}
		t.targets[f.UUID] = tr
	}
	before := tr.open
	tr.open = nil
	var came []interval
	for i := range f.owners {
		o := &f.owners[i]
		at := slices.IndexFunc(before, func(iv interval) bool { return iv.owner.same(o) })
		if at < 0 {
			came = append(came, interval{owner: *o})
			continue
		}
		stays := before[at]
		before = slices.Delete(before, at, at+1)
		o.remember(&stays.owner)
		better := stays.owner.facts() != o.facts()
		stays.owner, stays.certain = *o, f.isCertain(o, away)
		tr.open = append(tr.open, stays)
		if better {
			rows = append(rows, row{stays, now, tr.UUID})
		}
	}
	for i := range came {
		came[i].certain = f.isCertain(&came[i].owner, away)
	}
	rows = append(rows, t.change(now, tr, before, came)...)
	if !slices.ContainsFunc(tr.open, func(iv interval) bool { return !iv.certain }) {
		tr.looked = now
	}
	return rows
}

// isCertain: who runs on a GPU is certain, who was given it as long as the kubelet says so, and that nobody has it
// only if everybody who could know says so.
func (f *found) isCertain(o *Owner, away bool) bool {
	switch o.Kind {
	case kindKubernetes:
		return !away || o.use.count > 0
	case kindNone:
		return !away && f.certain
	default:
		return true
	}
}

// change closes the intervals of those who left and opens those of who came. Where one follows the other, the
// moment is that at which the new owner says that it began. If that was before the last look it did not have the
// GPU then, and the moment is now, when it is seen.
func (t *tracker) change(now time.Time, tr *tracked, left, came []interval) (rows []row) {
	change := now
	for i := range came {
		iv := &came[i]
		iv.from = now
		if began := iv.owner.Started; began.After(tr.looked) && began.Before(now) {
			iv.from = began
			if began.Before(tr.spent) {
				iv.from = tr.spent
			}
		}
		iv.id = t.id(tr, iv)
		if iv.from.Before(change) {
			change = iv.from
		}
	}
	for _, iv := range left {
		iv.to = change
		if iv.to.Before(iv.from) {
			iv.to = iv.from
		}
		if iv.to.After(iv.from) && iv.to.After(tr.spent) {
			tr.spent = iv.to
		}
		tr.end(iv.id)
		rows = append(rows, row{iv, now, tr.UUID})
	}
	for _, iv := range came {
		rows = append(rows, row{iv, now, tr.UUID})
	}
	tr.open = append(tr.open, came...)
	return rows
}

// all are the rows of all intervals that are open.
func (t *tracker) all(now time.Time) (rows []row) {
	for _, uuid := range slices.Sorted(maps.Keys(t.targets)) {
		for _, iv := range t.targets[uuid].open {
			rows = append(rows, row{iv, now, uuid})
		}
	}
	return rows
}

// id names an interval. Where the owner tells when it began, the next life of the agent comes to the same name,
// and goes on with the interval.
func (t *tracker) id(tr *tracked, iv *interval) uint64 {
	if start := iv.owner.Started; !start.IsZero() {
		if id := t.hash(tr.UUID, iv, start); !tr.ended[id] {
			return id
		}
	}
	return t.hash(tr.UUID, iv, iv.from)
}

func (t *tracker) hash(uuid string, iv *interval, start time.Time) uint64 {
	h := fnv.New64a()
	for _, part := range []string{t.node, uuid, iv.owner.Kind, iv.owner.key(), strconv.FormatInt(start.UnixMilli(), 10)} {
		h.Write(strconv.AppendQuote(nil, part))
	}
	return h.Sum64()
}

// mostEnded bounds what is remembered.
const mostEnded = 1000

func (tr *tracked) end(id uint64) {
	if tr.ended == nil || len(tr.ended) >= mostEnded {
		tr.ended = make(map[uint64]bool)
	}
	tr.ended[id] = true
}
