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

// Rebuild makes the rollups of whole hours anew, whatever they say now: also where samples were taken away, or where a
// row was made by a program that was wrong. Readers see the old row or the new one. It may be ended and begun again, and
// run beside a Builder. Hours of which samples may have gone by age are refused.
func Rebuild(ctx context.Context, conn Conn, database string, r Range, onStep func(string)) (Rebuilt, error) {
	if err := r.Limits.validate(); err != nil {
		return Rebuilt{}, err
	}
	w := newWork(conn, database, r.Limits)
	w.onStep = onStep
	p, err := w.progress(ctx, "", time.Minute)
	if err != nil {
		return Rebuilt{}, err
	}
	from, to, err := r.toRebuild(p)
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
func (r Range) toRebuild(p progress) (from, to int64, err error) {
	switch {
	case r.From.IsZero() || r.To.IsZero():
		return 0, 0, errors.New("give the time to be rebuilt: from and to")
	case !r.From.Before(r.To):
		return 0, 0, fmt.Errorf("from %s to %s: give a time that begins before it ends", r.From.UTC().Format(time.RFC3339), r.To.UTC().Format(time.RFC3339))
	case p.boundary == 0:
		return 0, 0, errors.New("there are no rollups yet: a collector begins them when it runs")
	}
	from, to = floor(r.From.Unix(), hour), min(floor(r.To.Unix()+hour-1, hour), p.boundary)
	if from < p.horizon {
		return 0, 0, fmt.Errorf("samples before %s may be gone: a rebuild from %s on would lose what the rollups keep of them", timeOf(p.horizon).Format(time.RFC3339), timeOf(from).Format(time.RFC3339))
	}
	if from >= to {
		return 0, 0, fmt.Errorf("nothing is rolled up from %s on: the rollups have come to %s", timeOf(from).Format(time.RFC3339), timeOf(p.boundary).Format(time.RFC3339))
	}
	return from, to, nil
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
	rows, err := w.number(ctx, fmt.Sprintf("SELECT count() AS n FROM %s WHERE %s", w.table(w.minutes.Name), s.ofRollup()))
	if err != nil {
		return 0, fmt.Errorf("count the rollups of %s: %w", s, err)
	}
	err = each(ctx, shares(max(samples, rows), w.limits.SliceSamples), func(ctx context.Context, g share) error { return w.rebuildShare(ctx, s, g, generation) })
	if err != nil {
		return 0, fmt.Errorf("rebuild %s: %w", s, err)
	}
	if _, err := w.settle(ctx, s, ""); err != nil {
		return 0, err
	}
	return samples, nil
}

func (w *work) rebuildShare(ctx context.Context, s span, g share, generation uint64) error {
	if err := w.insertMinutes(ctx, s, g.where(), generation); err != nil {
		return err
	}
	w.reached(StepMinutes)
	there := fmt.Sprintf("SELECT gpu_id, tenant, residency, %s FROM %s WHERE %s AND %s", w.minutes.Window, w.samples(), s.ofSamples(), g.where())
	if err := w.remove(ctx, w.minutes, s, g, generation, there); err != nil {
		return err
	}
	if !s.whole() {
		return nil
	}
	if err := w.insertHours(ctx, s, g.where(), generation); err != nil {
		return err
	}
	w.reached(StepHours)
	there = fmt.Sprintf("SELECT gpu_id, tenant, residency, %s FROM %s FINAL WHERE %s AND %s", w.hours.Window, w.table(w.minutes.Name), s.ofRollup(), g.where())
	return w.remove(ctx, w.hours, s, g, generation, there)
}

// remove removes rows of windows that are not there any more.
func (w *work) remove(ctx context.Context, r schema.Rollup, s span, g share, generation uint64, there string) error {
	err := w.exec(ctx, fmt.Sprintf("INSERT INTO %[1]s (ts, gpu_id, tenant, residency, version, removed) SELECT ts, gpu_id, tenant, residency, bitShiftLeft(toUInt64(%[2]d), %[3]d), 1 FROM %[1]s FINAL WHERE %[4]s AND %[5]s AND (gpu_id, tenant, residency, ts) NOT IN (%[6]s)",
		w.table(r.Name), generation, schema.VersionRowBits, s.ofRollup(), g.where(), there))
	w.reached(StepRemoved)
	return err
}
