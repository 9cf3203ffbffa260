// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"strings"
	"time"

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

// rows is how many rows of rollups there are of a span.
func (w *work) rows(ctx context.Context, s span) (uint64, error) {
	var of []string
	for _, l := range w.levels {
		if l.has(s) {
			of = append(of, fmt.Sprintf("SELECT count() AS n FROM %s WHERE %s", w.table(l.Name), s.ofRollup()))
		}
	}
	n, err := w.number(ctx, "SELECT sum(n) AS n FROM ("+strings.Join(of, " UNION ALL ")+")")
	if err != nil {
		return 0, fmt.Errorf("count the rollups of %s: %w", s, err)
	}
	return n, nil
}

// generation is how often the hour was rebuilt: what is made now belongs to it. A rebuild records it before it makes rows.
// What is recorded is a hint: the rows count as well.
func (w *work) generation(ctx context.Context, s span) (uint64, error) {
	progress := schema.RollupProgressTable()
	ask := []string{fmt.Sprintf("SELECT toUInt64(max(%s)) AS n FROM %s WHERE ts = toDateTime(%d, 'UTC')", schema.ColumnGeneration, w.table(progress.Name), s.hour())}
	of := span{s.hour(), s.hour() + hour}.ofRollup()
	for _, l := range w.levels {
		ask = append(ask, fmt.Sprintf("SELECT max(bitShiftRight(version, %d)) FROM %s WHERE %s", schema.VersionRowBits, w.table(l.Name), of))
	}
	n, err := w.number(ctx, "SELECT max(n) AS n FROM ("+strings.Join(ask, " UNION ALL ")+")")
	if err != nil {
		return 0, fmt.Errorf("ask how often %s was rebuilt: %w", s, err)
	}
	return n, nil
}

// buildMinutes rolls up all samples of a span into minutes, and says how many there were.
func (w *work) buildMinutes(ctx context.Context, s span) (uint64, error) {
	var found []struct {
		Samples uint64 `ch:"n"`
		GPUs    uint64 `ch:"gpus"`
	}
	l := w.minutes()
	if err := w.ask(ctx, &found, fmt.Sprintf("SELECT count() AS n, uniq(%s) AS gpus FROM %s WHERE %s", l.Key[0], l.from, l.source(s))); err != nil {
		return 0, fmt.Errorf("count the samples of %s: %w", s, err)
	}
	if len(found) != 1 || found[0].Samples == 0 {
		return 0, nil
	}
	generation, err := w.generation(ctx, s)
	if err != nil {
		return 0, err
	}
	samples := found[0].Samples
	rows := min(samples, found[0].GPUs*uint64((s.until-s.from)/minute))
	err = w.each(ctx, everyGPU().divide(w.limits.slices(samples, rows)), func(ctx context.Context, g share) error {
		if err := w.insert(ctx, l, s, l.where(g), generation); err != nil {
			return fmt.Errorf("roll up the minutes of %s: %w", s, err)
		}
		w.reached(StepMinutes)
		return nil
	})
	return samples, err
}

// mend makes the rows again of which a span has more samples than they say, and says how many samples these windows have. A
// span that is a whole hour goes on into the hours.
func (w *work) mend(ctx context.Context, s span, generation uint64) (mended uint64, err error) {
	for i, l := range w.levels {
		if !l.has(s) {
			continue
		}
		samples, err := w.fill(ctx, l, s, generation)
		if err != nil {
			return 0, fmt.Errorf("roll up late samples of %s into %s: %w", s, l.Name, err)
		}
		if i == 0 {
			mended = samples
		}
	}
	return mended, nil
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
	w.recorded = time.Now()
	return nil
}
