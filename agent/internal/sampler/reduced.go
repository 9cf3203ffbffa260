// SPDX-License-Identifier: Apache-2.0

package sampler

import "sync/atomic"

// Reduced counts the GPUs of which less is read, by cut. It may be read at any time.
type Reduced struct {
	at [cutTicks + 1]atomic.Int64
}

func (r *Reduced) move(from, to cut) {
	r.at[from].Add(-1)
	r.at[to].Add(1)
}

// GPUs is how many there are.
func (r *Reduced) GPUs() (n int64) {
	for s := cutRings; s <= cutTicks; s++ {
		n += r.at[s].Load()
	}
	return n
}

// Cut is the deepest cut of any GPU: 1 without sub-second samples, 2 also without performance monitoring, 3 also
// without every second tick; 0 if all is read of all.
func (r *Reduced) Cut() int64 {
	for s := cutTicks; s > noCut; s-- {
		if r.at[s].Load() > 0 {
			return int64(s)
		}
	}
	return 0
}
