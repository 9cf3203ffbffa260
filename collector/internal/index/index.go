// SPDX-License-Identifier: Apache-2.0

// Package index knows which batches are stored and which are on their way, so that a batch that
// arrives twice is stored once. What it does not know of an agent it asks the ledger, once, when the
// agent opens a stream.
package index

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// Ledger tells what is stored.
type Ledger interface {
	// Stored lists the stored sequences of one table, node and epoch from a sequence on.
	Stored(ctx context.Context, table uint8, node, epoch, from uint64) ([]uint64, error)
}

// Life is one agent's life in one table.
type Life struct {
	Table       uint8
	Node, Epoch uint64
}

// State is what is known of a batch that has arrived.
type State int

// The states.
const (
	Fresh  State = iota // the caller must store it, and then call Done
	Flying              // it is being stored; the waiter will be called
	Known               // it is stored
)

// End is how a batch ended that was being stored.
type End int

// The ends.
const (
	Again    End = iota // it was not stored and may be: whoever sent it must send it again
	Stored              // its rows are in ClickHouse
	Rejected            // it can never be stored, and is kept in the quarantine
)

// Waiter is told how a batch ended; reason is why it was not stored.
type Waiter func(end End, reason string)

// Index is safe for use by many goroutines.
type Index struct {
	ledger Ledger
	mu     sync.Mutex // guards the fields below
	lives  map[Life]*life
}

// life holds the stored sequences of one agent's life: all below next but those missing, and the
// ones above that came early.
type life struct {
	streams int    // that have it open; without one, and with nothing flying, the life is forgotten
	base    uint64 // of what lies below nothing is known: the agent has it settled
	next    uint64
	early   map[uint64]struct{}
	missing []gap // below next and not stored; ascending, and never side by side
	flying  map[uint64][]Waiter
	asked   chan struct{} // closed once the ledger has answered
	err     error         // why it did not; set before asked is closed
}

// gap is a run of sequences: from is in it, to is not.
type gap struct{ from, to uint64 }

// New makes an empty index.
func New(ledger Ledger) *Index {
	return &Index{ledger: ledger, lives: make(map[Life]*life)}
}

// MaxJump is how far ahead of the highest one before it a sequence may be: an agent numbers without
// gaps, and loses no more than its queue holds.
const MaxJump = 1 << 20

// Open prepares for the batches of a life from a sequence on: all before are settled. Each Open that
// returned nil needs a Close. The ledger is asked by the first of those that come at once; the others
// wait for it.
func (x *Index) Open(ctx context.Context, l Life, from uint64) error {
	for {
		found, first := x.join(l, from)
		if first {
			return x.ask(ctx, l, found, from)
		}
		select {
		case <-found.asked:
			if found.err == nil {
				return x.extend(ctx, l, found, from)
			}
		case <-ctx.Done():
			x.leave(l, found)
			return ctx.Err()
		}
	}
}

// join opens a life, and makes it if it is not known yet.
func (x *Index) join(l Life, from uint64) (found *life, first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	found = x.lives[l]
	if found == nil {
		first = true
		found = &life{base: from, next: from, early: map[uint64]struct{}{}, flying: map[uint64][]Waiter{}, asked: make(chan struct{})}
		x.lives[l] = found
	}
	found.streams++
	return found, first
}

// ask enters what the ledger knows of a life. If it does not answer, the life is forgotten, and one of
// those who wait asks again.
func (x *Index) ask(ctx context.Context, l Life, found *life, from uint64) error {
	stored, err := x.ledger.Stored(ctx, l.Table, l.Node, l.Epoch, from)
	x.mu.Lock()
	defer x.mu.Unlock()
	defer close(found.asked)
	if err != nil {
		delete(x.lives, l)
		found.err = fmt.Errorf("ask ledger for node %016x, epoch %d: %w", l.Node, l.Epoch, err)
		return found.err
	}
	for _, s := range stored {
		found.add(s)
	}
	return nil
}

