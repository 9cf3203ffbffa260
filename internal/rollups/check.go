// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Range is the time that a command is about.
type Range struct {
	From, To time.Time // zero: what the command takes by itself
	Limits   Limits
	// Progress is told of each hour that is done; nil if nobody asks.
	Progress func(done, all int)
}

// DefaultPeriod is checked where nothing else is said.
const DefaultPeriod = 24 * time.Hour

// maxDifferences is how many differences of a table are listed; the others are counted.
const maxDifferences = 200

// Check makes each row of the rollups anew out of the samples, and compares the two in every column: numbers
// exactly, sketches by the quantiles that they give. It writes nothing.
func Check(ctx context.Context, conn Conn, database string, r Range) (Report, error) {
	if err := r.Limits.validate(); err != nil {
		return Report{}, err
	}
	return newWork(conn, database, r.Limits).check(ctx, r)
}

func (w *work) check(ctx context.Context, r Range) (Report, error) {
	p, err := w.progress(ctx, "", time.Minute)
	if err != nil {
		return Report{}, err
	}
	from, to, err := r.toCheck(p)
	if err != nil {
		return Report{}, err
	}
	c := &check{work: w, report: Report{From: timeOf(from), To: timeOf(to), RolledUpUntil: timeOf(p.boundary), Differences: []Difference{}}}
	for _, l := range w.levels {
		c.report.Tables = append(c.report.Tables, TableReport{Name: l.Name})
	}
	spans := spansOf(from, to)
	for i, s := range spans {
		if err := c.compare(ctx, s); err != nil {
			return Report{}, err
		}
		if r.Progress != nil {
			r.Progress(i+1, len(spans))
		}
	}
	c.report.stopped = p.boundary > 0 && p.boundary < r.wanted(p)
	if c.report.unproved, err = c.hasMore(ctx, from, max(to, r.wanted(p))); err != nil {
		return Report{}, err
	}
	c.report.Verdict = c.report.verdict()
	return c.report, nil
}

// lagSeconds is how far the rollups may be behind the clock.
const lagSeconds = 10 * minute

// wanted is until when there must be rollups.
func (r Range) wanted(p progress) int64 {
	newest := p.now - lagSeconds
	if r.To.IsZero() {
		return newest
	}
	return min(floor(r.To.Unix(), minute), newest)
}

// hasMore tells whether there are samples in the time that was asked for, though nothing was compared.
func (c *check) hasMore(ctx context.Context, from, to int64) (bool, error) {
	if c.report.compared() > 0 || from >= to {
		return false, nil
	}
	n, err := c.number(ctx, fmt.Sprintf("SELECT count() AS n FROM (SELECT 1 FROM %s WHERE ts >= toDateTime64(%d, 3, 'UTC') AND ts < toDateTime64(%d, 3, 'UTC') LIMIT 1)", c.samples(), from, to))
	if err != nil {
		return false, fmt.Errorf("ask whether there are samples from %s on: %w", timeOf(from).Format(time.RFC3339), err)
	}
	return n > 0, nil
}

// toCheck is the time that is checked: no later than the rollups have come, no earlier than there are samples.
func (r Range) toCheck(p progress) (from, to int64, err error) {
	to = floor(p.boundary, hour)
	if !r.To.IsZero() {
		to = min(floor(r.To.Unix(), minute), p.boundary)
	}
	from = max(to, r.wanted(p)) - int64(DefaultPeriod.Seconds())
	if to > 0 {
		from = to - int64(DefaultPeriod.Seconds())
	}
	if !r.From.IsZero() {
		from = floor(r.From.Unix(), minute)
	}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		return 0, 0, fmt.Errorf("from %s to %s: give a time that begins before it ends", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	}
	from = max(from, p.horizon, 0)
	return from, max(from, to), nil
}

// spansOf divides a time by hours.
func spansOf(from, to int64) []span {
	var all []span
	for from < to {
		s := span{from, min(to, floor(from, hour)+hour)}
		all = append(all, s)
		from = s.until
	}
	return all
}

type check struct {
	*work
	report Report
}

// compare compares what both tables have of a span. An hour counts only as a whole.
func (c *check) compare(ctx context.Context, s span) error {
	samples, err := c.count(ctx, s)
	if err != nil {
		return err
	}
	rows, err := c.rows(ctx, s)
	if err != nil || samples == 0 && rows == 0 {
		return err
	}
	for i, l := range c.levels {
		if !l.has(s) {
			continue
		}
		t := &c.report.Tables[i]
		err := c.each(ctx, everyGPU().divide(c.limits.slices(samples, rows)), func(ctx context.Context, g share) error { return c.compareShare(ctx, l, t, s, g) })
		if err != nil {
			return fmt.Errorf("compare %s of %s with the samples: %w", l.Name, s, err)
		}
	}
	c.report.Samples += samples
	return nil
}

