// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"strconv"

	"github.com/gpufleet/gpufleet/schema"
)

// count is how many samples a span has.
func (w *work) count(ctx context.Context, s span) (uint64, error) {
	n, err := w.number(ctx, fmt.Sprintf("SELECT count() AS n FROM %s WHERE %s", w.samples(), s.ofSamples()))
	if err != nil {
		return 0, fmt.Errorf("count the samples of %s: %w", s, err)
	}
	return n, nil
}

// generation is how often the hour was rebuilt: what is made now belongs to it.
func (w *work) generation(ctx context.Context, s span) (uint64, error) {
	of := span{s.hour(), s.hour() + hour}.ofRollup()
	n, err := w.number(ctx, fmt.Sprintf("SELECT max(bitShiftRight(version, %d)) AS n FROM (SELECT version FROM %s WHERE %s UNION ALL SELECT version FROM %s WHERE %[3]s)",
		schema.VersionRowBits, w.table(w.minutes.Name), of, w.table(w.hours.Name)))
	if err != nil {
		return 0, fmt.Errorf("ask how often %s was rebuilt: %w", s, err)
	}
	return n, nil
}

// buildMinutes rolls up all samples of a span into minutes, and says how many there were.
func (w *work) buildMinutes(ctx context.Context, s span) (uint64, error) {
	samples, err := w.count(ctx, s)
	if err != nil || samples == 0 {
		return 0, err
	}
	generation, err := w.generation(ctx, s)
	if err != nil {
		return 0, err
	}
	err = each(ctx, shares(samples, w.limits.SliceSamples), func(ctx context.Context, g share) error {
		if err := w.insertMinutes(ctx, s, g.where(), generation); err != nil {
			return fmt.Errorf("roll up the minutes of %s: %w", s, err)
		}
		w.reached(StepMinutes)
		return nil
	})
	return samples, err
}

func (w *work) insertMinutes(ctx context.Context, s span, where string, generation uint64) error {
	return w.exec(ctx, fmt.Sprintf("INSERT INTO %s (%s)\n%s", w.table(w.minutes.Name), w.minutes.Names(), w.minutes.Query(schema.RollupSource{
		From: w.samples(), Where: s.ofSamples() + " AND " + where, Generation: strconv.FormatUint(generation, 10),
	})))
}

func (w *work) insertHours(ctx context.Context, s span, where string, generation uint64) error {
	return w.exec(ctx, fmt.Sprintf("INSERT INTO %s (%s)\n%s", w.table(w.hours.Name), w.hours.Names(), w.hours.Query(schema.RollupSource{
		From: w.table(w.minutes.Name) + " FINAL", Where: s.ofRollup() + " AND " + where, Generation: strconv.FormatUint(generation, 10), Finer: true,
	})))
}

// behind asks for the GPUs of which a rollup has fewer samples than what it is made of. The two are asked at two
// moments, and never in the order that could hide a sample: what it is made of only grows.
func behind(have, made string) string {
	return fmt.Sprintf(`SELECT gpu_id, sum(n) AS samples, sum(done) AS rolled FROM (
    SELECT gpu_id, %s UNION ALL SELECT gpu_id, toUInt64(0), %s)
GROUP BY gpu_id HAVING samples > rolled`, have, made)
}

func (w *work) minutesBehind(s span, g share) string {
	return behind(
		fmt.Sprintf("count() AS n, toUInt64(0) AS done FROM %s WHERE %s AND %s GROUP BY gpu_id", w.samples(), s.ofSamples(), g.where()),
		fmt.Sprintf("sum(rows) FROM %s FINAL WHERE %s AND %s GROUP BY gpu_id", w.table(w.minutes.Name), s.ofRollup(), g.where()))
}

func (w *work) hoursBehind(s span, g share) string {
	return behind(
		fmt.Sprintf("sum(rows) AS n, toUInt64(0) AS done FROM %s FINAL WHERE %s AND %s GROUP BY gpu_id", w.table(w.minutes.Name), s.ofRollup(), g.where()),
		fmt.Sprintf("sum(rows) FROM %s FINAL WHERE %s AND %s GROUP BY gpu_id", w.table(w.hours.Name), s.ofRollup(), g.where()))
}

// mend rolls up again the GPUs of which a span has more samples than its rollups say, and says how many samples they
// have. A span that is a whole hour goes on into the hours.
func (w *work) mend(ctx context.Context, s span, generation uint64) (uint64, error) {
	mended, err := w.fill(ctx, s, w.minutesBehind, func(ctx context.Context, where string) error {
		defer w.reached(StepMended)
		return w.insertMinutes(ctx, s, where, generation)
	})
	if err != nil {
		return 0, fmt.Errorf("roll up late samples of %s: %w", s, err)
	}
	if !s.whole() {
		return mended, nil
	}
	_, err = w.fill(ctx, s, w.hoursBehind, func(ctx context.Context, where string) error {
		defer w.reached(StepHours)
		return w.insertHours(ctx, s, where, generation)
	})
	if err != nil {
		return 0, fmt.Errorf("roll up the hour of %s: %w", s, err)
	}
	return mended, nil
}

// fill makes the rows of those GPUs that are behind.
func (w *work) fill(ctx context.Context, s span, behind func(span, share) string, insert func(ctx context.Context, where string) error) (uint64, error) {
	samples, err := w.number(ctx, fmt.Sprintf("SELECT sum(samples) AS n FROM (%s)", behind(s, everyGPU())))
	if err != nil || samples == 0 {
		return 0, err
	}
	return samples, each(ctx, shares(samples, w.limits.SliceSamples), func(ctx context.Context, g share) error {
		return insert(ctx, fmt.Sprintf("%s AND gpu_id IN (SELECT gpu_id FROM (%s))", g.where(), behind(s, g)))
	})
}

// settle brings an hour, or what of it is over, up to its samples, and records how many it had before. What it records
// holds for the generation that it found: of one that comes meanwhile it has not seen all rows.
func (w *work) settle(ctx context.Context, s span, by string) (mended uint64, err error) {
	generation, err := w.generation(ctx, s)
	if err != nil {
		return 0, err
	}
	samples, err := w.count(ctx, s)
	if err != nil {
		return 0, err
	}
	if mended, err = w.mend(ctx, s, generation); err != nil {
		return 0, err
	}
	if err := w.record(ctx, s, generation, samples, by); err != nil {
		return 0, err
	}
	w.reached(StepRecorded)
	return mended, nil
}

// record notes how far a span's hour is; by is empty for a rebuild, which is nobody's turn.
func (w *work) record(ctx context.Context, s span, generation, compared uint64, by string) error {
	t := schema.RollupProgressTable()
	err := w.exec(ctx, fmt.Sprintf("INSERT INTO %s (ts, %s, %s, %s, recorded_at, collector) SELECT toDateTime(%d, 'UTC'), toDateTime(%d, 'UTC'), %d, %d, %s, %s",
		w.table(t.Name), schema.ColumnBuiltUntil, schema.ColumnGeneration, schema.ColumnCompared, s.hour(), s.until, generation, compared, w.clock, schema.QuoteText(by)))
	if err != nil {
		return fmt.Errorf("record that %s is rolled up: %w", s, err)
	}
	return nil
}
