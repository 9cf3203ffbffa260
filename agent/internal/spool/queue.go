// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Queue holds the batches of one table that are not settled, oldest first: those in segments, then those in
// memory. Batches of earlier epochs come first.
type Queue struct {
	spool   *Spool
	table   schema.Table
	facts   bool   // what happened and what there is: dropped last
	columns string // of the table, as the header of a segment has them

	mu       sync.Mutex // guards the fields below
	segments []*segment // oldest first
	memory   []*entry   // of this epoch, ascending, behind all in segments
	bytes    int64      // of those in memory
	changed  chan struct{}

	// The writer's alone:
	appending *appending  // the segment that it appends to; nil if there is none
	before    predecessor // the segment that it ended last
}

// entry is a batch in memory.
type entry struct {
	batch  *wire.Batch
	pushed time.Time
	gone   bool // settled or dropped while it was being written
}

func newQueue(s *Spool, t schema.Table) *Queue {
	return &Queue{spool: s, table: t, facts: !readings(t.ID), columns: columnNames(t), changed: make(chan struct{})}
}

// readings tells the tables of which there is much, and whose rows are worth less the older they are.
func readings(table uint8) bool {
	return table == schema.SamplesID || table == schema.SubsecondID || table == schema.HealthID
}

// Node is whose batches these are.
func (q *Queue) Node() uint64 { return q.spool.node }

// Table is of what kind they are.
func (q *Queue) Table() schema.Table { return q.table }

func (q *Queue) push(b *wire.Batch) {
	q.spool.counts.queued.Add(1)
	q.spool.memory.used.Add(int64(b.Bytes()))
	q.mu.Lock()
	defer q.mu.Unlock()
	q.memory = append(q.memory, &entry{batch: b, pushed: time.Now()})
	q.bytes += int64(b.Bytes())
	q.notifyLocked()
}

// held is how many bytes in memory could be dropped: the newest batch of a table always stays.
func (q *Queue) held() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.memory) < 2 {
		return 0
	}
	return q.bytes
}

// heaviest is the queue that has to give way in memory: the one that holds most, of readings rather than of
// facts.
func heaviest(queues []*Queue) *Queue {
	return slices.MaxFunc(queues, func(a, b *Queue) int {
		if a.facts != b.facts && a.held() > 0 && b.held() > 0 {
			if b.facts {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.held(), b.held())
	})
}

// dropOldest gives up the oldest batch in memory; false if there is none but the newest.
func (q *Queue) dropOldest() bool {
	q.mu.Lock()
	if len(q.memory) < 2 {
		q.mu.Unlock()
		return false
	}
	lost := q.removeLocked(0).batch.Identity
	q.notifyLocked()
	q.mu.Unlock()
	q.spool.lose(Loss{Kind: Dropped, Batches: 1, Rows: uint64(lost.Rows), Last: lost.Key(), Reason: "send queue is full"})
	return true
}

func (q *Queue) removeLocked(i int) *entry {
	e := q.memory[i]
	e.gone = true
	q.memory = slices.Delete(q.memory, i, i+1)
	q.bytes -= int64(e.batch.Bytes())
	q.spool.memory.used.Add(-int64(e.batch.Bytes()))
	return e
}

func (q *Queue) notify() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notifyLocked()
}

