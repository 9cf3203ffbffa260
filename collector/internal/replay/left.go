// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Left are batches of the log that were not stored because their agents have gone to another collector, or because a shard
// that had their nodes before does not answer. The agents send them there, or again, so most often they need only be found in
// the ledger. An agent may have died on the way: what is not in
// the ledger after a while is stored from the log, for which this collector takes the agent back. As long as the ledger does
// not answer nobody can have stored them, so the while begins when it does.
type Left struct {
	cfg  LeftConfig
	said time.Time // when it was last said that batches wait

	mu      sync.Mutex // guards waiting
	waiting map[wire.Key]time.Time
}

// LeftConfig is Config, and how long it is waited.
type LeftConfig struct {
	Config
	Look     time.Duration // between looks into the ledger
	Patience time.Duration // before a batch is stored from the log
}

// NewLeft makes an empty set.
func NewLeft(cfg LeftConfig) *Left {
	l := &Left{cfg: cfg, waiting: make(map[wire.Key]time.Time)}
	l.cfg.Left = l.Add
	return l
}

// Add adds a batch; it never blocks.
func (l *Left) Add(k wire.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[k] = time.Now()
}

// Run looks after them until the context ends. What is left then is found by the next life.
func (l *Left) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.look(ctx)
		}
	}
}

// leftAtOnce is how many lives are looked after at the same time: the store asks for those that wait in one query.
const leftAtOnce = 64

// look takes out what the ledger has, and stores what has waited long enough.
func (l *Left) look(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(leftAtOnce)
	for life, keys := range l.lives() {
		group.Go(func() error {
			late, err := l.unended(ctx, life, keys)
			if err == nil && len(late) > 0 {
				err = l.takeBack(ctx, life, late)
			}
			if err != nil {
				l.beginAnew(keys)
				return fmt.Errorf("table %d of node %016x: %w", life.Table, life.Node, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil && time.Since(l.said) >= sayEvery { // the first of all
		l.said = time.Now()
		l.cfg.Logger.Warn("batches of the log that were left to their agents wait", "error", err)
	}
}

// sayEvery is how often it is said that batches wait.
const sayEvery = 30 * time.Second

// beginAnew has batches wait as long as if they had just come.
func (l *Left) beginAnew(keys []wire.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if _, waits := l.waiting[k]; waits {
			l.waiting[k] = time.Now()
		}
	}
}

func (l *Left) lives() map[index.Life][]wire.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	lives := make(map[index.Life][]wire.Key)
	for k := range l.waiting {
		lives[index.LifeOf(k)] = append(lives[index.LifeOf(k)], k)
	}
	return lives
}

func lowest(keys []wire.Key) uint64 {
	return slices.MinFunc(keys, func(a, b wire.Key) int { return cmp.Compare(a.Sequence, b.Sequence) }).Sequence
}

// unended settles those that the ledger has, stored or quarantined, and lists the others that have waited long enough.
func (l *Left) unended(ctx context.Context, life index.Life, keys []wire.Key) (late []wire.Key, err error) {
	ended, err := l.cfg.Store.Ended(ctx, life.Table, life.Node, life.Epoch, lowest(keys))
	if err != nil {
		return nil, err
	}
	has := make(map[uint64]bool, len(ended))
	for _, s := range ended {
		has[s] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		switch {
		case has[k.Sequence]:
			delete(l.waiting, k)
			l.cfg.Log.Settle(k)
		case time.Since(l.waiting[k]) >= l.cfg.Patience:
			late = append(late, k)
		}
	}
	return late, nil
}

// takeBack stores batches of a life.
func (l *Left) takeBack(ctx context.Context, life index.Life, keys []wire.Key) error {
	h, err := l.cfg.Index.Open(ctx, life, lowest(keys), nil)
	if err != nil {
		return err
	}
	defer h.Close()
	l.cfg.Logger.Info("storing batches of the log that nobody else has stored", "node", life.Node, "batches", len(keys))
	d, err := newDecoders()
	if err != nil {
		return err
	}
	defer d.zstd.Close()
	r := &Replay{cfg: l.cfg.Config, holds: map[index.Life]*index.Hold{life: h}}
	for _, k := range keys {
		state := h.Claim(k.Sequence, func(index.End, string) {})
		if state == index.Gone {
			return nil // again, later
		}
		l.forget(k) // who stores it tells what becomes of it
		switch state {
		case index.Known:
			l.cfg.Log.Settle(k)
		case index.Fresh:
			i, err := r.item(ctx, d, k)
			if err != nil {
				continue // it has said so
			}
			if err := r.submit(ctx, []store.Item{i}); err != nil {
				return err
			}
		case index.Flying, index.Gone:
		}
	}
	return nil
}

func (l *Left) forget(k wire.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, k)
}
