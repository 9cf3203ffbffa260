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
	now      int64                // seconds since 1970
	boundary int64                // until when the rollups are complete; 0: there are none
	hours    map[int64]hourOfWork // those since the horizon
	horizon  int64                // samples of hours before may have gone by age
	leader   string               // who makes the rollups; "" if nobody else does
}

type hourOfWork struct {
	until    int64
	compared uint64
}

// whole tells that the hour was over when it was recorded.
func (h hourOfWork) whole(start int64) bool { return h.until == start+hour }

// progress asks for all of it.
func (w *work) progress(ctx context.Context, me string, takeOver time.Duration) (progress, error) {
	p := progress{hours: map[int64]hourOfWork{}}
	var now []struct {
		Now    int64  `ch:"now"`
		Days   uint32 `ch:"days"`
		Oldest int64  `ch:"oldest"`
		Engine string `ch:"engine"`
	}
	err := w.ask(ctx, &now, fmt.Sprintf(`SELECT toInt64(toUnixTimestamp(%[1]s)) AS now,
    toUInt32OrZero(arrayFirst(rule -> rule[2] = '', extractAllGroupsVertical(engine_full, 'toDateTime\\(ts\\) \\+ toIntervalDay\\((\\d+)\\)( TO | RECOMPRESS | GROUP BY )?'))[1]) AS days,
    (SELECT if(count() = 0, %[4]d, toInt64(toUnixTimestamp(toDateTime(min(toDate(partition)), 'UTC')))) FROM system.parts WHERE active AND database = %[2]s AND table = '%[3]s') AS oldest,
    engine FROM system.tables WHERE database = %[2]s AND name = '%[3]s'`, w.clock, schema.QuoteText(w.database), samplesTable, int64(math.MaxInt32)))
	if err != nil {
		return p, fmt.Errorf("ask for the time: %w", err)
	}
	if len(now) != 1 {
		return p, fmt.Errorf("database %s has no table %s: a collector makes the tables when it starts", w.database, samplesTable)
	}
	if now[0].Engine == "Distributed" {
		return p, fmt.Errorf("%s of database %s is over the shards of a cluster: each shard has rollups of its own, in database %s", samplesTable, w.database, schema.LocalDatabase(w.database))
	}
	p.now = now[0].Now
	// What went by age, or by hand, was rolled up once, and must not be made of what is left. A day is in parts of its own,
	// and goes as a whole; what the retention was before it was changed shows by the oldest part alone.
	p.horizon = min(now[0].Oldest, floor(p.now, 24*hour))
	if now[0].Days > 0 {
		p.horizon = max(p.horizon, floor(p.now, 24*hour)-(int64(now[0].Days)-1)*24*hour)
	}
	table := w.table(schema.RollupProgressTable().Name)
	var hours []struct {
		Hour     int64  `ch:"hour"`
		Until    int64  `ch:"until"`
		Compared uint64 `ch:"compared"`
	}
	if err := w.ask(ctx, &hours, fmt.Sprintf("SELECT toInt64(toUnixTimestamp(ts)) AS hour, toInt64(toUnixTimestamp(max(%s))) AS until, argMax(%[2]s, (%[3]s, %[2]s)) AS compared FROM %[4]s GROUP BY ts",
		schema.ColumnBuiltUntil, schema.ColumnCompared, schema.ColumnGeneration, table)); err != nil {
		return p, fmt.Errorf("ask how far the rollups are: %w", err)
	}
	for _, h := range hours {
		p.boundary = max(p.boundary, h.Until)
		if h.Hour >= p.horizon {
			p.hours[h.Hour] = hourOfWork{h.Until, h.Compared}
		}
	}
	var others []struct {
		Collector string `ch:"collector"`
	}
	if err := w.ask(ctx, &others, fmt.Sprintf("SELECT DISTINCT CAST(collector, 'String') AS collector FROM %s WHERE recorded_at > %s - toIntervalSecond(%d) AND collector != '' AND collector < %s ORDER BY collector LIMIT 1",
		table, w.clock, int(takeOver.Seconds()), schema.QuoteText(me))); err != nil {
		return p, fmt.Errorf("ask who makes the rollups: %w", err)
	}
	if len(others) > 0 {
		p.leader = others[0].Collector
	}
	return p, nil
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
