// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/collector/internal/index"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// router brings each batch to the shard that has its node. It holds nothing itself.
type router struct {
	topology
	parts []*shard
}

// of is the shard of a node.
func (r *router) of(node uint64) *shard { return r.parts[r.topology.of(node)] }

// formerOf lists the opened stores of shards that had a node before.
func (r *router) formerOf(node, epoch uint64) (stores []*store.Store) {
	for _, i := range r.former(node, epoch, time.Now()) {
		if s, err := r.parts[i].opened(); err == nil {
			stores = append(stores, s)
		}
	}
	return stores
}

// Claim claims a life on its shard. Before that it claims it on those that had the node by an earlier map: whoever goes by
// that map still stores nothing more there, and what is stored there is known.
func (r *router) Claim(ctx context.Context, table uint8, node, epoch, from uint64, gently bool) (store.Grant, error) {
	var there store.Grant
	for _, i := range r.former(node, epoch, time.Now()) {
		s, err := r.parts[i].opened()
		if err != nil {
			return store.Grant{}, fmt.Errorf("%w: %w", store.ErrFormerAway, err)
		}
		g, err := s.Claim(ctx, table, node, epoch, from, gently)
		switch {
		case errors.Is(err, store.ErrHeld), errors.Is(err, store.ErrContested):
			return store.Grant{}, fmt.Errorf("shard %d, which had the node: %w", i+1, err)
		case err != nil:
			return store.Grant{}, fmt.Errorf("%w: shard %d: %w", store.ErrFormerAway, i+1, err)
		}
		there.Stored, there.Doubtful = append(there.Stored, g.Stored...), there.Doubtful || g.Doubtful
	}
	s, err := r.of(node).opened()
	if err != nil {
		return store.Grant{}, err
	}
	g, err := s.Claim(ctx, table, node, epoch, from, gently)
	g.Stored, g.Doubtful = append(g.Stored, there.Stored...), g.Doubtful || there.Doubtful
	return g, err
}

// Submit implements receiver.Store.
func (r *router) Submit(ctx context.Context, i store.Item) error {
	s, err := r.of(i.Key.Node).opened()
	if err != nil {
		return err
	}
	return s.Submit(ctx, i)
}

// Resume implements replay.Store: all of a unit is of one shard.
func (r *router) Resume(ctx context.Context, token string, items []store.Item) error {
	s, err := r.of(items[0].Key.Node).opened()
	if err != nil {
		return err
	}
	return s.Resume(ctx, token, items)
}

// Ended implements replay.Store.
func (r *router) Ended(ctx context.Context, table uint8, node, epoch, from uint64) (ended []uint64, err error) {
	for _, i := range append(r.former(node, epoch, time.Now()), r.topology.of(node)) {
		s, err := r.parts[i].opened()
		if err != nil {
			return nil, err
		}
		more, err := s.Ended(ctx, table, node, epoch, from)
		if err != nil {
			return nil, err
		}
		ended = append(ended, more...)
	}
	return ended, nil
}

// Quarantined implements receiver.Store.
func (r *router) Quarantined(ctx context.Context, k wire.Key, rows int64, reason string) error {
	s, err := r.of(k.Node).opened()
	if err != nil {
		return err
	}
	return s.Quarantined(ctx, k, rows, reason)
}

// Select asks the cluster, or the one server, by the first shard that is there.
func (r *router) Select(ctx context.Context, into any, query string) (err error) {
	for _, part := range r.parts {
		var s *store.Store
		if s, err = part.opened(); err == nil {
			return s.Select(ctx, into, query)
		}
	}
	return err
}

// Append implements receiver.Log. A batch that could not be handed on is not accepted: it would wait for the next start.
func (r *router) Append(b *wire.Batch, done func(error)) {
	s := r.of(b.Identity.Node)
	if err := s.takes(); err != nil {
		done(err)
		return
	}
	s.log.Append(b, done)
}

// Settle implements receiver.Log. The batches are of one node.
func (r *router) Settle(keys ...wire.Key) {
	if len(keys) > 0 {
		r.of(keys[0].Node).log.Settle(keys...)
	}
}

// left is told of a batch of the log that another collector is to store.
func (r *router) left(k wire.Key) { r.of(k.Node).leave(k) }

// gate opens lives of nodes whose shard takes streams.
type gate struct {
	*index.Index
	shards *router
}

// Open implements receiver.Index.
func (g gate) Open(ctx context.Context, l index.Life, from uint64, over func()) (*index.Hold, error) {
	if err := g.shards.of(l.Node).takes(); err != nil {
		return nil, err
	}
	return g.Index.Open(ctx, l, from, over)
}
