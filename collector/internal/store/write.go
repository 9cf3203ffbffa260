// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

const (
	// refusals is how often ClickHouse must refuse a batch that is sent alone. Once is not enough: it
	// refuses bytes that a proxy has cut, too.
	refusals = 3
	// tooLarge is how often a unit must be too much for ClickHouse before it is sent in halves: once may
	// be a bad moment.
	tooLarge = 5
)

// write brings a unit into ClickHouse and the ledger, and settles its items. It tries for as long as
// it takes; it gives up only when the context ends.
func (l *lane) write(ctx context.Context, u *unit) {
	started := time.Now()
	u.lap("wait", nil)
	if u = l.sift(ctx, u); u == nil {
		return
	}
	if u.token == "" {
		l.name(ctx, u)
	}
	for u != nil && ctx.Err() == nil {
		u = l.writeSome(ctx, u, started)
	}
}

// writeSome makes one try, and returns the unit of what is left; nil if nothing is.
func (l *lane) writeSome(ctx context.Context, u *unit, started time.Time) *unit {
	rest, err := l.try(ctx, u)
	switch {
	case rest == nil && err == nil:
		l.metrics.inserted(ctx, l.table.Name, u.rows, time.Since(started))
		return nil
	case err == nil:
		return rest
	case isMoved(err):
		return l.giveUp(ctx, u, err)
	case refusesRows(err) && len(u.items) > 1: // find the batches that spoil the others
		return l.halve(ctx, u)
	case refusesRows(err) && u.refused >= refusals:
		l.refuse(ctx, u.items[0], err)
		return nil
	case isTooMuch(err) && u.tooMuch >= tooLarge && len(u.items) > 1:
		return l.halve(ctx, u)
	default:
		l.pause(ctx, u, err)
		return u
	}
}

// halve writes the first half of a unit and returns the second.
func (l *lane) halve(ctx context.Context, u *unit) *unit {
	half := len(u.items) / 2
	l.write(ctx, u.part(u.items[:half]))
	rest := u.part(u.items[half:])
	l.name(ctx, rest)
	return rest
}

// name gives a unit a token of its own, and has it noted. One that cannot be noted is written all the same: waiting would
// mend nothing, and what is stored makes room in a log that is full.
func (l *lane) name(ctx context.Context, u *unit) {
	u.token = l.queryID(l.table.Name)
	if l.cfg.Notes == nil {
		return
	}
	keys := make([]wire.Key, len(u.items))
	for n := range u.items {
		keys[n] = u.items[n].Key
	}
	if err := l.cfg.Notes.Note(ctx, l.table.ID, u.token, keys); err != nil && ctx.Err() == nil {
		l.cfg.Logger.Warn("a unit is not in the log; it is written all the same", "table", l.table.Name, "unit", u.token, "error", err)
	}
}

// try makes one insert. It returns the unit of what is still to be stored, nil if nothing is; with an
// error nothing of it landed. The token stays the same while the unit does: should an earlier try land
// late, after we asked, then ClickHouse takes only one of the two.
func (l *lane) try(ctx context.Context, u *unit) (*unit, error) {
	id := l.queryID(l.table.Name)
	written, err := l.insert(ctx, u, id)
	u.tries++
	u.insertLap(id, err)
	if refusesRows(err) {
		u.refused++
	}
	first := u.tries == 1 && !u.resumed
	switch {
	case err == nil && written == u.table.WrittenRows(u.rows) && first:
		return nil, l.settle(ctx, u, id)
	case err == nil:
		if first {
			l.metrics.retried(ctx, l.table.Name, nil)
			level := slog.LevelDebug
			if l.miscounted.CompareAndSwap(false, true) { // a materialized view that somebody made is counted, too
				level = slog.LevelWarn
			}
			l.cfg.Logger.Log(ctx, level, "ClickHouse counted other rows than were sent; asking what landed", "table", l.table.Name, "insert", id, "rows", u.rows, "counted", written)
		}
	case isMoved(err):
	case isRefusal(err), inView(err): // an answer, but not that nothing landed: rows are in before a view sees them
	default:
		if isTooMuch(err) {
			u.tooMuch++
		}
		l.metrics.retried(ctx, l.table.Name, err)
		l.pause(ctx, u, err)
	}
	return l.recover(ctx, u, id, err)
}

