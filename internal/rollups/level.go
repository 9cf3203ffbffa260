// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// level is a rollup, with what its rows are made of.
//
//	gpu_samples ─▶ gpu_samples_1m ─▶ gpu_samples_1h
//	               by minute         by hour, when it is over
//
// All that is done with rollups is done with each level in this order.
type level struct {
	schema.Rollup
	from    string // what follows FROM
	samples string // expression for how many samples several rows of it stand for
	finer   bool   // rows of the level before, and not samples
	weight  uint64 // what it takes to read a row of it, in samples
	step    string // that is reached when rows of the level are there which were behind
}

func (w *work) allLevels() []level {
	rollups := schema.Rollups()
	minutes, hours := rollups[0], rollups[1]
	return []level{
		{Rollup: minutes, from: w.samples(), samples: "count()", weight: 1, step: StepMended},
		{Rollup: hours, from: w.table(minutes.Name) + " FINAL", samples: "sum(" + schema.ColumnRows + ")", finer: true, weight: 10, step: StepHours},
	}
}

// key is what a row is of, besides its time; its first column is the id by which work is shared out.
func (l level) key() string { return strings.Join(l.Key, ", ") }

func (l level) where(g share) string { return g.where(l.Key[0]) }

// has tells whether windows of the level are over in a span: an hour is made as a whole.
func (l level) has(s span) bool { return l.Seconds < hour || s.whole() }

// source is the condition for what the rows of a span are made of.
func (l level) source(s span) string {
	if l.finer {
		return s.ofRollup()
	}
	return s.ofSamples()
}

// insert makes the rows of a level for which the condition holds.
func (w *work) insert(ctx context.Context, l level, s span, where string, generation uint64) error {
	return w.make(ctx, l, schema.RollupSource{From: l.from, Where: l.source(s) + " AND " + where, Generation: strconv.FormatUint(generation, 10), Finer: l.finer})
}

func (w *work) make(ctx context.Context, l level, source schema.RollupSource) error {
	return w.exec(ctx, fmt.Sprintf("INSERT INTO %s (%s)\n%s", w.table(l.Name), l.Names(), l.Query(source)))
}

// lateSource is what rows are made of that are behind, of those of a share that are in g. The time keeps ClickHouse from
// reading parts in which there is none of it.
func (w *work) lateSource(l level, s span, of lack, g share, generation uint64) schema.RollupSource {
	windows := of.windows
	if windows == "" {
		windows = fmt.Sprintf("SELECT %s, made_at FROM (%s)", l.key(), w.behind(l, s, g))
	}
	where := fmt.Sprintf("%s AND %s AND (%s, %s) IN (%s)", l.source(of.span), l.where(g), l.key(), l.Window, windows)
	return schema.RollupSource{From: l.from, Where: where, Generation: strconv.FormatUint(generation, 10), Finer: l.finer}
}

// behind asks for the windows of which a level has fewer samples than what it is made of: not of a GPU over all of the
// span, because what was deleted of one of its minutes, or of one tenant, would hide what came late in another. The two are
// asked at two moments, and never in the order that could hide a sample: what it is made of only grows.
func (w *work) behind(l level, s span, g share) string {
	return fmt.Sprintf(`SELECT %[1]s, made_at, sum(n) AS samples, sum(read) AS to_read, sum(done) AS rolled FROM (
    SELECT %[1]s, %[2]s AS made_at, toUInt64(%[3]s) AS n, count() AS read, toUInt64(0) AS done FROM %[4]s WHERE %[5]s AND %[6]s GROUP BY %[1]s, made_at
    UNION ALL SELECT %[1]s, ts, toUInt64(0), toUInt64(0), toUInt64(%[7]s) FROM %[8]s FINAL WHERE %[9]s AND %[6]s)
GROUP BY %[1]s, made_at HAVING samples > rolled`,
		l.key(), l.Window, l.samples, l.from, l.source(s), l.where(g), schema.ColumnRows, w.table(l.Name), s.ofRollup())
}

// lack is a share of the GPUs of which some windows are behind.
type lack struct {
	share
	span                       // in which these windows are
	windows             string // as a list of tuples of the key and the beginning; "" if there are many
	samples, read, rows uint64
}

// lookRows is how many rows one question for what is behind reads: it keeps a number for each window of each GPU, and no more.
const lookRows = 4_000_000

// maxListed is how many windows that are behind are listed. To ask for them once more when their rows are made would take
// longer than that, if there are few.
const maxListed = 10_000

// lacking finds the shares in which windows are behind.
func (w *work) lacking(ctx context.Context, l level, s span) (all []lack, err error) {
	of := s
	if !l.finer {
		of = span{s.hour(), s.hour() + hour} // that is in the index
	}
	rows, err := w.number(ctx, fmt.Sprintf("SELECT count() AS n FROM %s WHERE %s", strings.TrimSuffix(l.from, " FINAL"), l.source(of)))
	if err != nil {
		return nil, fmt.Errorf("count what %s of %s is made of: %w", l.Name, s, err)
	}
	err = w.each(ctx, everyGPU().divide(parts(rows, lookRows)), func(ctx context.Context, g share) error {
		found, err := w.lackingIn(ctx, l, s, g)
		if err == nil && found.rows > 0 {
			all = append(all, found)
		}
		return err
	})
	return all, err
}

func (w *work) lackingIn(ctx context.Context, l level, s span, g share) (lack, error) {
	var found []struct {
		Samples uint64 `ch:"n"`
		Read    uint64 `ch:"read"`
		Rows    uint64 `ch:"rows"`
		First   int64  `ch:"first"`
		Last    int64  `ch:"last"`
		Windows string `ch:"windows"`
	}
	err := w.ask(ctx, &found, fmt.Sprintf(`SELECT sum(samples) AS n, sum(to_read) AS read, count() AS rows, toInt64(toUnixTimestamp(min(made_at))) AS first, toInt64(toUnixTimestamp(max(made_at))) AS last,
    if(rows > %[1]d, '', arrayStringConcat(groupArray(%[1]d)(toString((%[2]s, made_at))), ', ')) AS windows FROM (%[3]s)`, maxListed, l.key(), w.behind(l, s, g)))
	if err != nil || len(found) != 1 {
		return lack{}, err
	}
	f := found[0]
	return lack{share: g, span: span{f.First, f.Last + l.Seconds}, windows: f.Windows, samples: f.Samples, read: f.Read, rows: f.Rows}, nil
}

// fill makes the rows that are behind, and says of how many samples.
func (w *work) fill(ctx context.Context, l level, s span, generation uint64) (samples uint64, err error) {
	all, err := w.lacking(ctx, l, s)
	if err != nil {
		return 0, err
	}
	for _, of := range all {
		samples += of.samples
		err := w.each(ctx, of.divide(w.limits.slices(of.read*l.weight, of.rows)), func(ctx context.Context, g share) error {
			defer w.reached(l.step)
			return w.make(ctx, l, w.lateSource(l, s, of, g, generation))
		})
		if err != nil {
			return 0, err
		}
	}
	return samples, nil
}
