// SPDX-License-Identifier: Apache-2.0

package loadgen

import (
	"sync"
	"time"
)

// maxWaitMilliseconds is the longest wait that is told apart.
const maxWaitMilliseconds = 600_000

// Waits counts how often something took how long, to the millisecond. Its zero value is ready; it may be used by
// several goroutines.
type Waits struct {
	mu    sync.Mutex
	count []uint64 // by milliseconds
	all   uint64
}

// Add counts one; what is negative counts as 0.
func (w *Waits) Add(d time.Duration) {
	at := min(max(d.Milliseconds(), 0), maxWaitMilliseconds)
	w.mu.Lock()
	defer w.mu.Unlock()
	if missing := int(at) + 1 - len(w.count); missing > 0 {
		w.count = append(w.count, make([]uint64, missing)...)
	}
	w.count[at]++
	w.all++
}

// Quantile is the time that a share of all did not exceed; 0 of nothing.
func (w *Waits) Quantile(share float64) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wanted, sum := uint64(share*float64(w.all)), uint64(0)
	for at, n := range w.count {
		if sum += n; n > 0 && sum >= wanted {
			return time.Duration(at) * time.Millisecond
		}
	}
	return 0
}

// Count is how many were added.
func (w *Waits) Count() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}
