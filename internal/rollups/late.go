// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// lateHour is an hour to which samples have come since it was rolled up.
type lateHour struct {
	samples        uint64
	first, changed int64 // when it was first seen, and when more were last seen
	failures       int   // to roll it up
}

// look finds the hours that have more samples than they had when they were compared.
func (b *Builder) look(ctx context.Context) error {
	defer func() { b.metrics.waiting(len(b.late)) }()
	if time.Since(b.surveyed) < min(b.cfg.Quiet, time.Minute) {
		return nil
	}
	b.surveyed = time.Now()
	counts, parts, err := b.survey(ctx, b.known, b.at.horizon)
	if err != nil {
		return err
	}
	maps.Copy(b.counts, counts)
	hours, err := b.compared(ctx, b.at.horizon) // after they were counted: what comes in between is compared, and not missed
	if err != nil {
		return err
	}
	b.known = parts
	b.judge(hours)
	return nil
}

// judge compares what was counted with what was compared, which a rebuild may have set back.
func (b *Builder) judge(hours map[int64]hourOfWork) {
	maps.DeleteFunc(b.counts, func(start int64, _ uint64) bool { return start < b.at.horizon })
	maps.DeleteFunc(b.late, func(start int64, _ *lateHour) bool { return start < b.at.horizon })
	for start, samples := range b.counts {
		h, known := hours[start]
		switch l := b.late[start]; {
		case samples == 0, start+hour > b.at.boundary, known && h.whole(start) && samples <= h.compared:
			delete(b.late, start)
		case l == nil && !known: // never rolled up
			b.late[start] = &lateHour{samples: samples}
		case l == nil:
			b.late[start] = &lateHour{samples: samples, first: b.at.now, changed: b.at.now}
		case l.samples != samples:
			l.samples, l.changed = samples, b.at.now
		}
	}
}

// mendOne rolls up again the newest hour whose time has come, and tells whether there are others. One that could not be
// rolled up comes after the others.
func (b *Builder) mendOne(ctx context.Context) (more bool, err error) {
	quiet, delay := int64(b.cfg.Quiet.Seconds()), int64(b.cfg.MaxDelay.Seconds())
	var due []int64
	for start, l := range b.late {
		if b.at.now-l.changed >= quiet || b.at.now-l.first >= delay {
			due = append(due, start)
		}
	}
	if len(due) == 0 {
		return false, nil
	}
	start := slices.MinFunc(due, func(x, y int64) int {
		return cmp.Or(cmp.Compare(b.late[x].failures, b.late[y].failures), cmp.Compare(y, x))
	})
	began := time.Now()
	mended, err := b.settle(ctx, span{start, start + hour}, b.cfg.Collector)
	if err != nil {
		b.late[start].failures++
		return len(due) > 1, err
	}
	b.metrics.rolledUp(ctx, mended, "late", time.Since(began))
	b.cfg.Logger.Info("late samples are rolled up", "hour", timeOf(start), "samples", mended, "took", time.Since(began), "waiting", slices.Sorted(maps.Keys(b.late)))
	delete(b.late, start)
	return len(due) > 1, nil
}
