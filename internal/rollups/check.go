// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"strconv"
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
	w := newWork(conn, database, r.Limits)
	p, err := w.progress(ctx, "", time.Minute)
	if err != nil {
		return Report{}, err
	}
	from, to, err := r.toCheck(p)
	if err != nil {
		return Report{}, err
	}
	c := &check{work: w, report: Report{
		From: timeOf(from), To: timeOf(to), Differences: []Difference{},
		Tables: []TableReport{{Name: w.minutes.Name}, {Name: w.hours.Name}},
	}}
	spans := spansOf(from, to)
	for i, s := range spans {
		if err := c.compare(ctx, s); err != nil {
			return Report{}, err
		}
		if r.Progress != nil {
			r.Progress(i+1, len(spans))
		}
	}
	c.report.Verdict = c.report.verdict()
	return c.report, nil
}

// toCheck is the time that is checked: no later than the rollups have come, no earlier than there are samples.
func (r Range) toCheck(p progress) (from, to int64, err error) {
	to = floor(p.boundary, hour)
	if !r.To.IsZero() {
		to = min(floor(r.To.Unix(), minute), p.boundary)
	}
	from = to - int64(DefaultPeriod.Seconds())
	if !r.From.IsZero() {
		from = floor(r.From.Unix(), minute)
	}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		return 0, 0, fmt.Errorf("from %s to %s: give a time that begins before it ends", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	}
	from = max(from, p.horizon, 0)
	return min(from, max(to, 0)), max(to, 0), nil
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
	rows, err := c.number(ctx, fmt.Sprintf("SELECT count() AS n FROM %s WHERE %s", c.table(c.minutes.Name), s.ofRollup()))
	if err != nil {
		return fmt.Errorf("count the rollups of %s: %w", s, err)
	}
	for i, r := range []schema.Rollup{c.minutes, c.hours} {
		if r.Seconds == hour && !s.whole() {
			continue
		}
		t := &c.report.Tables[i]
		err := each(ctx, shares(max(samples, rows), c.limits.SliceSamples), func(ctx context.Context, g share) error { return c.compareShare(ctx, r, t, s, g) })
		if err != nil {
			return fmt.Errorf("compare %s of %s with the samples: %w", r.Name, s, err)
		}
	}
	c.report.Samples += samples
	return nil
}

func (c *check) compareShare(ctx context.Context, r schema.Rollup, t *TableReport, s span, g share) error {
	both := c.both(r, s, g)
	var sums []struct {
		Windows   uint64 `ch:"windows"`
		Different uint64 `ch:"different"`
		Behind    uint64 `ch:"behind"`
	}
	err := c.ask(ctx, &sums, fmt.Sprintf("SELECT count() AS windows, countIf(%s) AS different, countIf(made.rows > stored.rows) AS behind FROM %s", differs(r), both))
	if err != nil {
		return err
	}
	if len(sums) == 1 {
		t.Windows, t.Different, t.Behind = t.Windows+sums[0].Windows, t.Different+sums[0].Different, t.Behind+sums[0].Behind
	}
	if len(sums) == 0 || sums[0].Different == 0 || t.listed >= maxDifferences {
		return nil
	}
	return c.list(ctx, r, t, both)
}

// both is the rows that are made of the samples, beside those that are stored. Of one that is missing, rows is 0.
func (c *check) both(r schema.Rollup, s span, g share) string {
	table := c.table(r.Name)
	return fmt.Sprintf(`(
    SELECT %[1]s FROM %[2]s WHERE false UNION ALL
    %[3]s
) AS made FULL JOIN (SELECT %[1]s FROM %[2]s FINAL WHERE %[4]s AND %[5]s) AS stored ON made.ts = stored.ts AND made.gpu_id = stored.gpu_id
    AND made.tenant = stored.tenant AND made.residency = stored.residency`,
		r.Names(), table, r.Query(schema.RollupSource{From: c.samples(), Where: s.ofSamples() + " AND " + g.where(), Generation: "0"}), s.ofRollup(), g.where())
}

// differs is true of a row that is not the same on both sides.
func differs(r schema.Rollup) string {
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
func (c *check) list(ctx context.Context, r schema.Rollup, t *TableReport, both string) error {
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
	var found []struct {
		Window int64  `ch:"window"`
		GPU    uint64 `ch:"gpu"`
		Column string `ch:"col"`
		Stored string `ch:"stored_value"`
		Made   string `ch:"made_value"`
	}
	err := c.ask(ctx, &found, fmt.Sprintf(`SELECT window, gpu, d.2 AS col, d.3 AS stored_value, d.4 AS made_value FROM (
    SELECT toInt64(toUnixTimestamp(if(made.rows > 0, made.ts, stored.ts))) AS window, if(made.rows > 0, made.gpu_id, stored.gpu_id) AS gpu,
        multiIf(made.rows = 0, [(true, '', 'a row', 'no samples')], stored.rows = 0, [(true, '', 'no row', concat(toString(made.rows), ' samples'))], arrayFilter(d -> d.1, [%s])) AS all
    FROM %s WHERE %s)
ARRAY JOIN all AS d ORDER BY window, gpu, col LIMIT %d`, strings.Join(columns, ", "), both, differs(r), maxDifferences-t.listed))
	if err != nil {
		return err
	}
	t.listed += len(found)
	for _, f := range found {
		c.report.Differences = append(c.report.Differences, Difference{
			Table: r.Name, Window: timeOf(f.Window), GPU: strconv.FormatUint(f.GPU, 10), Column: f.Column, Stored: f.Stored, Made: f.Made,
		})
	}
	return nil
}
