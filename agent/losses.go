// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/spool"
	"github.com/gpufleet/gpufleet/schema"
)

// lossInterval gathers losses into one event: when the queue is full, an event for each batch that is
// dropped would itself fill the queue.
const lossInterval = 10 * time.Second

// losses gathers batches that will never be stored. It owns a timer for each kind that waits, until stop.
type losses struct {
	tell func(event.Event) error

	mu      sync.Mutex            // guards the fields below
	pending map[string]*lossCount // by kind of event
	stopped bool
	telling sync.WaitGroup // timers that wait or run
}

type lossCount struct {
	batches int64
	rows    uint64
	last    spool.Loss
	timer   *time.Timer
}

// add counts a loss; the first of a kind has an event written lossInterval later. Lost batches of
// events are only counted and logged.
func (l *losses) add(loss spool.Loss) {
	if loss.Last.Table == schema.EventsID {
		return
	}
	l.gather(string(loss.Kind), lossCount{batches: int64(loss.Batches), rows: loss.Rows, last: loss})
}

// gather adds to what waits to be told, and has it told if nothing waited. After a stop nobody is told: the log has it.
func (l *losses) gather(kind string, more lossCount) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	if l.pending == nil {
		l.pending = make(map[string]*lossCount)
	}
	count := l.pending[kind]
	if count == nil {
		count = &lossCount{}
		l.pending[kind] = count
		l.telling.Add(1)
		count.timer = time.AfterFunc(lossInterval, func() {
			defer l.telling.Done()
			l.report(kind)
		})
	}
	count.batches += more.batches
	count.rows += more.rows
	count.last = more.last
}

// report writes what was gathered; if it cannot, it tries again later. It writes without the lock: the row may
// close a batch, whose push may drop another, which is a loss to add.
func (l *losses) report(kind string) {
	l.mu.Lock()
	count := l.pending[kind]
	delete(l.pending, kind)
	l.mu.Unlock()
	if count == nil {
		return // a stop has told it
	}
	err := l.tell(event.Event{
		Kind: kind, Count: &count.batches,
		Message: fmt.Sprintf("%d rows; the last was batch %v: %s", count.rows, count.last.Last, count.last.Reason),
	})
	if err != nil {
		l.gather(kind, *count)
	}
}

// stop tells what waits now, and leaves no timer behind.
func (l *losses) stop() {
	l.mu.Lock()
	l.stopped = true
	var waiting []string
	for kind, count := range l.pending {
		if count.timer.Stop() {
			l.telling.Done()
			waiting = append(waiting, kind)
		}
	}
	l.mu.Unlock()
	for _, kind := range waiting {
		l.report(kind)
	}
	l.telling.Wait()
}
