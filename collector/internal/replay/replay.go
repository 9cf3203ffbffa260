// SPDX-License-Identifier: Apache-2.0

// Package replay brings what an earlier life of the collector had accepted into the store. It promises that a batch of
// the log is stored once, also if its agent sends it again meanwhile, and that a unit that was noted is sent as the same
// bytes with the same token. Those who ask the ledger are joined by Claim; it has
// no other goroutines.
package replay

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/aside"
	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/internal/batchtrace"
	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Log is what was accepted.
type Log interface {
	Pending() []batchlog.Unit
	Read(k wire.Key) (batchlog.Kept, error)
	Settle(keys ...wire.Key)
	Damaged(k wire.Key)
}

// Store takes batches.
type Store interface {
	Submit(ctx context.Context, i store.Item) error
	Resume(ctx context.Context, token string, items []store.Item) error
	Ended(ctx context.Context, table uint8, node, epoch, from uint64) ([]uint64, error)
	Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error
}

// Config is from where to where.
type Config struct {
	Name       string // of the collector
	Log        Log
	Index      *index.Index
	Store      Store
	Quarantine aside.Files        // keeps what can never be stored
	Trace      *batchtrace.Tracer // nil: no batch is traced
	// MayStore tells why rows may not be stored any more that an earlier life has accepted; nil: all may.
	MayStore  func(wire.Scope) error
	Logger    *slog.Logger
	RetryWait time.Duration // before the ledger is asked again that did not answer
	// FormerWait is how long it is waited for a shard that had a life's node before. What the log has of the life is left then.
	FormerWait time.Duration
	// Left is told of a batch that is not stored because another collector has its agent, or because it may be on a shard
	// that does not answer.
	Left func(wire.Key)
}

// Replay is what is to be stored.
type Replay struct {
	cfg   Config
	units []batchlog.Unit
	holds map[index.Life]*index.Hold
	left  []wire.Key // whose agents another collector has, or whose life another shard keeps from being claimed
	until time.Time  // it is waited for other shards

	mu   sync.Mutex // guards said
	said time.Time  // when it was last said that the ledger does not answer
}

// Claim asks the ledger what of the log is stored already, and claims the rest: agents that send it again wait for what
// becomes of it. It must be done before a stream is taken, and asks until it has an answer. What is of agents that have
// gone to another collector is left to that one; and what is of agents whose nodes another shard had before, which does not
// answer, is left until it does: the agents of all other nodes do not wait for it.
func Claim(ctx context.Context, cfg Config) (*Replay, error) {
	r := &Replay{cfg: cfg, until: time.Now().Add(cfg.FormerWait)}
	pending := cfg.Log.Pending()
	oldest := make(map[index.Life]uint64)
	for _, u := range pending {
		for _, k := range u.Keys {
			l := index.LifeOf(k)
			if first, ok := oldest[l]; !ok || k.Sequence < first {
				oldest[l] = k.Sequence
			}
		}
	}
	holds, err := r.openAll(ctx, oldest)
	for _, h := range holds {
		defer h.Close() // what was claimed keeps it
	}
	if err != nil {
		return nil, err
	}
	r.holds = holds
	for _, u := range pending {
		r.claim(u)
	}
	for _, k := range r.left {
		cfg.Left(k)
	}
	return r, nil
}

// atOnce is how many lives the ledger is asked about at the same time: the store asks for those that wait in one query.
const atOnce = 500

// openAll opens lives, and tells which, also if not all could be. Those that are to be left are not among them.
func (r *Replay) openAll(ctx context.Context, oldest map[index.Life]uint64) (map[index.Life]*index.Hold, error) {
	var mu sync.Mutex // guards opened
	opened := make(map[index.Life]*index.Hold)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for l, from := range oldest {
		group.Go(func() error {
			h, err := r.open(ctx, l, from)
			if h == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			opened[l] = h
			return nil
		})
	}
	err := group.Wait()
	return opened, err
}

