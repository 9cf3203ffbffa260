// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/replay"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// shard is what a collector has for one shard of a cluster, or for the one server: a log and a store of its own. One that
// is away stops the streams of its own nodes alone.
type shard struct {
	number    int // from 1 on; 0: there is no cluster
	units     store.Config
	log       *batchlog.Log // nil: there is none
	instances string        // the file in which its processes are numbered; "" without a log

	mu     sync.Mutex // guards the fields below
	store  *store.Store
	why    error // why there is no store
	taking bool  // what was accepted is claimed: streams may come
	left   *replay.Left
}

// name is how people call it, with a blank before; nothing without a cluster.
func (s *shard) name() string {
	if s.number == 0 {
		return ""
	}
	return fmt.Sprintf(" of shard %d", s.number)
}

var errNotYet = errors.New("ClickHouse has not answered since this collector started")

// opened is the store, once there is one.
func (s *shard) opened() (*store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return nil, fmt.Errorf("shard %d: %w", s.number, cmp.Or(s.why, errNotYet))
	}
	return s.store, nil
}

var errUnclaimed = errors.New("what was accepted is not compared with ClickHouse yet")

// takes tells whether streams of its nodes may come, and if not, why.
func (s *shard) takes() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.store == nil:
		return fmt.Errorf("shard %d: %w", s.number, cmp.Or(s.why, errNotYet))
	case !s.taking:
		return fmt.Errorf("shard %d: %w", s.number, errUnclaimed)
	default:
		return nil
	}
}

// leave is told of a batch of the log whose agent another collector has.
func (s *shard) leave(k wire.Key) {
	s.mu.Lock()
	left := s.left
	s.mu.Unlock()
	if left != nil {
		left.Add(k)
	}
}

const (
	// openRetry is how long it is waited before a shard is opened again that could not be.
	openRetry    = time.Second
	maxOpenRetry = 15 * time.Second
)

// open opens the store, however long it takes: the other shards do not wait for it. Some errors are no other shard's
// matter, and mended by people, such as a missing right; these are tried again, too.
func (s *shard) open(ctx context.Context) error {
	for wait := openRetry; ; wait = min(2*wait, maxOpenRetry) {
		stored, err := store.Open(ctx, s.units)
		if err == nil {
			s.mu.Lock()
			s.store = stored
			s.mu.Unlock()
			return nil
		}
		if _, taken := errors.AsType[store.NameTaken](err); taken || errors.Is(err, store.ErrMapChanged) || ctx.Err() != nil {
			return err
		}
		s.mu.Lock()
		s.why = err
		s.mu.Unlock()
		s.units.Logger.Error("a shard cannot be opened; its agents wait, and it is tried again", "shard", s.number, "retry_in", wait, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err := s.renumber(); err != nil {
			return err
		}
	}
}

// renumber numbers the process of a shard. One that could not be opened may have said already that it has ended: then nobody
// would see that it runs.
func (s *shard) renumber() (err error) {
	if s.instances != "" {
		s.units.Instance, s.units.Former, err = newInstance(s.instances)
	}
	return err
}

// errStopped ends all shards because one must: its store tells why.
var errStopped = errors.New("a shard's store has stopped")

// serve opens the shard, and stores what is accepted for it until the context ends. Its store is added to those that run
// on after that.
func (p *pipeline) serve(ctx, storing context.Context, s *shard, stores *errgroup.Group) error {
	if s.store == nil {
		err := s.open(ctx)
		if errors.Is(err, store.ErrMapChanged) {
			p.otherMap()
			<-ctx.Done()
			return nil
		}
		if err != nil {
			return endOf(ctx, err)
		}
	}
	stores.Go(func() error { return s.store.Run(storing) })
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watch(ctx, s.store) })
	group.Go(func() error { return endOf(ctx, p.takeUp(ctx, s)) })
	group.Go(func() error { return endOf(ctx, p.rollUp(ctx, s)) })
	return group.Wait()
}

// watch looks out for what a store learns of others.
func (p *pipeline) watch(ctx context.Context, s *store.Store) error {
	for changed := s.MapChanged(); ; {
		select {
		case <-s.NameTaken():
			return errStopped
		case <-changed:
			p.otherMap()
			changed = nil
		case <-ctx.Done():
			return nil
		}
	}
}

// endOf is nil if the context has ended: what failed then failed because of it.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // to be told to stop is no error
	}
	return err
}

// takeUp claims what logs have for the shard, has its streams taken, and stores what was claimed.
func (p *pipeline) takeUp(ctx context.Context, s *shard) error {
	group, storing := errgroup.WithContext(ctx)
	for _, l := range p.logsFor(s) {
		again := replay.Config{
			Name: p.cfg.Name, Log: l, Index: p.index, Store: p.store, Quarantine: p.quarantine, MayStore: p.cfg.Admits.Check, Trace: p.cfg.Trace, Logger: p.cfg.Logger, RetryWait: ledgerWait, FormerWait: formerWait,
		}
		left := replay.NewLeft(replay.LeftConfig{Config: again, Look: leftLook, Patience: cmp.Or(p.cfg.LeftPatience, leftPatience)})
		again.Left = left.Add
		accepted, err := replay.Claim(ctx, again)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if l.own {
			s.mu.Lock()
			s.left = left
			s.mu.Unlock()
		}
		group.Go(func() error { return accepted.Run(storing) })
		group.Go(func() error { return left.Run(storing) })
	}
	s.mu.Lock()
	s.taking = true
	s.mu.Unlock()
	p.takingOnce.Do(func() { close(p.taking) })
	return group.Wait()
}

// logPart is what a log has for one shard.
type logPart struct {
	*batchlog.Log
	has func(node uint64) bool
	own bool // it is the log of that shard
}

// Pending lists it. What was noted of units does not hold for what another shard's log has: they are stored elsewhere now.
func (t logPart) Pending() (units []batchlog.Unit) {
	for _, u := range t.Log.Pending() {
		mine := batchlog.Unit{Token: u.Token}
		for _, k := range u.Keys {
			if t.has(k.Node) {
				mine.Keys = append(mine.Keys, k)
			}
		}
		if !t.own || len(mine.Keys) < len(u.Keys) {
			mine.Token = ""
		}
		if len(mine.Keys) > 0 {
			units = append(units, mine)
		}
	}
	return units
}

// logsFor lists the logs that have, or will have, batches of a shard's nodes: its own, and those of other shards that had the
// nodes before.
func (p *pipeline) logsFor(s *shard) (parts []logPart) {
	has := func(node uint64) bool { return p.store.of(node) == s }
	for _, l := range p.logs {
		t := logPart{Log: l, has: has, own: l == s.log}
		if t.own || len(t.Pending()) > 0 {
			parts = append(parts, t)
		}
	}
	return parts
}
