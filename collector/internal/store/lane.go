// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// lane writes the units of one table, one after the other.
type lane struct {
	*Store
	table  schema.Table
	items  chan Item
	open   map[int64]*unit // by UTC day
	oldest time.Time       // when the first item of an open unit came
	buffer bytes.Buffer
	wait   time.Duration // before the next try
}

// run gathers and writes until the channel of items is closed, and writes what is left; or until the
// context ends. Items that are not settled then are not told so: their agents send them again.
func (l *lane) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case i, ok := <-l.items:
			if !ok {
				l.writeAll(ctx)
				return nil
			}
			l.take(i, timer)
		case <-timer.C:
			l.writeAll(ctx)
			continue
		}
		l.takeWaiting(timer)
		if l.rows() >= int64(l.cfg.UnitRows) {
			l.writeAll(ctx)
		}
	}
}

func (l *lane) take(i Item, timer *time.Timer) {
	day := i.From.Unix() / 86400
	u := l.open[day]
	if u == nil {
		u = &unit{table: l.table}
		if len(l.open) == 0 {
			timer.Reset(l.cfg.UnitWait)
		}
		l.open[day] = u
	}
	u.add(i)
}

func (l *lane) takeWaiting(timer *time.Timer) {
	for l.rows() < int64(l.cfg.UnitRows) {
		select {
		case i, ok := <-l.items:
			if !ok {
				return // run sees it too
			}
			l.take(i, timer)
		default:
			return
		}
	}
}

func (l *lane) rows() (n int64) {
	for _, u := range l.open {
		n += u.rows
	}
	return n
}

func (l *lane) writeAll(ctx context.Context) {
	for day, u := range l.open {
		delete(l.open, day)
		l.write(ctx, u)
	}
}

// refusals is how often ClickHouse must refuse a batch that is sent alone. Once is not enough: it refuses
// bytes that a proxy has cut, too.
const refusals = 3

// write brings a unit into ClickHouse and the ledger, and settles its items. It tries for as long as
// it takes; it gives up only when the context ends.
func (l *lane) write(ctx context.Context, u *unit) {
	started := time.Now()
	u.token = l.queryID(l.table.Name)
	for ctx.Err() == nil {
		rest, err := l.try(ctx, u)
		switch {
		case err == nil && rest == nil:
			l.wait = 0
			l.metrics.inserted(ctx, l.table.Name, u.rows, time.Since(started))
			return
		case err == nil:
			u = rest
		case isRefusal(err) && len(u.items) == 1 && u.tries < refusals:
			l.metrics.failed(ctx, l.table.Name)
		case isRefusal(err) && len(u.items) == 1:
			l.refuse(ctx, u.items[0], err)
			return
		case isRefusal(err):
			half := len(u.items) / 2 // find the batches that spoil the others
			l.write(ctx, part(u, u.items[:half]))
			u = part(u, u.items[half:])
			u.token = l.queryID(l.table.Name)
		default:
			l.pause(ctx, err)
		}
	}
}

func part(u *unit, items []Item) *unit {
	p := &unit{table: u.table}
	for _, i := range items {
		p.add(i)
	}
	return p
}

// try makes one insert. It returns the unit of what is still to be stored, nil if nothing is. The
// token stays the same while the unit does: should an earlier try land late, after we asked, then
// ClickHouse takes only one of the two.
func (l *lane) try(ctx context.Context, u *unit) (*unit, error) {
	if err := u.encode(&l.buffer); err != nil {
		return u, err
	}
	id := l.queryID(l.table.Name)
	inserting, cancel := context.WithTimeout(ctx, l.cfg.InsertTimeout)
	written, err := l.db.insert(inserting, u.table.InsertStatement(l.db.name), id, u.token, bytes.NewReader(l.buffer.Bytes()))
	cancel()
	u.tries++
	switch {
	case isRefusal(err):
		return u, err
	case err == nil && written == u.table.WrittenRows(u.rows) && u.tries == 1:
		return nil, l.settle(ctx, u, id)
	case err == nil && u.tries == 1:
		err = fmt.Errorf("insert %s: ClickHouse counted %d rows of %d", id, written, u.rows)
	}
	return l.recover(ctx, u, id, err)
}

