// SPDX-License-Identifier: Apache-2.0

// Package index knows which batches are stored and which are on their way, so that a batch that
// arrives twice is stored once. What it does not know of an agent it asks the ledger when the
// agent opens a stream; the ledger then also makes this collector the only one that stores the agent's batches.
package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Ledger tells what is stored, and by whom more may be.
type Ledger interface {
	// Claim makes this collector the one that stores the batches of one table, node and epoch, and lists the stored
	// sequences from one on. Gently means: unless another collector has them.
	Claim(ctx context.Context, table uint8, node, epoch, from uint64, gently bool) (store.Grant, error)
}

// Life is one agent's life in one table.
type Life struct {
	Table       uint8
	Node, Epoch uint64
}

// LifeOf is the life of a batch.
func LifeOf(k wire.Key) Life { return Life{Table: k.Table, Node: k.Node, Epoch: k.Epoch} }

// State is what is known of a batch that has arrived.
type State int

// The states.
const (
	Fresh  State = iota // the caller must store it, and then call Done
	Flying              // it is being stored; the waiter will be called
	Known               // it is stored
	Gone                // another collector has the agent: nothing of it is stored here
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
// ones above that came early. A claim of it has a life of its own: when the agent has been elsewhere meanwhile, what was
// known is out of date.
type life struct {
	holds   map[*Hold]struct{} // without one, and with nothing flying, the life is forgotten
	grant   store.Grant        // without Stored; a tenure of 0: the ledger has not answered yet
	gone    bool               // the claim is over
	base    uint64             // of what lies below nothing is known: the agent has it settled
	next    uint64
	early   map[uint64]struct{}
	missing []gap // below next and not stored; ascending, and never side by side
	flying  map[uint64][]Waiter
}

// gap is a run of sequences: from is in it, to is not.
type gap struct{ from, to uint64 }

// Hold is an open life. It is good for as long as its claim is not over, and a batch that was claimed by it may be ended by
// it also after Close.
type Hold struct {
	x     *Index
	key   Life
	life  *life
	grant store.Grant
	over  func() // called once when the claim is over; nil if nobody asks
}

// New makes an empty index.
func New(ledger Ledger) *Index {
	return &Index{ledger: ledger, lives: make(map[Life]*life)}
}

// MaxJump is how far ahead of the highest one before it a sequence may be: an agent numbers without
// gaps, and loses no more than its queue holds.
const MaxJump = 1 << 20

// Open prepares for the batches of a life from a sequence on: all before are settled. Each Open that
// returned no error needs a Close. over is called when another collector has taken the agent, or is nil.
func (x *Index) Open(ctx context.Context, l Life, from uint64, over func()) (*Hold, error) {
	return x.open(ctx, l, from, over, false)
}

// OpenGently is Open unless another collector has the agent: then it is store.ErrHeld.
func (x *Index) OpenGently(ctx context.Context, l Life, from uint64) (*Hold, error) {
	return x.open(ctx, l, from, nil, true)
}

// open joins the life before it asks the ledger, so that what ends meanwhile is not forgotten.
func (x *Index) open(ctx context.Context, l Life, from uint64, over func(), gently bool) (*Hold, error) {
	h := x.join(l, from, over)
	grant, err := x.ledger.Claim(ctx, l.Table, l.Node, l.Epoch, from, gently)
	if err == nil {
		err = h.enter(grant, from)
	}
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("ask ledger for node %016x, epoch %d: %w", l.Node, l.Epoch, err)
	}
	return h, nil
}

// join opens a life, and makes it if it is not known yet.
func (x *Index) join(l Life, from uint64, over func()) *Hold {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lives[l] == nil {
		x.lives[l] = newLife(from)
	}
	h := &Hold{x: x, key: l, life: x.lives[l], over: over}
	h.life.holds[h] = struct{}{}
	return h
}

