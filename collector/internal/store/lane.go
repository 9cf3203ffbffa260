// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// lane writes the units of one table, one after the other.
type lane struct {
	*Store
	table  schema.Table
	items  chan Item
	open   map[int64]*unit // by UTC hour, which is never in two partitions
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
	hour := i.From.Unix() / 3600
	u := l.open[hour]
	if u == nil {
		u = &unit{table: l.table}
		if len(l.open) == 0 {
			timer.Reset(l.unitWait())
		}
		l.open[hour] = u
	}
	u.add(i)
}

// unitWait is how long a unit is gathered. Events are few, and somebody waits for them.
func (l *lane) unitWait() time.Duration {
	if l.table.ID == schema.EventsID {
		return l.cfg.UnitWait / 10
	}
	return l.cfg.UnitWait
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
	for hour, u := range l.open {
		delete(l.open, hour)
		l.write(ctx, u)
	}
}
