// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"cmp"
	"slices"
)

// sample is one sample as it lies in memory.
//
//	 0        8                 16       17       24
//	┌────────┬─────────────────┬────────┬────────┐
//	│ at     │ driver          │ signal │ value  │
//	│ µs     │ µs, its clock   │ uint8  │ int56  │
//	└────────┴─────────────────┴────────┴────────┘
type sample struct {
	at, driver int64
	what       int64 // signal and value
}

const signalBits = 8

// what packs a signal and a value. The largest that a ring gives is some million milliwatts.
func what(signal uint8, value int64) int64 { return value<<signalBits | int64(signal) }

func (s sample) signal() uint8 { return uint8(s.what) }
func (s sample) value() int64  { return s.what >> signalBits }

// window is the time around a fault, in µs.
type window struct {
	fault       int64
	from, until int64
}

func (w window) holds(at int64) bool { return w.from <= at && at <= w.until }

// firstAt is the first fault whose window holds a time; 0 if none does.
func firstAt(windows []window, at int64) int64 {
	for _, w := range windows {
		if w.holds(at) {
			return w.fault
		}
	}
	return 0
}

// maxWindows bounds the faults of one GPU whose windows are open.
const maxWindows = 16

// tape is a ring of the latest samples of one GPU, the oldest at start. It grows until it holds most.
type tape struct {
	most     int
	ring     []sample
	start, n int
	newest   map[uint8]sample // by signal
	windows  []window
	waits    bool // a window was opened, and what is kept of it is still to be sent
}

// repeats tells that a sample was there before, as after the driver was opened again: its rings are read anew. A
// driver or machine whose clock was set back repeats nothing.
func (t *tape) repeats(s sample) bool {
	last, known := t.newest[s.signal()]
	if known && s.driver <= last.driver && s.at <= last.at {
		return true
	}
	t.newest[s.signal()] = s
	return false
}

func (t *tape) keep(s sample) {
	if t.n == len(t.ring) {
		if t.n == t.most {
			if t.n > 0 {
				t.ring[t.start], t.start = s, (t.start+1)%t.n
			}
			return
		}
		t.grow()
	}
	t.ring[(t.start+t.n)%len(t.ring)] = s
	t.n++
}

// firstRoom is what a tape begins with: a GPU that is idle gives no samples.
const firstRoom = 1024

func (t *tape) grow() {
	larger := make([]sample, min(max(2*len(t.ring), firstRoom), t.most))
	for i := range t.n {
		larger[i] = *t.at(i)
	}
	t.ring, t.start = larger, 0
}

// at is the sample with a number from the oldest on.
func (t *tape) at(i int) *sample { return &t.ring[(t.start+i)%len(t.ring)] }

// cut moves the samples of open windows from the tape.
func (t *tape) cut(into []sample) []sample {
	kept := 0
	for i := range t.n {
		s := *t.at(i)
		if firstAt(t.windows, s.at) != 0 {
			into = append(into, s)
			continue
		}
		*t.at(kept) = s
		kept++
	}
	t.n, t.waits = kept, false
	return into
}

// touches tells that two windows have a time in common.
func (w window) touches(o window) bool { return w.from <= o.until && o.from <= w.until }

// open adds a window, and forgets those that ended before a time. When there are too many it widens the latest one that
// it touches, whose samples name a fault that was shortly before then; if there is none, the one that ends first is
// forgotten.
func (t *tape) open(w window, over int64) {
	t.windows = slices.DeleteFunc(t.windows, func(w window) bool { return w.until < over && !t.waits })
	t.waits = true
	if len(t.windows) < maxWindows {
		t.windows = append(t.windows, w)
		return
	}
	for i := range slices.Backward(t.windows) {
		if known := &t.windows[i]; known.touches(w) {
			known.from, known.until = min(known.from, w.from), max(known.until, w.until)
			return
		}
	}
	first := slices.MinFunc(t.windows, func(a, b window) int { return cmp.Compare(a.until, b.until) })
	t.windows = append(slices.DeleteFunc(t.windows, func(w window) bool { return w == first }), w)
}
