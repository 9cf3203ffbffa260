// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
)

// story is what happens to one GPU that is not shared, look by look, as bytes say.
type story struct {
	tracker *tracker
	now     time.Time
	rows    []row
}

// step makes one look. The lower bits choose who has the GPU, the upper ones since when and what is known of it.
func (s *story) step(b byte) {
	s.now = s.now.Add(10 * time.Second)
	o := Owner{Kind: kindNone, Reason: reasonFree}
	certain, away := b&0x40 == 0, b&0x80 != 0
	switch b & 7 {
	case 0, 1:
		if !certain {
			o.Reason = reasonUnreachable
		}
	case 2, 3, 4:
		o = Owner{Kind: kindKubernetes, Namespace: "n", Pod: "p" + string('0'+b&7), Container: "c"}
	case 5, 6:
		o = Owner{Kind: kindSlurm, Job: "j" + string('0'+b&7), use: use{count: 1}}
	case 7:
		o = Owner{Kind: kindProcess, use: use{pid: 1, started: time.Unix(int64(b>>3&3), 0), count: 1}}
	}
	if o.Kind != kindNone && b>>3&3 != 0 {
		o.Started = s.now.Add(-time.Duration(b>>3&3) * 7 * time.Second)
	}
	s.rows = append(s.rows, s.tracker.update(s.now, snapshot{away: away, found: []found{{
		Target: device.Target{UUID: "GPU-1", GPU: "GPU-1", GI: device.None, CI: device.None}, owners: []Owner{o}, certain: certain,
	}}})...)
}

// intervals are the last rows of all intervals, in the order in which they were opened.
func (s *story) intervals() (list []interval) {
	at := make(map[uint64]int)
	for _, r := range s.rows {
		i, known := at[r.id]
		if !known {
			i = len(list)
			at[r.id] = i
			list = append(list, r.interval)
		}
		from := list[i].from
		list[i] = r.interval
		list[i].from = from
	}
	return list
}

// FuzzTracker: whatever is seen of a GPU that is not shared, its intervals follow each other without a gap, none ends
// before it begins, and only the last one is open.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0, 2, 2, 3, 0})
	f.Add([]byte{0x40, 0x40, 0x0a, 0x82, 0x83, 0x12})
	f.Add([]byte{7, 0x40, 0x12})
	f.Add([]byte{7, 0x40, 0x0f, 5, 0x0d, 6, 0x40, 2})
	f.Add([]byte{0x0a, 0xc0, 0x93, 0x1b, 0x0a, 0, 0x0a})
	f.Fuzz(func(t *testing.T, looks []byte) {
		s := story{tracker: newTracker("node"), now: time.Unix(1_800_000_000, 0)}
		for _, b := range looks[:min(len(looks), 500)] {
			s.step(b)
		}
		list, known := s.intervals(), false
		for i, iv := range list {
			last := i == len(list)-1
			if iv.to.IsZero() != last {
				t.Fatalf("interval %d of %d ends at %v: %+v", i, len(list), iv.to, iv)
			}
			if last {
				break
			}
			next := list[i+1]
			known = known || iv.to.After(iv.from)
			before := next.from.Before(iv.to) && !known // who had it before anybody could say was found out later
			if iv.to.Before(iv.from) || !before && !iv.to.Equal(next.from) {
				t.Fatalf("%v to %v is followed by %v to %v: %+v, %+v", iv.from, iv.to, next.from, next.to, iv.owner, next.owner)
			}
		}
	})
}
