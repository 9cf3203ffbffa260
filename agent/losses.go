// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sender"
	"github.com/gpufleet/gpufleet/schema"
)

// lossInterval gathers losses into one event: when the queue is full, an event for each batch that is
// dropped would itself fill the queue.
const lossInterval = 10 * time.Second

// losses gathers batches that will never be stored.
type losses struct {
	tell func(event.Event) error

	mu      sync.Mutex            // guards the fields below
	pending map[string]*lossCount // by kind of event
}

type lossCount struct {
	batches int64
	rows    uint64
	last    sender.Loss
}

// add counts a loss; the first of a kind has an event written lossInterval later. Lost batches of
// events are only counted and logged.
func (l *losses) add(loss sender.Loss) {
	if loss.Key.Table == schema.EventsID {
		return
	}
	kind := "batches_dropped"
	if loss.Rejected {
		kind = "batches_rejected"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = make(map[string]*lossCount)
	}
	count := l.pending[kind]
	if count == nil {
		count = &lossCount{}
		l.pending[kind] = count
		time.AfterFunc(lossInterval, func() { l.report(kind) })
	}
	count.batches++
	count.rows += uint64(loss.Rows)
	count.last = loss
}

// report writes what was gathered; if it cannot, it tries again later.
func (l *losses) report(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.pending[kind]
	err := l.tell(event.Event{
		Kind: kind, Count: &count.batches,
		Message: fmt.Sprintf("%d rows; the last was batch %v: %s", count.rows, count.last.Key, count.last.Reason),
	})
	if err != nil {
		time.AfterFunc(lossInterval, func() { l.report(kind) })
		return
	}
	delete(l.pending, kind)
}