func newLife(from uint64) *life {
	return &life{base: from, next: from, early: map[uint64]struct{}{}, flying: map[uint64][]Waiter{}, holds: map[*Hold]struct{}{}}
}

// ErrOutdated says that the agent has come back meanwhile, by another stream.
var ErrOutdated = errors.New("the agent was claimed anew at the same time")

// enter notes what the ledger has said. Whatever was known under an earlier claim is out of date.
func (h *Hold) enter(g store.Grant, from uint64) error {
	h.x.mu.Lock()
	l := h.life
	if l.gone || l.grant.Tenure > g.Tenure {
		h.x.mu.Unlock()
		return ErrOutdated
	}
	tell := func() {}
	if l.grant.Tenure != 0 && l.grant.Tenure < g.Tenure {
		delete(l.holds, h)
		tell = h.x.endLocked(h.key, l)
		l = newLife(from)
		l.holds[h] = struct{}{}
		h.life, h.x.lives[h.key] = l, l
	}
	l.learn(g, from)
	h.grant = l.grant
	h.x.mu.Unlock()
	tell()
	return nil
}

// learn enters what is stored. Batches below those that a life was opened with are sent by somebody who
// has what its agent has settled, such as a batch from the quarantine: without a look at the ledger they
// would be taken for stored.
func (l *life) learn(g store.Grant, from uint64) {
	if l.grant.Tenure == 0 {
		l.base, l.next = from, from
		for _, s := range g.Stored {
			l.add(s)
		}
	} else {
		l.extend(from, g.Stored)
	}
	g.Stored = nil
	l.grant = g
}

// endLocked ends a life whose claim is over. What it returns tells everybody, and is to be called without the lock.
func (x *Index) endLocked(k Life, l *life) (tell func()) {
	if l.gone {
		return func() {}
	}
	l.gone = true
	if x.lives[k] == l {
		delete(x.lives, k)
	}
	flying, holds := l.flying, l.holds
	l.flying, l.holds = nil, map[*Hold]struct{}{}
	return func() {
		for _, waiters := range flying {
			for _, w := range waiters {
				w(Again, "the agent has gone to another collector")
			}
		}
		for h := range holds {
			if h.over != nil {
				h.over()
			}
		}
	}
}

// Over notes that the claim is over: who waits for its batches is told that they are not stored here.
func (h *Hold) Over() {
	h.x.mu.Lock()
	tell := h.x.endLocked(h.key, h.life)
	h.x.mu.Unlock()
	tell()
}

// Close ends an Open.
func (h *Hold) Close() {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	delete(h.life.holds, h)
	h.forgetLocked()
}

func (h *Hold) forgetLocked() {
	if l := h.life; h.x.lives[h.key] == l && len(l.holds) == 0 && len(l.flying) == 0 {
		delete(h.x.lives, h.key)
	}
}

// Tenure is of the claim.
func (h *Hold) Tenure() uint32 { return h.grant.Tenure }

// Doubtful says that batches which were sent before may be in the table already.
func (h *Hold) Doubtful() bool { return h.grant.Doubtful }

// Claim asks for a batch that has arrived.
func (h *Hold) Claim(sequence uint64, w Waiter) State {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	l := h.life
	switch {
	case l.gone:
		return Gone
	case l.has(sequence):
		return Known
	case l.flying[sequence] != nil:
		l.flying[sequence] = append(l.flying[sequence], w)
		return Flying
	default:
		l.flying[sequence] = []Waiter{w}
		return Fresh
	}
}

// Done settles a batch that was claimed and calls those who wait for it. Unless it was stored it may be
// claimed again. If the claim is over they were called already.
func (h *Hold) Done(sequence uint64, end End, reason string) {
	h.x.mu.Lock()
	l := h.life
	waiters := l.flying[sequence]
	delete(l.flying, sequence)
	if end == Stored && !l.gone {
		l.add(sequence)
	}
	h.forgetLocked()
	h.x.mu.Unlock()
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
