// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// progress is how far the rollups are, and whose turn it is. All times are ClickHouse's: the clocks of several
// collectors may differ.
type progress struct {
	now      int64  // seconds since 1970
	boundary int64  // until when the rollups are complete; 0: there are none
	horizon  int64  // samples of hours before may have gone by age, or their rollups
	leader   string // who makes the rollups; "" if nobody else does
}

type hourOfWork struct {
	until    int64
	compared uint64
}

// whole tells that the hour was over when it was recorded.
func (h hourOfWork) whole(start int64) bool { return h.until == start+hour }

// progress asks for all of it.
func (w *work) progress(ctx context.Context, me string, takeOver time.Duration) (p progress, err error) {
	if p.now, p.horizon, err = w.kept(ctx); err != nil {
		return p, err
	}
	// Whoever works records the hour to which the rollups have come, again and again. A few days are enough, if there is
	// anything in them.
	for _, since := range []int64{p.now - 2*24*hour, 0} {
		if p.boundary, p.leader, err = w.reachedBy(ctx, since, me, takeOver); err != nil || p.boundary > 0 {
			return p, err
		}
	}
	return p, nil
}

// kept tells the time, and from when on there are all samples and rollups.
func (w *work) kept(ctx context.Context) (now, horizon int64, err error) {
	progress := schema.RollupProgressTable().Name
	var tables []struct {
		Name   string `ch:"name"`
		Now    int64  `ch:"now"`
		Days   uint32 `ch:"days"`
		Oldest int64  `ch:"oldest"`
		Engine string `ch:"engine"`
	}
	err = w.ask(ctx, &tables, fmt.Sprintf(`SELECT name, toInt64(toUnixTimestamp(%s)) AS now, %s AS days, (%s) AS oldest, engine
FROM system.tables WHERE database = %s AND name IN ('%s', '%s', '%s')`,
		w.clock, schema.KeptDays, schema.OldestDay(w.database, samplesTable, math.MaxInt32), schema.QuoteText(w.database), samplesTable, w.minutes().Name, progress))
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the time: %w", err)
	}
	if len(tables) != 3 {
		return 0, 0, fmt.Errorf("database %s lacks some of the tables %s, %s and %s: a collector makes the tables when it starts", w.database, samplesTable, w.minutes().Name, progress)
	}
	for _, t := range tables {
		if t.Engine == "Distributed" {
			return 0, 0, fmt.Errorf("%s of database %s is over the shards of a cluster: each shard has rollups of its own, in database %s", t.Name, w.database, schema.LocalDatabase(w.database))
		}
		// What went by age, or by hand, was rolled up once, and must not be made of what is left. A day is in parts of its own,
		// and goes as a whole; what the retention was before it was changed shows by the oldest part alone. Nor is anything made
		// that would go by its own age at once: it would be found missing again, and made again.
		now = t.Now
		today := floor(now, 24*hour)
		horizon = max(horizon, min(t.Oldest, today))
		if t.Days > 0 {
			horizon = max(horizon, today-(int64(t.Days)-1)*24*hour)
		}
	}
	return now, horizon, nil
}

// reachedBy asks records since a time for how far the rollups are, and who has recorded it lately, if that is not me.
func (w *work) reachedBy(ctx context.Context, since int64, me string, takeOver time.Duration) (boundary int64, leader string, err error) {
	var found []struct {
		Boundary int64  `ch:"boundary"`
		Leader   string `ch:"leader"`
	}
	err = w.ask(ctx, &found, fmt.Sprintf(`SELECT toInt64(toUnixTimestamp(max(%s))) AS boundary,
    CAST(minIf(collector, recorded_at > %s - toIntervalSecond(%d) AND collector != '' AND collector < %s), 'String') AS leader
FROM %s WHERE ts >= toDateTime(%d, 'UTC')`,
		schema.ColumnBuiltUntil, w.clock, int(takeOver.Seconds()), schema.QuoteText(me), w.table(schema.RollupProgressTable().Name), since))
	if err != nil {
		return 0, "", fmt.Errorf("ask how far the rollups are: %w", err)
	}
	if len(found) != 1 {
		return 0, "", nil
	}
	return found[0].Boundary, found[0].Leader, nil
}

// compared asks what is recorded of the hours since the horizon.
func (w *work) compared(ctx context.Context, horizon int64) (map[int64]hourOfWork, error) {
	var found []struct {
		Hour     int64  `ch:"hour"`
		Until    int64  `ch:"until"`
		Compared uint64 `ch:"compared"`
	}
	err := w.ask(ctx, &found, fmt.Sprintf("SELECT toInt64(toUnixTimestamp(ts)) AS hour, toInt64(toUnixTimestamp(max(%s))) AS until, argMax(%[2]s, (%[3]s, %[2]s)) AS compared FROM %[4]s WHERE ts >= toDateTime(%[5]d, 'UTC') GROUP BY ts",
		schema.ColumnBuiltUntil, schema.ColumnCompared, schema.ColumnGeneration, w.table(schema.RollupProgressTable().Name), horizon))
	if err != nil {
		return nil, fmt.Errorf("ask which hours are rolled up: %w", err)
	}
	hours := make(map[int64]hourOfWork, len(found))
	for _, h := range found {
		hours[h.Hour] = hourOfWork{h.Until, h.Compared}
	}
	return hours, nil
}

// survey counts the samples of the hours that parts have which were not there when it was last asked, and says which
// parts there are now. What was inserted or merged since is in a part of another name.
func (w *work) survey(ctx context.Context, known map[string]bool, horizon int64) (counts map[int64]uint64, parts map[string]bool, err error) {
	var found []struct {
		Name string `ch:"name"`
		From int64  `ch:"from_time"`
		To   int64  `ch:"to_time"`
	}
	if err := w.ask(ctx, &found, fmt.Sprintf("SELECT name, toInt64(toUnixTimestamp(min_time)) AS from_time, toInt64(toUnixTimestamp(max_time)) AS to_time FROM system.parts WHERE database = %s AND table = '%s' AND active AND rows > 0", schema.QuoteText(w.database), samplesTable)); err != nil {
		return nil, nil, fmt.Errorf("ask for the parts of the samples: %w", err)
	}
	counts, parts = make(map[int64]uint64), make(map[string]bool, len(found))
	for _, p := range found {
		parts[p.Name] = true
		if known[p.Name] {
			continue
		}
		for h := max(floor(p.From, hour), horizon); h <= p.To; h += hour {
			if _, counted := counts[h]; counted {
				continue
			}
			if counts[h], err = w.count(ctx, span{h, h + hour}); err != nil {
				return nil, nil, err
			}
		}
	}
	return counts, parts, nil
}