// open opens a life, however long it takes until the ledger answers. It is nil if the life is to be left.
func (r *Replay) open(ctx context.Context, l index.Life, from uint64) (*index.Hold, error) {
	for {
		h, err := r.cfg.Index.OpenGently(ctx, l, from)
		switch {
		case err == nil:
			return h, nil
		case errors.Is(err, store.ErrHeld):
			return nil, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, store.ErrFormerAway) && !time.Now().Before(r.until):
			return nil, nil
		}
		r.away(err)
		timer := time.NewTimer(r.cfg.RetryWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// away says that the ledger does not answer, once for all who ask at the same time.
func (r *Replay) away(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.said.IsZero() || now.Sub(r.said) >= r.cfg.RetryWait {
		r.said = now
		r.cfg.Logger.Warn("what the log holds cannot be compared with the ledger; trying again", "retry_in", r.cfg.RetryWait, "error", err)
	}
}

// claim takes what is not stored of a unit. If some of it is, the rest cannot be the same bytes any more.
func (r *Replay) claim(u batchlog.Unit) {
	left := batchlog.Unit{Token: u.Token}
	for _, k := range u.Keys {
		h := r.holds[index.LifeOf(k)]
		if h == nil {
			r.left = append(r.left, k)
			continue
		}
		switch h.Claim(k.Sequence, func(index.End, string) {}) {
		case index.Known:
			r.cfg.Log.Settle(k)
		case index.Gone:
			r.left = append(r.left, k)
		case index.Fresh, index.Flying:
			left.Keys = append(left.Keys, k)
		}
	}
	if len(left.Keys) < len(u.Keys) {
		left.Token = ""
	}
	if len(left.Keys) > 0 {
		r.units = append(r.units, left)
	}
}

// Batches is how many are to be stored.
func (r *Replay) Batches() (sum int) {
	for _, u := range r.units {
		sum += len(u.Keys)
	}
	return sum
}

// Run hands everything to the store. What is left when the context ends is found by the next life.
func (r *Replay) Run(ctx context.Context) error {
	if len(r.units) == 0 {
		return nil
	}
	r.cfg.Logger.Info("storing what an earlier life had accepted", "batches", r.Batches())
	d, err := newDecoders()
	if err != nil {
		return err
	}
	defer d.zstd.Close()
	for _, u := range r.units {
		if err := r.store(ctx, d, u); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (r *Replay) store(ctx context.Context, d *decoders, u batchlog.Unit) error {
	if u.Token == "" {
		for _, k := range u.Keys { // one after the other: there may be many
			if i, err := r.item(ctx, d, k); err == nil {
				if err := r.submit(ctx, []store.Item{i}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var items []store.Item
	for _, k := range u.Keys {
		if i, err := r.item(ctx, d, k); err == nil {
			items = append(items, i)
		}
	}
	if len(items) < len(u.Keys) || !alike(items) { // it is another unit
		return r.submit(ctx, items)
	}
	err := r.cfg.Store.Resume(ctx, u.Token, items)
	if err != nil {
		release(items)
	}
	return err
}

func (r *Replay) submit(ctx context.Context, items []store.Item) error {
	for n, i := range items {
		if err := r.cfg.Store.Submit(ctx, i); err != nil {
			release(items[n:])
			return err
		}
	}
	return nil
}

// alike tells that items are under claims of one tenure.
func alike(items []store.Item) bool {
	return !slices.ContainsFunc(items, func(i store.Item) bool { return i.Tenure != items[0].Tenure })
}

func release(items []store.Item) {
	for _, i := range items {
		i.Columns.Release()
	}
}

// item reads a batch. One of which the bytes are lost is given up: its agent has it still. One that cannot be read now stays
// in the log, for its agent may be gone: a later start reads it.
func (r *Replay) item(ctx context.Context, d *decoders, k wire.Key) (store.Item, error) {
	b, err := r.cfg.Log.Read(k)
	if err == nil {
		var i store.Item
		h := r.holds[index.LifeOf(k)]
		if i, err = d.item(b); err == nil && r.cfg.MayStore != nil {
			if why := r.cfg.MayStore(b.Scope); why != nil {
				i.Columns.Release()
				r.done(ctx, h, k, why)
				return store.Item{}, why
			}
		}
		if err == nil {
			span := r.cfg.Trace.Of(k).Collect("collect again", time.Now(), 0)
			i.Tenure, i.Doubtful, i.Span = h.Tenure(), true, span
			i.Done = func(err error) {
				r.done(ctx, h, k, err)
				span.End(err)
			}
			return i, nil
		}
	}
	if isLost(err) {
		r.cfg.Logger.Error("a batch of the log is damaged; its agent is to send it again", "batch", k.String(), "error", err)
		r.cfg.Log.Damaged(k)
	} else {
		r.cfg.Logger.Error("a batch of the log cannot be read now; it stays there until its agent sends it again, or the next start", "batch", k.String(), "error", err)
	}
	r.holds[index.LifeOf(k)].Done(k.Sequence, index.Again, err.Error())
	return store.Item{}, err
}

// isLost tells of an error that will be the same whenever the batch is read.
func isLost(err error) bool {
	return errors.Is(err, frames.ErrBad) || errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLarge)
}