// compareShare adds to the report what a share has, all of it or nothing: one that is too much is done again in halves.
func (c *check) compareShare(ctx context.Context, l level, t *TableReport, s span, g share) error {
	both := c.both(l, s, g)
	var sums []struct {
		Windows   uint64 `ch:"windows"`
		Different uint64 `ch:"different"`
		Behind    uint64 `ch:"behind"`
	}
	err := c.ask(ctx, &sums, fmt.Sprintf("SELECT count() AS windows, countIf(%s) AS different, countIf(made.rows > stored.rows) AS behind FROM %s", differs(l), both))
	if err != nil || len(sums) != 1 {
		return err
	}
	if sums[0].Different > 0 && t.listed < maxDifferences {
		if err := c.list(ctx, l, t, both); err != nil {
			return err
		}
	}
	t.Windows, t.Different, t.Behind = t.Windows+sums[0].Windows, t.Different+sums[0].Different, t.Behind+sums[0].Behind
	return nil
}

// both is the rows that are made of the samples, beside those that are stored. Of one that is missing, rows is 0.
func (c *check) both(r level, s span, g share) string {
	table := c.table(r.Name)
	on := make([]string, len(r.Key))
	for i, key := range r.Key {
		on[i] = fmt.Sprintf("made.%s = stored.%[1]s", key)
	}
	return fmt.Sprintf(`(
    SELECT %[1]s FROM %[2]s WHERE false UNION ALL
    %[3]s
) AS made FULL JOIN (SELECT %[1]s FROM %[2]s FINAL WHERE %[4]s AND %[5]s) AS stored ON made.ts = stored.ts AND %[6]s`,
		r.Names(), table, r.Query(schema.RollupSource{From: c.samples(), Where: s.ofSamples() + " AND " + r.where(g), Generation: "0"}), s.ofRollup(), r.where(g), strings.Join(on, " AND "))
}

// differs is true of a row that is not the same on both sides.
func differs(r level) string {
	var all []string
	for _, c := range r.Columns {
		all = append(all, differsIn(c.Column))
	}
	return strings.Join(all, " OR ")
}

func differsIn(c schema.Column) string {
	switch {
	case c.Type == schema.Sketch: // as text: of no readings it is not a number, which is not equal to itself
		return fmt.Sprintf("toString(finalizeAggregation(made.%[1]s)) != toString(finalizeAggregation(stored.%[1]s))", c.Name)
	case c.Nullable:
		return fmt.Sprintf("ifNull(made.%[1]s != stored.%[1]s, isNull(made.%[1]s) != isNull(stored.%[1]s))", c.Name)
	default:
		return fmt.Sprintf("made.%[1]s != stored.%[1]s", c.Name)
	}
}

// list names the differences.
func (c *check) list(ctx context.Context, r level, t *TableReport, both string) error {
	text := func(side string, c schema.Column) string {
		if c.Type == schema.Sketch {
			return fmt.Sprintf("toString(finalizeAggregation(%s.%s))", side, c.Name)
		}
		return fmt.Sprintf("ifNull(toString(%s.%s), 'NULL')", side, c.Name)
	}
	var columns []string
	for _, column := range r.Columns {
		columns = append(columns, fmt.Sprintf("(%s, '%s', %s, %s)", differsIn(column.Column), column.Name, text("stored", column.Column), text("made", column.Column)))
	}
	key := func(side string) string {
		all := make([]string, len(r.Key))
		for i, name := range r.Key {
			all[i] = fmt.Sprintf("toString(%s.%s)", side, name)
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	var found []struct {
		Window int64    `ch:"window"`
		Key    []string `ch:"whose"`
		Column string   `ch:"col"`
		Stored string   `ch:"stored_value"`
		Made   string   `ch:"made_value"`
	}
	err := c.ask(ctx, &found, fmt.Sprintf(`SELECT window, whose, d.2 AS col, d.3 AS stored_value, d.4 AS made_value FROM (
    SELECT toInt64(toUnixTimestamp(if(made.rows > 0, made.ts, stored.ts))) AS window, if(made.rows > 0, %[1]s, %[2]s) AS whose,
        multiIf(made.rows = 0, [(true, '', 'a row', 'no samples')], stored.rows = 0, [(true, '', 'no row', concat(toString(made.rows), ' samples'))], arrayFilter(d -> d.1, [%[3]s])) AS all
    FROM %[4]s WHERE %[5]s)
ARRAY JOIN all AS d ORDER BY window, whose, col LIMIT %[6]d`, key("made"), key("stored"), strings.Join(columns, ", "), both, differs(r), maxDifferences-t.listed))
	if err != nil {
		return err
	}
	t.listed += len(found)
	for _, f := range found {
		c.report.Differences = append(c.report.Differences, Difference{
			Table: r.Name, Window: timeOf(f.Window), GPU: f.Key[0], Whose: f.Key[1:], Column: f.Column, Stored: f.Stored, Made: f.Made,
		})
	}
	return nil
}
