// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/schema"
)

// Credit that one stream may have: enough for a few batches, and never so much that one agent fills
// the memory.
const (
	minWindowBytes = 64 << 10
	maxWindowBytes = 4 << 20
)

// share is one table's part of the memory: a table that cannot be stored fills its own and no other's.
type share struct {
	budget int64
	memory *semaphore.Weighted
	open   atomic.Int64 // streams
	held   atomic.Int64 // bytes of admitted batches that are not stored yet
	came   atomic.Int64 // bytes over the wire so far,
	became atomic.Int64 // and in memory
}

// weight shares the memory out among the tables. Events and inventory are few, and are what is wanted
// most when things go wrong.
func weight(table uint8) int64 {
	switch table {
	case schema.SamplesID:
		return 8
	case schema.EventsID, schema.NodeInventoryID, schema.GPUInventoryID, schema.WorkloadID, schema.NetworkPortsID, schema.TokensID:
		return 1
	default:
		return 2
	}
}

func newShares(bytes int64) map[uint8]*share {
	var sum int64
	for _, t := range schema.Tables() {
		sum += weight(t.ID)
	}
	shares := make(map[uint8]*share)
	for _, t := range schema.Tables() {
		budget := max(bytes*weight(t.ID)/sum, 1)
		shares[t.ID] = &share{budget: budget, memory: semaphore.NewWeighted(budget)}
	}
	return shares
}

// take waits until there is room for a batch. What is larger than the share takes all of it.
func (s *share) take(ctx context.Context, came, becomes int64) (release func(), err error) {
	size := min(max(came, becomes), s.budget)
	if err := s.memory.Acquire(ctx, size); err != nil {
		return nil, err
	}
	s.held.Add(size)
	s.came.Add(came)
	s.became.Add(max(came, becomes))
	return func() {
		s.held.Add(-size)
		s.memory.Release(size)
	}, nil
}

// window is the credit of one stream now: its part of what is free, in bytes over the wire, of which
// each has become more in memory so far.
func (s *share) window() uint32 {
	free := max(s.budget-s.held.Load(), 0)
	part := min(free/max(s.open.Load(), 1), s.budget/2) // no agent may hold more than half
	part /= max(s.became.Load()/max(s.came.Load(), 1), 1)
	return uint32(min(max(part, minWindowBytes), maxWindowBytes))
}

// damage counts the messages of each life that arrived damaged.
type damage struct {
	mu    sync.Mutex // guards lives
	lives map[index.Life]int
}

// maxDamagedLives bounds the count's memory; past it counting begins anew.
const maxDamagedLives = 1 << 14

func (d *damage) add(l index.Life) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lives) >= maxDamagedLives {
		clear(d.lives)
	}
	d.lives[l]++
	return d.lives[l]
}
