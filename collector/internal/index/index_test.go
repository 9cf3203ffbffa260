// SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger answers with what it is told to.
type ledger struct {
	stored   []uint64
	err      error
	asked    atomic.Int64
	from     atomic.Uint64 // of the last question
	tenure   atomic.Uint32
	doubtful bool
	hold     chan struct{} // not nil: an answer waits until it is closed
}

func (l *ledger) Claim(ctx context.Context, _ uint8, _, _, from uint64, _ bool) (store.Grant, error) {
	l.asked.Add(1)
	l.from.Store(from)
	if l.hold != nil {
		select {
		case <-l.hold:
		case <-ctx.Done():
			return store.Grant{}, ctx.Err()
		}
	}
	return store.Grant{Tenure: max(1, l.tenure.Load()), Doubtful: l.doubtful, Stored: l.stored}, l.err
}

var one = Life{Table: 1, Node: 7, Epoch: 9}

// streams are an index and what is open of it, for each life in the order in which it was opened.
type streams struct {
	*Index
	mu     sync.Mutex       // guards holds
	holds  map[Life][]*Hold // that are not closed
	newest map[Life]*Hold
}

func newStreams(l Ledger) *streams {
	return &streams{Index: New(l), holds: map[Life][]*Hold{}, newest: map[Life]*Hold{}}
}

func (x *streams) Open(ctx context.Context, l Life, from uint64) error {
	h, err := x.Index.Open(ctx, l, from, nil)
	if err == nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.holds[l], x.newest[l] = append(x.holds[l], h), h
	}
	return err
}

func (x *streams) last(l Life) *Hold {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.newest[l]
}

func (x *streams) Claim(k wire.Key, w Waiter) State { return x.last(LifeOf(k)).Claim(k.Sequence, w) }

func (x *streams) Done(k wire.Key, end End, reason string) {
	x.last(LifeOf(k)).Done(k.Sequence, end, reason)
}

// Close closes what was opened first.
func (x *streams) Close(l Life) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.holds[l][0].Close()
	x.holds[l] = x.holds[l][1:]
}

func (l Life) key(sequence uint64) wire.Key {
	return wire.Key{Table: l.Table, Node: l.Node, Epoch: l.Epoch, Sequence: sequence}
}

// opened is an index with one life open from a sequence on.
func opened(t *testing.T, from uint64, stored ...uint64) *streams {
	t.Helper()
	x := newStreams(&ledger{stored: stored})
	if err := x.Open(t.Context(), one, from); err != nil {
		t.Fatal(err)
	}
	return x
}

// outcome is what a waiter was told.
type outcome struct {
	end    End
	reason string
}

func (x *streams) claim(t *testing.T, sequence uint64, want State) *[]outcome {
	t.Helper()
	told := new([]outcome)
	got := x.Claim(one.key(sequence), func(end End, reason string) { *told = append(*told, outcome{end, reason}) })
	if got != want {
		t.Errorf("claim of %d: state %d, want %d", sequence, got, want)
	}
	return told
}

func TestClaim(t *testing.T) {
	x := opened(t, 1)
	first := x.claim(t, 1, Fresh)
	second := x.claim(t, 1, Flying)
	x.claim(t, 2, Fresh)
	if len(*first)+len(*second) != 0 {
		t.Error("somebody was told before the end")
	}
	x.Done(one.key(1), Stored, "")
	for name, told := range map[string]*[]outcome{"claimer": first, "waiter": second} {
		if !slices.Equal(*told, []outcome{{Stored, ""}}) {
			t.Errorf("%s was told %v", name, *told)
		}
	}
	if told := x.claim(t, 1, Known); len(*told) != 0 {
		t.Errorf("a claim of what is known was told %v", *told)
	}
	x.claim(t, 2, Flying)
}

func TestWhatWasNotStoredMayBeClaimedAgain(t *testing.T) {
	for _, want := range []outcome{{Again, "collector is stopping"}, {Rejected, "rows from 1970"}} {
		x := opened(t, 1)
		first, second := x.claim(t, 1, Fresh), x.claim(t, 1, Flying)
		x.Done(one.key(1), want.end, want.reason)
		for _, told := range []*[]outcome{first, second} {
			if !slices.Equal(*told, []outcome{want}) {
				t.Errorf("told %v, want %v", *told, want)
			}
		}
		third := x.claim(t, 1, Fresh)
		x.Done(one.key(1), Stored, "")
		if len(*first) != 1 || len(*third) != 1 {
			t.Errorf("the second end was told to %v and %v", *first, *third)
		}
		x.claim(t, 1, Known)
	}
}

func TestLedgerDecidesWhatIsKnown(t *testing.T) {
	x := opened(t, 10, 10, 11, 14, 20)
	for sequence, want := range map[uint64]State{9: Known, 10: Known, 11: Known, 12: Fresh, 13: Fresh, 14: Known, 15: Fresh, 19: Fresh, 20: Known, 21: Fresh} {
		x.claim(t, sequence, want)
	}
}

