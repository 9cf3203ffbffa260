// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/gpufleet/gpufleet/schema"
)

// sift settles those of a unit's batches that another collector has stored, as found and not as an insert of its own: both may
// record them, and the audit must not take them for stored twice. It returns the unit of the rest; nil if
// nothing is left, or the context has ended. Those that may be on another shard are parted off.
func (l *lane) sift(ctx context.Context, u *unit) *unit {
	items := u.doubtful()
	if len(items) == 0 {
		return u
	}
	landed, err := insist(ctx, l, u, func() (landedRows, error) { return l.counted(ctx, u.part(items)) })
	if err != nil {
		return nil
	}
	rest := u
	if len(landed) > 0 {
		if rest, err = l.divide(ctx, u, schema.ReconciledUnit, landed); err != nil || len(rest.items) == 0 {
			return nil
		}
	}
	if rest = l.partFormer(ctx, rest); rest == nil {
		return nil
	}
	for n := range rest.items {
		rest.items[n].Doubtful = false
	}
	return rest
}

// giveUp ends the batches of a unit whose agents have gone to another collector, and returns the unit of the rest; nil if
// nothing is left, or the context has ended.
func (l *lane) giveUp(ctx context.Context, u *unit, cause error) *unit {
	lost, err := insist(ctx, l, u, func() (map[life]bool, error) { return l.lost(ctx, u.table, u.tenure) })
	if err != nil {
		return nil
	}
	var rest, gone []Item
	for _, i := range u.items {
		if lost[lifeOf(i.Key)] {
			gone = append(gone, i)
		} else {
			rest = append(rest, i)
		}
	}
	if len(gone) == 0 {
		l.pause(ctx, u, fmt.Errorf("no agent has gone: %w", cause))
		return u
	}
	l.cfg.Logger.Info("agents have gone to another collector with batches that were not stored", "table", l.table.Name, "batches", len(gone), "of", len(u.items))
	l.metrics.left(ctx, l.table.Name, int64(len(gone)))
	for _, i := range gone {
		i.Columns.Release()
		i.Done(Moved{i.Key})
	}
	if len(rest) == 0 {
		return nil
	}
	u = u.part(rest)
	l.name(ctx, u)
	return u
}

// whose tells what of landed rows an insert of ours has brought, and what may be another collector's: that of agents that have
// gone. It is asked after the rows were counted, so whoever stored some of these had ended our claim before.
func (l *lane) whose(ctx context.Context, u *unit, landed landedRows) (own, found landedRows, err error) {
	if len(landed) == 0 {
		return nil, nil, nil
	}
	lost, err := insist(ctx, l, u, func() (map[life]bool, error) { return l.lost(ctx, u.table, u.tenure) })
	if err != nil {
		return nil, nil, err
	}
	own, found = make(landedRows), make(landedRows)
	for k, rows := range landed {
		if lost[lifeOf(k)] {
			found[k] = rows
		} else {
			own[k] = rows
		}
	}
	return own, found, nil
}

// divide settles the batches of a unit that have landed, and returns the unit of the rest.
func (l *lane) divide(ctx context.Context, u *unit, id string, landed landedRows) (*unit, error) {
	var done []Item
	for _, i := range u.items {
		switch n := landed[i.Key]; {
		case n == i.rows():
			done = append(done, i)
		case n > 0: // one block into one partition lands whole: a fault of ours or of the store
			l.refuse(ctx, i, fmt.Errorf("unit %s: %d of %d rows of batch %v landed", id, n, i.rows(), i.Key))
		}
	}
	rest := u.without(landed)
	if len(done) > 0 {
		if err := l.settle(ctx, u.part(done), id); err != nil {
			return rest, err
		}
	}
	return rest, nil
}

// HasMoved tells that a batch was not stored because its agent has gone to another collector.
func HasMoved(err error) bool {
	_, ok := errors.AsType[Moved](err)
	return ok
}
