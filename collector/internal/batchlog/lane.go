// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"context"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// lane is the log of one table.
type lane struct {
	cfg    Config
	table  schema.Table
	folder folder
	wake   chan struct{} // something is to be written
	told   chan struct{} // something is to be answered

	mu       sync.Mutex // guards the fields below
	queue    []*entry
	answers  []answer
	ended    bool // nothing is written any more
	batches  map[wire.Key]*kept
	units    map[string]*noted
	segments []*segment // oldest first
	aside    []*segment // files that are kept for a person to look at
	size     int64      // of all files
	order    int        // of the unit that was noted last

	// What follows is the writer's alone.

	active *segment // that is appended to; nil: the next group begins one
	file   file     // its
	number uint64   // of the segment that was made last
	dirty  bool     // the file has bytes that were not synced, and need not be
	buffer []byte

	complained time.Time // when it was last said that groups cannot be written
	failures   int       // since then
}

// entry is something to be written: one of the first three.
type entry struct {
	batch   *wire.Batch
	unit    *Unit
	settled []wire.Key
	done    func(error) // nil: nobody asks
	offset  int64       // once it is laid out
}

type answer struct {
	done func(error)
	err  error
}

// kept is a batch that is not settled.
type kept struct {
	segment *segment
	offset  int64
	unit    *noted // nil: it was not joined yet
}

// noted is a unit of which some batches are not settled.
type noted struct {
	Unit
	segment *segment
	order   int
	left    int // batches that are its, and not settled
}

// segment is a file.
type segment struct {
	name    string
	size    int64    // durable bytes
	live    int      // batches and units in it that are not settled
	damaged bool     // it is set aside when it is done
	columns []string // of its batches; nil: the table's
}

func newLane(cfg Config, t schema.Table, f folder) *lane {
	return &lane{
		cfg: cfg, table: t, folder: f, wake: make(chan struct{}, 1), told: make(chan struct{}, 1),
		batches: make(map[wire.Key]*kept), units: make(map[string]*noted),
	}
}

// push hands an entry to the writer.
func (n *lane) push(e *entry) {
	n.mu.Lock()
	ended := n.ended
	if !ended {
		n.pushLocked(e)
	}
	n.mu.Unlock()
	if ended {
		if e.done != nil {
			e.done(errStopped)
		}
		return
	}
	signal(n.wake)
}

// pushLocked makes one record of batches that are settled one after the other.
func (n *lane) pushLocked(e *entry) {
	if last := len(n.queue) - 1; e.settled != nil && last >= 0 && n.queue[last].settled != nil {
		n.queue[last].settled = append(n.queue[last].settled, e.settled...)
		return
	}
	n.queue = append(n.queue, e)
}

// signal wakes who waits, or will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take takes the oldest entries, up to so many bytes and at least one.
func (n *lane) take() []*entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	count, bytes := 0, int64(0)
	for count < len(n.queue) && (count == 0 || bytes < n.cfg.limits.groupBytes) {
		bytes += n.queue[count].bytes()
		count++
	}
	group := n.queue[:count:count]
	n.queue = n.queue[count:]
	return group
}

// bytes is about what an entry takes.
func (e *entry) bytes() int64 {
	switch {
	case e.batch != nil:
		return int64(e.batch.Bytes()) + scopeBytes
	case e.unit != nil:
		return int64(keyBytes * len(e.unit.Keys))
	default:
		return int64(keyBytes * len(e.settled))
	}
}

// deliver answers, in order, until the writer has ended.
func (n *lane) deliver() error {
	for range n.told {
		n.mu.Lock()
		answers, ended := n.answers, n.ended
		n.answers = nil
		n.mu.Unlock()
		for _, a := range answers {
			a.done(a.err)
		}
		if ended {
			return nil
		}
	}
	return nil
}

// answer has entries answered. That of a unit does not wait its turn: those before it may be blocked by a store that is
// full and goes on only once its units are noted. It does not block either.
func (n *lane) answer(group []*entry, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range group {
		switch {
		case e.done == nil:
		case e.unit != nil:
			e.done(err)
		default:
			n.answers = append(n.answers, answer{e.done, err})
		}
	}
	signal(n.told)
}

// write writes what is pushed until the context ends, and then what is left.
func (n *lane) write(ctx context.Context) error {
	for {
		stopping := ctx.Err() != nil // what was pushed before is written
		for group := n.take(); len(group) > 0; group = n.take() {
			n.writeGroup(group)
		}
		if stopping && n.end() {
			return n.seal()
		}
		select {
		case <-n.wake:
		case <-ctx.Done():
		}
	}
}

// end takes nothing more; false if something has come meanwhile.
func (n *lane) end() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) > 0 {
		return false
	}
	n.ended = true
	signal(n.told)
	return true
}

// enter notes what is in a segment now.
func (n *lane) enterLocked(g *segment, e *entry) {
	switch {
	case e.batch != nil:
		n.keepLocked(g, e.batch.Identity.Key(), e.offset)
	case e.unit != nil:
		n.noteLocked(g, *e.unit)
	default:
		for _, k := range e.settled {
			n.settleLocked(k)
		}
	}
}

// keepLocked notes a batch. One that is there already came again after it could not be kept.
func (n *lane) keepLocked(g *segment, k wire.Key, offset int64) {
	n.settleLocked(k)
	n.batches[k] = &kept{segment: g, offset: offset}
	g.live++
}

// noteLocked takes a unit's batches out of the units that they were in.
func (n *lane) noteLocked(g *segment, u Unit) {
	n.order++
	joined := &noted{Unit: u, segment: g, order: n.order}
	for _, k := range u.Keys {
		b := n.batches[k]
		if b == nil {
			continue
		}
		n.leaveLocked(b)
		b.unit = joined
		joined.left++
	}
	if joined.left > 0 {
		n.units[u.Token] = joined
		g.live++
	}
}

func (n *lane) settleLocked(k wire.Key) {
	b := n.batches[k]
	if b == nil {
		return
	}
	n.leaveLocked(b)
	b.segment.live--
	delete(n.batches, k)
}

// leaveLocked takes a batch out of its unit.
func (n *lane) leaveLocked(b *kept) {
	u := b.unit
	if u == nil {
		return
	}
	b.unit = nil
	if u.left--; u.left == 0 {
		u.segment.live--
		delete(n.units, u.Token)
	}
}

func (n *lane) bytes() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.size
}