func TestLivesAreApart(t *testing.T) {
	x := opened(t, 1)
	x.claim(t, 1, Fresh)
	x.Done(one.key(1), Stored, "")
	for _, other := range []Life{{2, 7, 9}, {1, 8, 9}, {1, 7, 10}} {
		if err := x.Open(t.Context(), other, 1); err != nil {
			t.Fatal(err)
		}
		if state := x.Claim(other.key(1), func(End, string) {}); state != Fresh {
			t.Errorf("batch 1 of %+v has state %d after that of %+v was stored", other, state, one)
		}
	}
}

func TestLedgerIsAskedByEachStream(t *testing.T) {
	l := &ledger{stored: []uint64{5}}
	x := newStreams(l)
	for range 3 {
		if err := x.Open(t.Context(), one, 4); err != nil {
			t.Fatal(err)
		}
	}
	if l.asked.Load() != 3 || l.from.Load() != 4 {
		t.Errorf("asked %d times, from %d", l.asked.Load(), l.from.Load())
	}
	x.Close(one)
	x.Close(one)
	x.claim(t, 5, Known) // the third stream still has it open
	x.Close(one)
	if len(x.lives) != 0 {
		t.Errorf("%d lives are remembered after the last close", len(x.lives))
	}
	if err := x.Open(t.Context(), one, 4); err != nil || l.asked.Load() != 4 {
		t.Errorf("a life that comes back: asked %d times, %v", l.asked.Load(), err)
	}
}

// TestOpenBelow: somebody sends again what the agent has given up.
func TestOpenBelow(t *testing.T) {
	asked := &ledger{stored: []uint64{100, 102}}
	x := newStreams(asked)
	if err := x.Open(t.Context(), one, 100); err != nil {
		t.Fatal(err)
	}
	x.claim(t, 101, Fresh)
	x.Done(one.key(101), Again, "")
	asked.stored = []uint64{3, 7, 8, 99, 100, 102}
	for _, from := range []uint64{5, 5, 50, 2} {
		if err := x.Open(t.Context(), one, from); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range asked.stored {
		x.claim(t, s, Known)
	}
	for _, s := range []uint64{2, 4, 5, 6, 9, 98, 101, 103} {
		x.claim(t, s, Fresh)
		x.Done(one.key(s), Stored, "")
		x.claim(t, s, Known)
	}
	asked.err = errors.New("no answer")
	if err := x.Open(t.Context(), one, 1); !errors.Is(err, asked.err) {
		t.Errorf("ledger does not answer: %v", err)
	}
	for range 5 { // the Open that failed needs no Close
		x.Close(one)
	}
	if len(x.lives) != 0 {
		t.Errorf("%d lives are left", len(x.lives))
	}
}

func TestLedgerFails(t *testing.T) {
	l := &ledger{err: errors.New("no answer")}
	x := newStreams(l)
	if err := x.Open(t.Context(), one, 1); !errors.Is(err, l.err) {
		t.Errorf("open: %v", err)
	}
	if len(x.lives) != 0 {
		t.Errorf("%d lives are remembered after an open that failed", len(x.lives))
	}
}

// TestOpenAtOnce has many streams open a life at once; the first question fails.
func TestOpenAtOnce(t *testing.T) {
	const streams = 20
	l := &ledger{stored: []uint64{3}, hold: make(chan struct{})}
	x := newStreams(l)
	first := make(chan error, 1)
	giveUp, cancel := context.WithCancel(t.Context())
	go func() { first <- x.Open(giveUp, one, 1) }()
	for l.asked.Load() == 0 {
		runtime.Gosched()
	}
	var group sync.WaitGroup
	for range streams {
		group.Go(func() {
			if err := x.Open(t.Context(), one, 1); err != nil {
				t.Error(err)
			}
		})
	}
	impatient, stop := context.WithCancel(t.Context())
	stop()
	if err := x.Open(impatient, one, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("open that was given up: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first open: %v", err)
	}
	close(l.hold)
	group.Wait()
	x.claim(t, 3, Known)
	for range streams {
		x.Close(one)
	}
	if len(x.lives) != 0 {
		t.Errorf("%d lives are left", len(x.lives))
	}
}

func TestFlyingOutlivesItsStream(t *testing.T) {
	l := &ledger{}
	x := newStreams(l)
	if err := x.Open(t.Context(), one, 1); err != nil {
		t.Fatal(err)
	}
	x.claim(t, 1, Fresh)
	x.Close(one) // the connection broke
	if err := x.Open(t.Context(), one, 1); err != nil {
		t.Fatal(err)
	}
	told := x.claim(t, 1, Flying)
	x.Done(one.key(1), Stored, "")
	if !slices.Equal(*told, []outcome{{Stored, ""}}) {
		t.Errorf("the second stream was told %v", *told)
	}
	x.Close(one)
	if l.asked.Load() != 2 || len(x.lives) != 0 {
		t.Errorf("asked %d times, %d lives left", l.asked.Load(), len(x.lives))
	}
}

func TestLastEndForgetsAClosedLife(t *testing.T) {
	x := opened(t, 1)
	x.claim(t, 1, Fresh)
	x.claim(t, 2, Fresh)
	x.Close(one)
	x.Done(one.key(2), Again, "")
	if len(x.lives) != 1 {
		t.Error("a life was forgotten while a batch of it flies")
	}
	x.Done(one.key(1), Stored, "")
	if len(x.lives) != 0 {
		t.Error("a closed life is remembered after its last batch has ended")
	}
}

// TestHolesAreClosed leaves a hole open for good, as a rejected batch does, and goes on for long.
func TestHolesAreClosed(t *testing.T) {
	x := opened(t, 1)
	l := x.lives[one]
	const last = 3 * maxEarly
	for s := uint64(2); s <= last; s++ {
		l.add(s)
	}
	if len(l.early) > maxEarly || l.next != last+1 || !slices.Equal(l.missing, []gap{{1, 2}}) {
		t.Errorf("%d early, next %d, missing %v", len(l.early), l.next, l.missing)
	}
	x.claim(t, 1, Fresh)
	x.claim(t, 2, Known)
	x.claim(t, last, Known)
	x.claim(t, last+1, Fresh)
	x.Done(one.key(1), Stored, "")
	x.claim(t, 1, Known)
	if len(l.missing) != 0 {
		t.Errorf("missing %v after the hole was filled", l.missing)
	}
}

// TestJumpsAreCheap sends what makes a life remember most: every sequence as far ahead as is allowed.
func TestJumpsAreCheap(t *testing.T) {
	x := opened(t, 1)
	l := x.lives[one]
	const count = 2 * maxEarly
	for i := range uint64(count) {
		l.add(1 + i*MaxJump)
	}
	if len(l.early) > maxEarly || len(l.missing) > count {
		t.Errorf("%d batches are remembered as %d early ones and %d gaps", count, len(l.early), len(l.missing))
	}
	x.claim(t, 1+MaxJump, Known)
	x.claim(t, 2+MaxJump, Fresh)
}

func TestGapsAreSplit(t *testing.T) {
	l := &life{next: 100, missing: []gap{{10, 15}, {20, 21}, {30, 40}}, early: map[uint64]struct{}{}}
	for _, s := range []uint64{20, 30, 39, 35, 12, 50} {
		l.add(s)
	}
	want := []gap{{10, 12}, {13, 15}, {31, 35}, {36, 39}}
	if !slices.Equal(l.missing, want) {
		t.Errorf("missing %v, want %v", l.missing, want)
	}
	for s := range uint64(100) {
		stored := !slices.ContainsFunc(want, func(g gap) bool { return s >= g.from && s < g.to })
		if l.has(s) != stored {
			t.Errorf("has(%d) is %v", s, l.has(s))
		}
	}
}

// TestAgainstASet compares with a plain set, over orders drawn from a seed.
func TestAgainstASet(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := &life{next: 1, early: map[uint64]struct{}{}}
		set := map[uint64]bool{}
		for base := uint64(1); base < 20_000; base += 1 + random.Uint64N(3) {
			s := base + random.Uint64N(1+random.Uint64N(6000))
			l.add(s)
			set[s] = true
		}
		for s := range uint64(27_000) {
			if s > 0 && l.has(s) != set[s] {
				t.Fatalf("seed %d: has(%d) is %v, the set says %v", seed, s, l.has(s), set[s])
			}
		}
	}
}