// insert sends a unit, which is laid out meanwhile. Its bytes are the same at each try.
func (l *lane) insert(ctx context.Context, u *unit, id string) (written int64, err error) {
	ctx, cancel := context.WithTimeout(u.context(ctx), l.cfg.InsertTimeout)
	defer cancel()
	b := newBody(l.format, u)
	defer b.end()
	statement := u.table.FencedInsertStatement(l.db.name, l.over(u.table, u.tenure), movedMark, l.format.name())
	return l.db.insertBy(ctx, statement, u.table.InsertStatement(l.db.name), l.format.name(), id, u.token, b)
}

// recover finds out what became of an insert that did not end with a clear success, or that was tried
// again: a token that ClickHouse has seen is answered with success whether or not its rows survived a
// crash. Until the store has said what it holds, nothing is sent again.
func (l *lane) recover(ctx context.Context, u *unit, id string, cause error) (*unit, error) {
	landed, err := insist(ctx, l, u, func() (landedRows, error) { return l.landed(ctx, u, id) })
	if err != nil {
		return u, err
	}
	if inView(cause) {
		l.viewFailed(ctx, u, len(landed), cause)
	}
	own, found, err := l.whose(ctx, u, landed)
	if err != nil {
		return u, err
	}
	rest, err := l.divide(ctx, u, schema.ReconciledUnit, found)
	if err == nil {
		rest, err = l.divide(ctx, rest, id, own)
	}
	switch {
	case err != nil:
		return rest, err
	case len(rest.items) == 0:
		return nil, nil
	case len(rest.items) == len(u.items) && cause != nil:
		return l.again(u, cause)
	default:
		l.name(ctx, rest)
		return rest, nil
	}
}

// again is what becomes of a unit of which nothing landed: the same bytes with the same token. What
// ended without an answer has had its pause; an answer is looked at first.
func (l *lane) again(u *unit, cause error) (*unit, error) {
	if isMoved(cause) || isRefusal(cause) || inView(cause) || isTooMuch(cause) && u.tooMuch >= tooLarge {
		return u, cause
	}
	return u, nil
}

// settle writes the ledger and tells the items that they are stored. The rows are in: this goes on
// until it is done.
func (l *lane) settle(ctx context.Context, u *unit, id string) error {
	l.reached(StepInserted)
	entries := make([]entry, len(u.items))
	for n, i := range u.items {
		entries[n] = entry{key: i.Key, rows: i.rows(), state: schema.LedgerStored, unit: id}
	}
	for {
		err := l.record(ctx, l.queryID("ledger"), entries)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.pause(ctx, u, err)
	}
	u.lap("ledger", nil)
	l.reached(StepRecorded)
	for _, i := range u.items {
		i.Columns.Release()
		i.Done(nil)
	}
	return nil
}

func (l *lane) refuse(ctx context.Context, i Item, err error) {
	l.metrics.refused(ctx, l.table.Name)
	i.Columns.Release()
	i.Done(Refused{err})
}

// insist asks ClickHouse until it answers, or the context ends.
func insist[T any](ctx context.Context, l *lane, u *unit, ask func() (T, error)) (T, error) {
	for {
		answer, err := ask()
		if err == nil {
			return answer, nil
		}
		if l.pause(ctx, u, err); ctx.Err() != nil {
			return answer, ctx.Err()
		}
	}
}

// pause waits before the next try, longer each time.
func (l *lane) pause(ctx context.Context, u *unit, err error) {
	u.wait = min(max(u.wait*2, l.cfg.RetryWait), l.cfg.MaxRetryWait)
	if errors.Is(err, context.Canceled) {
		return
	}
	l.metrics.failed(ctx, l.table.Name, err)
	level := slog.LevelWarn
	if inView(err) {
		level = slog.LevelDebug // viewFailed has said it
	}
	l.cfg.Logger.Log(ctx, level, "ClickHouse does not take the rows; trying again", "table", l.table.Name, "retry_in", u.wait, "error", l.cfg.Endpoint.explain(err))
	sleep(ctx, u.wait)
}