func (q *Queue) notifyLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// Changed is closed at the next change that Next or Life may answer differently after.
func (q *Queue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// Life is the earliest epoch of which something waits to be sent.
func (q *Queue) Life() (epoch uint64, waiting bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, s := range q.segments {
		if s.next(0, now) >= 0 {
			return s.epoch, true
		}
	}
	return q.spool.epoch, len(q.memory) > 0
}

// Oldest is the lowest sequence of an epoch that is not settled.
func (q *Queue) Oldest(epoch uint64) (sequence uint64, waiting bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.segments {
		if s.epoch == epoch && s.left > 0 {
			return s.sequence(s.first), true
		}
	}
	if epoch != q.spool.epoch || len(q.memory) == 0 {
		return 0, false
	}
	return q.memory[0].batch.Identity.Sequence, true
}

// Current tells whether batches of the epoch are still to be pushed.
func (q *Queue) Current(epoch uint64) bool { return epoch == q.spool.epoch }

// Item is a batch that waits to be sent.
type Item struct {
	Sequence uint64
	Bytes    int64 // on the wire

	batch   *wire.Batch // if it is in memory
	segment *segment    // else
	place   int
}

// Next is the lowest batch of an epoch behind a sequence. If there is none, wait says after what time there
// may be one without a change; 0: none.
func (q *Queue) Next(epoch, after uint64) (item Item, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, s := range q.segments {
		if s.epoch != epoch {
			continue
		}
		if i := s.next(after, now); i >= 0 {
			return Item{Sequence: s.sequence(i), Bytes: int64(s.places[i].bytes), segment: s, place: i}, 0, true
		}
	}
	if epoch != q.spool.epoch {
		return Item{}, 0, false
	}
	i := q.findLocked(after + 1)
	if i == len(q.memory) {
		return Item{}, 0, false
	}
	e := q.memory[i]
	if wait := q.waitFor(e, now); wait > 0 {
		return Item{}, wait, false
	}
	return Item{Sequence: e.batch.Identity.Sequence, Bytes: int64(e.batch.Bytes()), batch: e.batch}, 0, true
}

// waitFor is how long a batch in memory waits for the disk before it is sent without.
func (q *Queue) waitFor(e *entry, now time.Time) time.Duration {
	if !q.spool.onDisk() || q.spool.down.Load() {
		return 0
	}
	return max(e.pushed.Add(q.spool.limits.patience).Sub(now), 0)
}

// findLocked is the place in memory of the lowest sequence that is at least the one given.
func (q *Queue) findLocked(sequence uint64) int {
	i, _ := slices.BinarySearchFunc(q.memory, sequence, func(e *entry, s uint64) int {
		return cmp.Compare(e.batch.Identity.Sequence, s)
	})
	return i
}

// Stored settles a batch that the collector has stored; false if it was settled or dropped before.
func (q *Queue) Stored(epoch, sequence uint64) bool {
	_, ok := q.settle(epoch, sequence)
	if ok {
		q.spool.counts.stored.Add(1)
	}
	return ok
}

// Rejected settles a batch that the collector can never store.
func (q *Queue) Rejected(epoch, sequence uint64, reason string) {
	if rows, ok := q.settle(epoch, sequence); ok {
		q.spool.lose(Loss{Kind: Rejected, Batches: 1, Rows: uint64(rows), Last: q.key(epoch, sequence), Reason: reason})
	}
}

func (q *Queue) key(epoch, sequence uint64) wire.Key {
	return wire.Key{Table: q.table.ID, Node: q.spool.node, Epoch: epoch, Sequence: sequence}
}

func (q *Queue) settle(epoch, sequence uint64) (rows uint32, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.segments {
		if s.epoch != epoch || s.last() < sequence {
			continue
		}
		i := s.find(sequence)
		if i < 0 || !s.settle(i) {
			return 0, false
		}
		if s.spent(q.spool.limits.recycleBytes) {
			signal(q.spool.wake) // the file can go
		}
		q.notifyLocked()
		return s.places[i].rows, true
	}
	if epoch != q.spool.epoch {
		return 0, false
	}
	i := q.findLocked(sequence)
	if i == len(q.memory) || q.memory[i].batch.Identity.Sequence != sequence {
		return 0, false
	}
	e := q.removeLocked(i)
	q.notifyLocked()
	return e.batch.Identity.Rows, true
}

// waitEmpty returns once everything is settled; false if the context ended before.
func (q *Queue) waitEmpty(ctx context.Context) bool {
	for {
		changed := q.Changed()
		if q.empty() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (q *Queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.memory) == 0 && !slices.ContainsFunc(q.segments, func(s *segment) bool { return s.left > 0 })
}

func (q *Queue) addTo(sum *Stats, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	older := func(t time.Time) { sum.Oldest = max(sum.Oldest, now.Sub(t)) }
	for _, s := range q.segments {
		sum.WaitingBatches += int64(s.left)
		sum.WaitingBytes += s.leftBytes
		if t, ok := s.oldest(); ok {
			older(t)
		}
	}
	sum.MemoryBatches += int64(len(q.memory))
	sum.MemoryBytes += q.bytes
	sum.WaitingBatches += int64(len(q.memory))
	sum.WaitingBytes += q.bytes
	if len(q.memory) > 0 {
		older(q.memory[0].pushed)
	}
}