// TestManyAtOnce has streams of one life claim the same batches: each is to be stored by one of them.
func TestManyAtOnce(t *testing.T) {
	const streams, batches = 8, 2000
	x := opened(t, 1) // stays open, so that nothing is forgotten in between
	var stores [batches + 1]atomic.Int64
	var claims, told atomic.Int64
	var group sync.WaitGroup
	for i := range uint64(streams) {
		group.Go(func() {
			h, err := x.Index.Open(t.Context(), one, 1, nil)
			if err != nil {
				t.Error(err)
				return
			}
			random := rand.New(rand.NewPCG(i, 1))
			for _, n := range random.Perm(batches) {
				k := one.key(uint64(n + 1))
				state := x.Claim(k, func(End, string) { told.Add(1) })
				if state != Known {
					claims.Add(1)
				}
				if state != Fresh {
					continue
				}
				end := End(random.IntN(2))
				if end == Stored {
					stores[k.Sequence].Add(1)
				}
				x.Done(k, end, "")
			}
			h.Close()
		})
	}
	group.Wait()
	for s := 1; s <= batches; s++ {
		if n := stores[s].Load(); n > 1 {
			t.Fatalf("batch %d was stored %d times", s, n)
		}
	}
	if claims.Load() != told.Load() {
		t.Errorf("%d claims were told of %d ends", claims.Load(), told.Load())
	}
	x.Close(one)
	if len(x.lives) != 0 {
		t.Errorf("%d lives are left", len(x.lives))
	}
}
