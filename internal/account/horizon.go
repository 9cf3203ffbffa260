// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// errGone is of a time that must not be made again: it would be made of what is left, and say less than it did.
var errGone = errors.New("of earlier hours rows may have gone by age, or there were none: what the account says of them stays")

// rolled is from when to when there are rollups, in whole hours; 0 if there are none.
func (w *work) rolled(ctx context.Context) (first, last int64, err error) {
	var rows []struct {
		First int64 `ch:"first"`
		Last  int64 `ch:"last"`
	}
	if err := w.ask(ctx, &rows, "SELECT toInt64(toUnixTimestamp(min(ts))) AS first, toInt64(toUnixTimestamp(max(built_until))) AS last FROM "+w.table(schema.RollupProgressTable().Name)+" HAVING count() > 0"); err != nil {
		return 0, 0, fmt.Errorf("ask how far the rollups are: %w", err)
	}
	if len(rows) == 0 {
		return 0, 0, nil
	}
	return rows[0].First * second, floor(rows[0].Last*second, hour), nil
}

// known is from when to when hours can be made: there are rollups, and nothing that they are made of has gone by age.
func (w *work) known(ctx context.Context) (first, last int64, err error) {
	first, last, err = w.rolled(ctx)
	if err != nil || last == 0 {
		return 0, 0, err
	}
	oldest, err := w.oldest(ctx)
	return max(first, oldest), last, err
}

// oldest is the first hour of which all rows are there. Retention drops whole days or months, and days of minutes that were
// dropped by hand show by the oldest part.
func (w *work) oldest(ctx context.Context) (int64, error) {
	var tables []struct {
		Name  string `ch:"name"`
		Now   int64  `ch:"now"`
		Days  int64  `ch:"days"`
		First int64  `ch:"first"` // day of which there are minutes
	}
	minutes := schema.Rollups()[0].Name
	before := map[string]int64{minutes: hour} // rows of earlier hours that an hour is made of
	for _, t := range tellers {
		before[t.table] = t.before
	}
	names := make([]string, 0, len(before))
	for name := range before {
		names = append(names, schema.QuoteText(name))
	}
	if err := w.ask(ctx, &tables, fmt.Sprintf("SELECT name, toUnixTimestamp64Milli(%s) AS now, toInt64(%s) AS days, (%s) * 1000 AS first FROM system.tables WHERE database = %s AND name IN (%s)",
		w.clock, schema.KeptDays, schema.OldestDay(w.cfg.Database, minutes, 0), schema.QuoteText(w.cfg.Database), strings.Join(names, ", "))); err != nil {
		return 0, fmt.Errorf("ask how long rows are kept: %w", err)
	}
	oldest := int64(0)
	for _, t := range tables {
		oldest = max(oldest, t.First)
		if t.Days > 0 {
			oldest = max(oldest, floor(t.Now, 24*hour)-(t.Days-1)*24*hour+before[t.Name])
		}
	}
	return oldest, nil
}

// hours are those of a range that can be made.
func (w *work) hours(ctx context.Context, r Range) (from, to int64, err error) {
	first, last, err := w.known(ctx)
	if err != nil {
		return 0, 0, err
	}
	from, to, err = r.until(last)
	return max(from, first), to, err
}

// until are the hours of a range, the rollups of which have come to a last one.
func (r Range) until(last int64) (from, to int64, err error) {
	switch {
	case !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To):
		return 0, 0, fmt.Errorf("from %s to %s: give a time that begins before it ends", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	case last == 0:
		return 0, 0, errors.New("there are no rollups yet: a collector begins them when it runs")
	}
	to = last
	if !r.To.IsZero() {
		to = min(last, floor(r.To.UnixMilli()+hour-1, hour))
	}
	from = to - DefaultPeriod.Milliseconds()
	if !r.From.IsZero() {
		from = floor(r.From.UnixMilli(), hour)
	}
	return from, to, nil
}
