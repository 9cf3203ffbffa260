// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/gpufleet/gpufleet/schema"
)

// ErrFormerAway says that a shard does not answer which had the agent's node before: what it has of the agent is not known.
// A batch that ends with it was not inserted, may be stored there, and is to come again.
var ErrFormerAway = errors.New("a shard that had the node before does not answer")

// formerQuestions is how many units of a table may wait for another shard at the same time.
const formerQuestions = 4

// partFormer parts those of a unit's doubtful batches off whose node another shard had before, and returns the unit of the
// rest; nil if nothing is left. They are looked for there beside the lane, whose slots do not wait for another shard.
func (l *lane) partFormer(ctx context.Context, u *unit) *unit {
	if l.cfg.Shard == nil || l.cfg.Shard.Former == nil {
		return u
	}
	var rest, moved []Item
	there := make(map[*Store][]Item)
	for _, i := range u.items {
		var former []*Store
		if i.Doubtful {
			former = l.cfg.Shard.Former(i.Key.Node, i.Key.Epoch)
		}
		for _, s := range former {
			there[s] = append(there[s], i)
		}
		if len(former) > 0 {
			moved = append(moved, i)
		} else {
			rest = append(rest, i)
		}
	}
	switch {
	case len(moved) == 0:
		return u
	case len(rest) == 0:
		l.lookElsewhere(ctx, u, there)
		return nil
	default:
		l.lookElsewhere(ctx, u.part(moved), there)
		return u.part(rest)
	}
}

// lookElsewhere has a unit looked for on other shards, and then written. Of a shard that does not answer nobody waits for an
// answer: the batches are to come again.
func (l *lane) lookElsewhere(ctx context.Context, u *unit, there map[*Store][]Item) {
	select {
	case l.asking <- struct{}{}:
	default:
		l.postpone(u, errors.New("others wait for its answer"))
		return
	}
	l.writing.Go(func() {
		rest := l.siftFormer(ctx, u, there)
		<-l.asking
		if rest == nil {
			return
		}
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-l.slots }()
		l.write(ctx, rest)
	})
}

// siftFormer settles those of a unit's batches that have landed on a shard which had their node before, and returns the unit
// of the rest; nil if nothing is left, a shard does not answer, or the context has ended. Their ledger is the one of the
// shard where they are.
func (l *lane) siftFormer(ctx context.Context, u *unit, there map[*Store][]Item) *unit {
	for s, items := range there {
		other := s.lanes[l.table.ID]
		landed, err := other.counted(ctx, u.part(items))
		if err != nil {
			if ctx.Err() == nil {
				l.postpone(u, err)
			}
			return nil
		}
		if len(landed) == 0 {
			continue
		}
		if u, err = other.divide(ctx, u, schema.ReconciledUnit, landed); err != nil || len(u.items) == 0 {
			return nil
		}
	}
	for n := range u.items {
		u.items[n].Doubtful = false
	}
	return u
}

// postpone gives batches back that can be neither stored nor settled now.
func (l *lane) postpone(u *unit, cause error) {
	l.cfg.Logger.Warn("batches are to come again, for a shard that had their nodes before does not answer", "table", l.table.Name, "batches", len(u.items), "error", cause)
	for _, i := range u.items {
		i.Columns.Release()
		i.Done(fmt.Errorf("batch %v: %w: %w", i.Key, ErrFormerAway, cause))
	}
}
