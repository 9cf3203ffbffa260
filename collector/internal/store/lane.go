// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// lane gathers the batches of one table into units and has them written, several at a time: while
// ClickHouse takes one, the next is laid out. Their order does not matter, each batch is in one of them.
type lane struct {
	*Store
	table   schema.Table
	format  *native
	items   chan Item
	resumed chan *unit    // of an earlier process
	slots   chan struct{} // a unit that is being written holds one
	asking  chan struct{} // and one that is looked for on another shard one of these

	open    map[place]*unit // by UTC hour, which is never in two partitions, and tenure
	rows    int64           // in open
	closed  []*unit         // that wait for a slot, oldest first
	waiting int64           // rows in closed
	writing sync.WaitGroup

	miscounted atomic.Bool // ClickHouse has counted other rows than were sent, and it was said
}

func newLane(s *Store, t schema.Table) *lane {
	return &lane{
		Store: s, table: t, format: newNative(t), items: make(chan Item, s.cfg.QueueItems), resumed: make(chan *unit),
		slots: make(chan struct{}, s.cfg.Inserts), asking: make(chan struct{}, formerQuestions), open: make(map[place]*unit),
	}
}

// run gathers and has written until the channel of items is closed and everything is; or until the context
// ends. Items that are not settled then are not told so: their agents send them again.
func (l *lane) run(ctx context.Context) error {
	defer l.writing.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for items := l.items; items != nil || len(l.open)+len(l.closed) > 0; {
		due, wait := l.due()
		timer.Reset(wait)
		slots, from, resumed := l.slots, items, l.resumed
		if !due {
			slots = nil
		}
		if l.waiting >= maxWaiting*int64(l.cfg.UnitRows) {
			from, resumed = nil, nil // ClickHouse is behind: what comes waits in the queue
		}
		select {
		case <-ctx.Done():
			return nil
		case i, ok := <-from:
			if !ok {
				items = nil
				l.closeAll()
				continue
			}
			l.take(i)
			l.takeWaiting(from)
		case u := <-resumed:
			l.closed = append(l.closed, u)
			l.waiting += u.rows
		case slots <- struct{}{}:
			l.start(ctx)
		case <-timer.C:
		}
	}
	return nil
}

// maxWaiting bounds the rows that wait for a slot, in full units.
const maxWaiting = 2

// take adds a batch to the unit of its hour. Once there are rows enough, all that is open is written: what is
// late does not wait longer than the rest.
func (l *lane) take(i Item) {
	u := l.open[i.place()]
	if u == nil {
		u = &unit{table: l.table, since: time.Now()}
		l.open[i.place()] = u
	}
	u.add(i)
	l.rows += i.rows()
	if l.rows >= int64(l.cfg.UnitRows) {
		l.closeAll()
	}
}

// unitWait is how long a unit is gathered. Events are few, and somebody waits for them.
func (l *lane) unitWait() time.Duration {
	if l.table.ID == schema.EventsID {
		return l.cfg.UnitWait / 10
	}
	return l.cfg.UnitWait
}

func (l *lane) closeAll() {
	for len(l.open) > 0 {
		l.closeOne(l.oldest())
	}
}

func (l *lane) closeOne(u *unit) {
	delete(l.open, u.items[0].place())
	l.rows -= u.rows
	l.closed = append(l.closed, u)
	l.waiting += u.rows
}

// takeWaiting takes what is in the queue already, but no more than makes a unit full.
func (l *lane) takeWaiting(items <-chan Item) {
	for len(l.open) > 0 {
		select {
		case i, ok := <-items:
			if !ok {
				return // run sees it too
			}
			l.take(i)
		default:
			return
		}
	}
}

// oldest is the open unit that has waited longest; nil if none is open.
func (l *lane) oldest() (u *unit) {
	for _, o := range l.open {
		if u == nil || o.since.Before(u.since) {
			u = o
		}
	}
	return u
}

// due tells whether a unit is to be written now. If not, one may be after the wait.
func (l *lane) due() (due bool, wait time.Duration) {
	if len(l.closed) > 0 {
		return true, time.Hour
	}
	u := l.oldest()
	if u == nil {
		return false, time.Hour
	}
	wait = l.unitWait() - time.Since(u.since)
	if wait <= 0 {
		return true, time.Hour
	}
	return false, wait
}

// start has a unit written: one that is closed, or the oldest one, which grows until there is a slot for it.
func (l *lane) start(ctx context.Context) {
	if len(l.closed) == 0 {
		l.closeOne(l.oldest())
	}
	u := l.closed[0]
	l.closed = l.closed[1:]
	l.waiting -= u.rows
	l.writing.Go(func() {
		defer func() { <-l.slots }()
		l.write(ctx, u)
	})
}
