// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// budget bounds the bytes of all queues together.
type budget struct {
	limit int64
	used  atomic.Int64
}

func newBudget(limit int64) *budget { return &budget{limit: limit} }

func (b *budget) exceeded() bool { return b.used.Load() > b.limit }

// entry is a batch on its way.
type entry struct {
	batch *wire.Batch
	sent  bool // on the present stream, and not answered yet
	tries int
}

// queue holds the unanswered batches of one table, oldest first.
type queue struct {
	table     schema.Table
	budget    *budget
	onLoss    func(Loss)
	retryWait time.Duration // before a batch that arrived damaged is sent again

	mu      sync.Mutex // guards the fields below
	entries []*entry   // ascending sequence
	bytes   int64      // of the entries
	flying  int64      // bytes of the entries that are sent
	stats   Stats
	changed chan struct{} // closed and renewed at each change that a waiter may wait for
}

func newQueue(t schema.Table, b *budget, cfg Config) *queue {
	return &queue{table: t, budget: b, onLoss: cfg.OnLoss, retryWait: cfg.RetryWait, changed: make(chan struct{})}
}

// push appends a batch.
func (q *queue) push(b *wire.Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, &entry{batch: b})
	q.stats.Queued++
	q.bytes += int64(b.Bytes())
	q.budget.used.Add(int64(b.Bytes()))
	q.notifyLocked()
}

// held is how many bytes could be dropped: the newest batch of a table always stays.
func (q *queue) held() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) < 2 {
		return 0
	}
	return q.bytes
}

// dropOldest gives up the oldest batch; false if there is none but the newest.
func (q *queue) dropOldest() bool {
	q.mu.Lock()
	if len(q.entries) < 2 {
		q.mu.Unlock()
		return false
	}
	lost := q.removeLocked(0)
	q.stats.Dropped++
	q.notifyLocked()
	q.mu.Unlock()
	q.report(lost, false, "send queue is full")
	return true
}

func (q *queue) report(e *entry, rejected bool, reason string) {
	if q.onLoss != nil {
		q.onLoss(Loss{Key: e.batch.Identity.Key(), Rows: e.batch.Identity.Rows, Rejected: rejected, Reason: reason})
	}
}

func (q *queue) notifyLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) removeLocked(i int) *entry {
	e := q.entries[i]
	q.entries = append(q.entries[:i], q.entries[i+1:]...)
	size := int64(e.batch.Bytes())
	q.bytes -= size
	q.budget.used.Add(-size)
	if e.sent {
		q.flying -= size
	}
	return e
}

// oldest is the lowest sequence that is not answered; waiting is false if there is none.
func (q *queue) oldest() (sequence uint64, waiting bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == 0 {
		return 0, false
	}
	return q.entries[0].batch.Identity.Sequence, true
}

// waitNonEmpty returns once there is something to send.
func (q *queue) waitNonEmpty(ctx context.Context) bool {
	return q.wait(ctx, func() bool { return len(q.entries) > 0 })
}

// waitEmpty returns once everything is answered.
func (q *queue) waitEmpty(ctx context.Context) bool {
	return q.wait(ctx, func() bool { return len(q.entries) == 0 })
}

// wait returns once the condition, called with the lock held, is true; false if the context ended.
func (q *queue) wait(ctx context.Context, condition func() bool) bool {
	for {
		q.mu.Lock()
		ok, changed := condition(), q.changed
		q.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// next waits for a batch that is not sent yet and fits the window. One batch may always fly, however
// small the window is. It returns nil when the context ended.
func (q *queue) next(ctx context.Context, window *atomic.Uint32) *wire.Batch {
	var found *entry
	ok := q.wait(ctx, func() bool {
		for _, e := range q.entries {
			if e.sent {
				continue
			}
			size := int64(e.batch.Bytes())
			if q.flying > 0 && q.flying+size > int64(window.Load()) {
				return false
			}
			q.flying += size
			e.sent = true
			if e.tries++; e.tries > 1 {
				q.stats.Resent++
			}
			found = e
			return true
		}
		return false
	})
	if !ok {
		return nil
	}
	return found.batch
}

// unsend forgets what the broken stream had sent: all of it will be sent again.
func (q *queue) unsend() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		e.sent = false
	}
	q.flying = 0
}

// answer settles a batch.
func (q *queue) answer(a wire.Answer) {
	q.mu.Lock()
	i := q.findLocked(a.Sequence)
	if i < 0 {
		q.notifyLocked() // the window may have changed
		q.mu.Unlock()
		return
	}
	var rejected *entry
	switch a.Kind {
	case wire.Stored:
		q.removeLocked(i)
		q.stats.Stored++
	case wire.Rejected:
		rejected = q.removeLocked(i)
		q.stats.Rejected++
	case wire.Retry:
		e := q.entries[i]
		time.AfterFunc(q.retryWait, func() { q.sendAgain(e) })
	case wire.Welcome, wire.Accepted:
	}
	q.notifyLocked()
	q.mu.Unlock()
	if rejected != nil {
		q.report(rejected, true, a.Reason)
	}
}

// sendAgain has an entry sent once more on the present stream.
func (q *queue) sendAgain(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.sent {
		e.sent = false
		q.flying -= int64(e.batch.Bytes())
	}
	q.notifyLocked()
}

// findLocked is the index of a sequence, or -1. Answers come nearly in order, so the search is short.
func (q *queue) findLocked(sequence uint64) int {
	for i, e := range q.entries {
		if e.batch.Identity.Sequence == sequence {
			return i
		}
		if e.batch.Identity.Sequence > sequence {
			break
		}
	}
	return -1
}

func (q *queue) addTo(sum *Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	sum.Queued += q.stats.Queued
	sum.Stored += q.stats.Stored
	sum.Rejected += q.stats.Rejected
	sum.Dropped += q.stats.Dropped
	sum.Resent += q.stats.Resent
	sum.WaitingBatches += int64(len(q.entries))
	sum.WaitingBytes += q.bytes
}
