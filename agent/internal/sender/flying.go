// SPDX-License-Identifier: Apache-2.0

package sender

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// flying is the batches of one table and epoch that are sent on the present stream.
type flying struct {
	queue  *spool.Queue
	epoch  uint64
	retry  patience      // with a collector that asks for batches again
	window atomic.Uint32 // bytes that may be under way: the collector's credit
	ended  atomic.Bool   // nothing more will be sent
	resent *resent
	spans  spans

	mu      sync.Mutex // guards the fields below
	after   uint64     // highest sequence so far
	sent    map[uint64]int64
	again   []uint64 // sequences that are to be sent once more
	bytes   int64    // of what is sent and not answered
	changed chan struct{}
}

// resent counts the batches of one table that were sent before, on this stream or one before it.
type resent struct {
	count          atomic.Uint64
	epoch, highest uint64 // sent so far: the sending goroutine's
}

func (r *resent) add(epoch, sequence uint64) {
	if epoch != r.epoch {
		r.epoch, r.highest = epoch, 0
	}
	if sequence <= r.highest {
		r.count.Add(1)
	}
	r.highest = max(r.highest, sequence)
}

func newFlying(q *spool.Queue, epoch uint64, r *resent, retry patience) *flying {
	return &flying{queue: q, epoch: epoch, resent: r, retry: retry, sent: make(map[uint64]int64), changed: make(chan struct{})}
}

// next waits for a batch that is to be sent and fits the window. One batch may always fly, however small the
// window is. It is false when the context ended, and when the stream has: nothing is under way, and what waits
// is of another epoch.
func (f *flying) next(ctx context.Context) (item spool.Item, ok bool) {
	for {
		own, theirs := f.waiters()
		item, wait, found := f.candidate()
		switch {
		case found && f.start(item):
			return item, true
		case !found && f.over():
			f.ended.Store(true)
			return item, false
		case found:
			wait = 0 // for an answer
		}
		if !await(ctx, wait, own, theirs) {
			return item, false
		}
	}
}

// waiters are closed at the next change of what candidate and start look at.
func (f *flying) waiters() (own, theirs <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed, f.queue.Changed()
}

// await waits for one of two changes, or for so long if wait is not 0.
func await(ctx context.Context, wait time.Duration, a, b <-chan struct{}) bool {
	var over <-chan time.Time
	if wait > 0 {
		over = time.After(wait)
	}
	select {
	case <-ctx.Done():
		return false
	case <-over:
	case <-a:
	case <-b:
	}
	return true
}

// candidate is what should be sent next: what is to be sent again, then what follows on the highest so far.
func (f *flying) candidate() (item spool.Item, wait time.Duration, found bool) {
	f.mu.Lock()
	after, again := f.after, slices.Clone(f.again)
	f.mu.Unlock()
	for _, sequence := range again {
		item, _, found = f.queue.Next(f.epoch, sequence-1)
		if found && item.Sequence == sequence {
			return item, 0, true
		}
		f.forget(sequence) // it is settled by now
	}
	return f.queue.Next(f.epoch, after)
}

// start counts a batch as sent, if the window allows it.
func (f *flying) start(i spool.Item) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bytes > 0 && f.bytes+i.Bytes > int64(f.window.Load()) {
		return false
	}
	f.again = slices.DeleteFunc(f.again, func(s uint64) bool { return s == i.Sequence })
	f.sent[i.Sequence] = i.Bytes
	f.bytes += i.Bytes
	f.after = max(f.after, i.Sequence)
	f.resent.add(f.epoch, i.Sequence)
	f.spans.sent(wire.Key{Table: f.queue.Table().ID, Node: f.queue.Node(), Epoch: f.epoch, Sequence: i.Sequence})
	return true
}

// over tells that nothing is under way and that what waits is of another epoch.
func (f *flying) over() bool {
	f.mu.Lock()
	under := len(f.sent) + len(f.again)
	f.mu.Unlock()
	if under > 0 {
		return false
	}
	epoch, waits := f.queue.Life()
	return !f.queue.Current(f.epoch) || waits && epoch != f.epoch
}

// forget is for a batch that was answered, or not sent after all.
func (f *flying) forget(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgetLocked(sequence)
}

func (f *flying) forgetLocked(sequence uint64) {
	f.bytes -= f.sent[sequence]
	delete(f.sent, sequence)
	f.again = slices.DeleteFunc(f.again, func(s uint64) bool { return s == sequence })
	f.notifyLocked()
}

func (f *flying) notifyLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// answer settles a batch.
func (f *flying) answer(a wire.Answer) {
	f.spans.answered(wire.Key{Table: f.queue.Table().ID, Node: f.queue.Node(), Epoch: f.epoch, Sequence: a.Sequence}, a)
	switch a.Kind {
	case wire.Stored:
		f.retry.taken()
		f.queue.Stored(f.epoch, a.Sequence)
		f.forget(a.Sequence)
	case wire.Rejected:
		f.queue.Rejected(f.epoch, a.Sequence, a.Reason)
		f.forget(a.Sequence)
	case wire.Retry:
		time.AfterFunc(f.retry.next(time.Now()), func() { f.sendAgain(a.Sequence) })
	case wire.Accepted:
		f.retry.taken()
		f.forget(0) // nothing, but the window may have changed
	case wire.Welcome, wire.Ordered:
		f.forget(0) // nothing, but the window may have changed
	}
}

// later is for a batch that was not sent after all; if it still waits after a while, it is tried again.
func (f *flying) later(sequence uint64) {
	f.forget(sequence)
	time.AfterFunc(spool.ReadAgain, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.again = append(f.again, sequence)
		f.notifyLocked()
	})
}

// sendAgain has a batch sent once more on this stream.
func (f *flying) sendAgain(sequence uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, sent := f.sent[sequence]; !sent {
		return
	}
	f.forgetLocked(sequence)
	f.again = append(f.again, sequence)
}