// recover finds out what became of an insert that ended without a clear answer, or that was tried
// again: a token that ClickHouse has seen is answered with success whether or not its rows survived a
// crash. Until the store has said what it holds, nothing is sent again.
func (l *lane) recover(ctx context.Context, u *unit, id string, cause error) (*unit, error) {
	if cause != nil {
		l.metrics.retried(ctx, l.table.Name)
		l.pause(ctx, cause)
	}
	landed, err := l.landed(ctx, u, id)
	for err != nil {
		if ctx.Err() != nil {
			return u, ctx.Err()
		}
		l.pause(ctx, err)
		landed, err = l.landed(ctx, u, id)
	}
	var done []Item
	for _, i := range u.items {
		switch n := landed[i.Key]; {
		case n == i.Record.NumRows():
			done = append(done, i)
		case n > 0: // one block into one partition lands whole: a fault of ours or of the store
			l.refuse(ctx, i, fmt.Errorf("unit %s: %d of %d rows of batch %v landed", id, n, i.Record.NumRows(), i.Key))
		}
	}
	rest := u.without(landed)
	if len(done) > 0 {
		if err := l.settle(ctx, part(u, done), id); err != nil {
			return rest, err
		}
	}
	switch {
	case len(rest.items) == 0:
		return nil, nil
	case len(rest.items) == len(u.items) && cause != nil:
		return u, nil // nothing landed: the same bytes with the same token
	default:
		rest.token = l.queryID(l.table.Name)
		return rest, nil
	}
}

// landed ends the insert if it still runs, and counts the rows of each of the unit's batches.
func (l *lane) landed(ctx context.Context, u *unit, id string) (map[wire.Key]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.QueryTimeout)
	defer cancel()
	if err := l.db.Exec(ctx, fmt.Sprintf("KILL QUERY WHERE query_id = '%s' SYNC", id)); err != nil {
		return nil, fmt.Errorf("end insert %s: %w", id, err)
	}
	wanted := make(map[wire.Key]bool, len(u.items))
	for _, i := range u.items {
		wanted[i.Key] = true
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"from": fmt.Sprint(u.from.UnixMilli()), "to": fmt.Sprint(u.to.UnixMilli()),
	}))
	rows, err := l.db.Query(ctx, fmt.Sprintf(
		"SELECT node_id, epoch, seq, count() FROM `%s`.`%s` WHERE ts >= fromUnixTimestamp64Milli({from:Int64}) AND ts < fromUnixTimestamp64Milli({to:Int64} + 1) GROUP BY node_id, epoch, seq",
		l.db.name, u.table.Name))
	if err != nil {
		return nil, fmt.Errorf("count what landed of %s: %w", id, err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	landed := make(map[wire.Key]int64)
	for rows.Next() {
		var count uint64
		k := wire.Key{Table: u.table.ID}
		if err := rows.Scan(&k.Node, &k.Epoch, &k.Sequence, &count); err != nil {
			return nil, fmt.Errorf("count what landed of %s: %w", id, err)
		}
		if wanted[k] {
			landed[k] = int64(count)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count what landed of %s: %w", id, err)
	}
	return landed, nil
}

// settle writes the ledger and tells the items that they are stored. The rows are in: this goes on
// until it is done.
func (l *lane) settle(ctx context.Context, u *unit, id string) error {
	entries := make([]entry, len(u.items))
	for n, i := range u.items {
		entries[n] = entry{key: i.Key, rows: i.Record.NumRows(), state: schema.LedgerStored, unit: id}
	}
	for {
		err := l.record(ctx, l.queryID("ledger"), entries)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.pause(ctx, err)
	}
	for _, i := range u.items {
		i.Record.Release()
		i.Done(nil)
	}
	return nil
}

func (l *lane) refuse(ctx context.Context, i Item, err error) {
	l.metrics.refused(ctx, l.table.Name)
	i.Record.Release()
	i.Done(Refused{err})
}

// pause waits before the next try, longer each time.
func (l *lane) pause(ctx context.Context, err error) {
	l.wait = min(max(l.wait*2, l.cfg.RetryWait), l.cfg.MaxRetryWait)
	if errors.Is(err, context.Canceled) {
		return
	}
	l.metrics.failed(ctx, l.table.Name)
	l.cfg.Logger.Warn("ClickHouse does not take the rows; trying again", "table", l.table.Name, "retry_in", l.wait, "error", err)
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
