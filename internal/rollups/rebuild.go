// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Rebuilt is what a rebuild did.
type Rebuilt struct {
	From, To time.Time
	Samples  uint64
}

// Add adds what was done on another shard.
func (r *Rebuilt) Add(other Rebuilt) {
	if r.From.IsZero() || other.From.Before(r.From) && !other.From.IsZero() {
		r.From = other.From
	}
	if other.To.After(r.To) {
		r.To = other.To
	}
	r.Samples += other.Samples
}

// ErrNothingToRebuild is of a database that has no rollups of a time.
var ErrNothingToRebuild = errors.New("nothing to rebuild")

// CanRebuild tells what keeps Rebuild from a time, before it does anything: ErrNothingToRebuild if there are no rollups of it.
func CanRebuild(ctx context.Context, conn Conn, database string, r Range) error {
	_, _, err := newWork(conn, database, r.Limits).toRebuild(ctx, r)
	return err
}

// Rebuild makes the rollups of whole hours anew, whatever they say now: also where samples were taken away, or where a
// row was made by a program that was wrong. Readers see the old row or the new one. It may be ended and begun again, and
// run beside a Builder. Hours of which samples may have gone by age are refused.
func Rebuild(ctx context.Context, conn Conn, database string, r Range, onStep func(string)) (Rebuilt, error) {
	w := newWork(conn, database, r.Limits)
	w.onStep = onStep
	from, to, err := w.toRebuild(ctx, r)
	if err != nil {
		return Rebuilt{}, err
	}
	done := Rebuilt{From: timeOf(from), To: timeOf(to)}
	spans := spansOf(from, to)
	for i, s := range spans {
		samples, err := w.rebuild(ctx, s)
		if err != nil {
			return done, err
		}
		done.Samples += samples
		if r.Progress != nil {
			r.Progress(i+1, len(spans))
		}
	}
	return done, nil
}

// toRebuild rounds to whole hours, outwards; the last may be the one that is not over.
func (w *work) toRebuild(ctx context.Context, r Range) (from, to int64, err error) {
	if err := r.Limits.validate(); err != nil {
		return 0, 0, err
	}
	switch {
	case r.From.IsZero() || r.To.IsZero():
		return 0, 0, errors.New("give the time to be rebuilt: since and until")
	case !r.From.Before(r.To):
		return 0, 0, fmt.Errorf("from %s to %s: give a time that begins before it ends", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	}
	p, err := w.progress(ctx, "", time.Minute)
	if err != nil {
		return 0, 0, err
	}
	if p.boundary == 0 {
		return 0, 0, fmt.Errorf("%w: there are no rollups yet: a collector begins them when it runs", ErrNothingToRebuild)
	}
	from, to = floor(r.From.Unix(), hour), min(floor(r.To.Unix()+hour-1, hour), p.boundary)
	if from < p.horizon {
		kept, err := w.hasRows(ctx, span{from, min(to, p.horizon)})
		if err != nil {
			return 0, 0, err
		}
		if !kept { // nothing can be lost, as of a shard that is younger than the others
			from = p.horizon
		}
	}
	switch {
	case from < p.horizon:
		return 0, 0, fmt.Errorf("samples before %s may be gone: a rebuild from %s on would lose what the rollups keep of them", timeOf(p.horizon).Format(time.RFC3339), timeOf(from).Format(time.RFC3339))
	case from >= to:
		return 0, 0, fmt.Errorf("%w: nothing is rolled up from %s to %s: the rollups have come to %s", ErrNothingToRebuild, r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339), timeOf(p.boundary).Format(time.RFC3339))
	}
	return from, to, nil
}

// hasRows tells whether a level has rows of a span.
func (w *work) hasRows(ctx context.Context, s span) (bool, error) {
	for _, l := range w.levels {
		n, err := w.number(ctx, fmt.Sprintf("SELECT count() AS n FROM (SELECT 1 FROM %s FINAL WHERE %s LIMIT 1)", w.table(l.Name), s.ofRollup()))
		if err != nil {
			return false, fmt.Errorf("ask for rows of %s in %s: %w", l.Name, s, err)
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// rebuild gives an hour's rows a higher generation than they have. Those for which there are no samples are removed,
// also by a row of that generation. A sample that came since the statement began that made its row is missing in it, even
// where an earlier row had it: so the hour is compared at the end, as after late samples.
func (w *work) rebuild(ctx context.Context, s span) (uint64, error) {
	generation, err := w.generation(ctx, s)
	if err != nil {
		return 0, err
	}
	generation++
	samples, err := w.count(ctx, s)
	if err != nil {
		return 0, err
	}
	rows, err := w.rows(ctx, s)
	if err != nil {
		return 0, err
	}
	// Whoever compares the hour from here on does it with the new generation, also if this ends in the middle.
	if err := w.record(ctx, s, generation, 0, ""); err != nil {
		return 0, err
	}
	for _, l := range w.levels {
		if !l.has(s) {
			continue
		}
		err = w.each(ctx, everyGPU().divide(w.limits.slices(samples, rows)), func(ctx context.Context, g share) error { return w.rebuildShare(ctx, l, s, g, generation) })
		if err != nil {
			return 0, fmt.Errorf("rebuild %s of %s: %w", l.Name, s, err)
		}
	}
	if _, err := w.settle(ctx, s, ""); err != nil {
		return 0, err
	}
	return samples, nil
}

func (w *work) rebuildShare(ctx context.Context, l level, s span, g share, generation uint64) error {
	if err := w.insert(ctx, l, s, l.where(g), generation); err != nil {
		return err
	}
	if l.finer {
		w.reached(StepHours)
	} else {
		w.reached(StepMinutes)
	}
	return w.remove(ctx, l, s, g, generation)
}

// remove removes rows of windows that are not there any more.
func (w *work) remove(ctx context.Context, l level, s span, g share, generation uint64) error {
	err := w.exec(ctx, fmt.Sprintf(`INSERT INTO %[1]s (ts, %[2]s, version, removed) SELECT ts, %[2]s, bitShiftLeft(toUInt64(%[3]d), %[4]d), 1 FROM %[1]s FINAL
WHERE %[5]s AND %[6]s AND (%[2]s, ts) NOT IN (SELECT %[2]s, %[7]s FROM %[8]s WHERE %[9]s AND %[6]s)`,
		w.table(l.Name), l.key(), generation, schema.VersionRowBits, s.ofRollup(), l.where(g), l.Window, l.from, l.source(s)))
	w.reached(StepRemoved)
	return err
}
