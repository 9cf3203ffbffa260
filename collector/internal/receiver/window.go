// SPDX-License-Identifier: Apache-2.0

package receiver

import "sync/atomic"

// Credit that one stream may have: enough for a few batches, and never so much that one agent fills
// the memory.
const (
	minWindowBytes = 64 << 10
	maxWindowBytes = 4 << 20
)

// streams shares the memory out among the open streams.
type streams struct {
	budget int64
	open   atomic.Int64
	held   atomic.Int64 // bytes of admitted batches that are not stored yet
}

// window is the credit of one stream now: its share of what is free.
func (s *streams) window() uint32 {
	free := max(s.budget-s.held.Load(), 0)
	share := free / max(s.open.Load(), 1)
	return uint32(min(max(share, minWindowBytes), maxWindowBytes))
}