// extend learns of the sequences below those that a life was opened with. They are sent by somebody who
// has what its agent has settled, such as a batch from the quarantine: without a look at the ledger it
// would be taken for stored.
func (x *Index) extend(ctx context.Context, l Life, found *life, from uint64) error {
	x.mu.Lock()
	known := found.base <= from
	x.mu.Unlock()
	if known {
		return nil
	}
	stored, err := x.ledger.Stored(ctx, l.Table, l.Node, l.Epoch, from)
	if err != nil {
		x.leave(l, found)
		return fmt.Errorf("ask ledger for node %016x, epoch %d: %w", l.Node, l.Epoch, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	found.extend(from, stored)
	return nil
}

// leave gives up a life that is being asked for.
func (x *Index) leave(l Life, found *life) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lives[l] == found { // else it was forgotten
		found.streams--
		x.forgetLocked(l)
	}
}

// Close ends an Open.
func (x *Index) Close(l Life) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lives[l].streams--
	x.forgetLocked(l)
}

func (x *Index) forgetLocked(l Life) {
	if found := x.lives[l]; found.streams == 0 && len(found.flying) == 0 {
		delete(x.lives, l)
	}
}

// Claim asks for a batch that has arrived. The life must be open.
func (x *Index) Claim(k wire.Key, w Waiter) State {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.lives[Life{k.Table, k.Node, k.Epoch}]
	switch {
	case l.has(k.Sequence):
		return Known
	case l.flying[k.Sequence] != nil:
		l.flying[k.Sequence] = append(l.flying[k.Sequence], w)
		return Flying
	default:
		l.flying[k.Sequence] = []Waiter{w}
		return Fresh
	}
}

// Done settles a batch that was claimed and calls those who wait for it. Unless it was stored it may be
// claimed again.
func (x *Index) Done(k wire.Key, end End, reason string) {
	x.mu.Lock()
	l := x.lives[Life{k.Table, k.Node, k.Epoch}]
	waiters := l.flying[k.Sequence]
	delete(l.flying, k.Sequence)
	if end == Stored {
		l.add(k.Sequence)
	}
	x.forgetLocked(Life{k.Table, k.Node, k.Epoch})
	x.mu.Unlock()
	for _, w := range waiters {
		w(end, reason)
	}
}

// has tells whether a sequence is stored. An agent that asks below where it began knows it to be
// settled.
func (l *life) has(s uint64) bool {
	if s < l.next {
		_, missing := l.find(s)
		return !missing
	}
	_, early := l.early[s]
	return early
}

// find is the place of the gap that holds a sequence, or where it would be.
func (l *life) find(s uint64) (int, bool) {
	return slices.BinarySearchFunc(l.missing, s, func(g gap, s uint64) int {
		switch {
		case g.to <= s:
			return -1
		case g.from > s:
			return 1
		default:
			return 0
		}
	})
}

// maxEarly bounds the set of sequences above a gap. Past it the lowest gaps are closed, by remembering
// what is missing instead.
const maxEarly = 4096

func (l *life) add(s uint64) {
	if s < l.next {
		l.fill(s)
		return
	}
	l.early[s] = struct{}{}
	l.advance()
	if len(l.early) <= maxEarly {
		return
	}
	for _, e := range slices.Sorted(maps.Keys(l.early))[:maxEarly/2] {
		if e > l.next { // else it followed on those before it
			l.missing = append(l.missing, gap{l.next, e})
			l.next = e
			l.advance()
		}
	}
}

// advance moves next past what came early.
func (l *life) advance() {
	for {
		if _, ok := l.early[l.next]; !ok {
			return
		}
		delete(l.early, l.next)
		l.next++
	}
}

// extend moves base down. What the ledger does not have between the two is missing.
func (l *life) extend(from uint64, stored []uint64) {
	base := l.base
	if from >= base {
		return
	}
	l.base = from
	if len(l.missing) > 0 && l.missing[0].from == base {
		l.missing[0].from = from
	} else {
		l.missing = slices.Insert(l.missing, 0, gap{from, base})
	}
	for _, s := range stored {
		if s < base {
			l.fill(s)
		}
	}
}

// fill takes a sequence out of the gap that holds it.
func (l *life) fill(s uint64) {
	i, ok := l.find(s)
	if !ok {
		return
	}
	g := l.missing[i]
	rest := slices.DeleteFunc([]gap{{g.from, s}, {s + 1, g.to}}, func(g gap) bool { return g.from == g.to })
	l.missing = slices.Replace(l.missing, i, i+1, rest...)
}
