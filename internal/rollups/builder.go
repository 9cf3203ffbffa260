// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Builder keeps the rollups of one database up to date. Several may: one of them works, the others watch, and if two
// work at the same time they only do it twice.
type Builder struct {
	*work
	cfg     Config
	metrics *instruments

	known    map[string]bool     // parts of the samples, when they were last surveyed
	counts   map[int64]uint64    // samples by hour, when they were last counted
	late     map[int64]*lateHour // hours with more samples than were compared
	surveyed time.Time
	swept    int64 // by ClickHouse's clock
	leading  bool
}

// lateHour is an hour to which samples have come since it was rolled up.
type lateHour struct {
	samples        uint64
	first, changed int64 // when it was first seen, and when more were last seen
}

// New makes a Builder, which does nothing before Run.
func New(conn Conn, cfg Config) (*Builder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("rollups: %w", err)
	}
	m, err := newInstruments(cfg.Meter, cfg.Attributes)
	if err != nil {
		return nil, err
	}
	b := &Builder{work: newWork(conn, cfg.Database, cfg.Limits), cfg: cfg, metrics: m, known: map[string]bool{}, counts: map[int64]uint64{}, late: map[int64]*lateHour{}}
	b.onStep = cfg.OnStep
	life, statements := rand.Text()[:8], atomic.Int64{}
	// The next life of this collector ends what still runs of this one, by its name. Two builders of one name and
	// millisecond must not refuse each other's statements.
	b.queryID = func() string {
		return fmt.Sprintf("gpufleet/%s/%s/rollups/%d", cfg.Collector, life, statements.Add(1))
	}
	return b, nil
}

// Run works until the context ends. A ClickHouse that does not answer is asked again.
func (b *Builder) Run(ctx context.Context) (err error) {
	observing, err := b.metrics.observe(b.cfg.Meter)
	if err != nil {
		return fmt.Errorf("rollups: %w", err)
	}
	defer func() { err = errors.Join(err, observing.Unregister()) }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := b.cfg.Every
		more, err := b.Pass(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			b.metrics.failed(ctx)
			b.cfg.Logger.Warn("the rollups are not brought up to date; trying again", "retry_in", wait, "error", err)
		case more:
			wait = 0
		}
		timer.Reset(wait)
	}
}

// Pass does what is to be done now, and tells whether there is more.
func (b *Builder) Pass(ctx context.Context) (more bool, err error) {
	p, err := b.progress(ctx, b.cfg.Collector, b.cfg.TakeOver)
	if err != nil {
		return false, err
	}
	b.metrics.moved(p.boundary)
	if lead := p.leader == ""; lead != b.leading {
		b.leading = lead
		b.cfg.Logger.Info("rollups", "made_here", lead, "made_by", p.leader)
	}
	if !b.leading {
		return false, nil
	}
	if err := b.advance(ctx, &p); err != nil {
		return false, err
	}
	if err := b.sweep(ctx, &p); err != nil {
		return false, err
	}
	if err := b.look(ctx, &p); err != nil {
		return false, err
	}
	return b.mendOne(ctx, p)
}

// advance moves the boundary up to the last minute that is over, hour by hour. It moves past the end of an hour only
// once the hour is complete.
func (b *Builder) advance(ctx context.Context, p *progress) error {
	over := floor(p.now-int64(b.cfg.Grace.Seconds()), minute)
	if p.boundary == 0 {
		p.boundary = floor(over, hour) // earlier hours are late ones
	}
	p.boundary = max(p.boundary, p.horizon)
	for p.boundary < over {
		s := span{p.boundary, min(over, floor(p.boundary, hour)+hour)}
		if err := b.advanceBy(ctx, s); err != nil {
			return err
		}
		p.boundary = s.until
		b.metrics.moved(p.boundary)
	}
	return nil
}

func (b *Builder) advanceBy(ctx context.Context, s span) error {
	started := time.Now()
	samples, err := b.buildMinutes(ctx, s)
	if err != nil {
		return err
	}
	b.metrics.rolledUp(ctx, samples, "new", time.Since(started))
	if s.until%hour != 0 {
		if err := b.record(ctx, s, 0, 0, b.cfg.Collector); err != nil {
			return err
		}
		b.reached(StepMoved)
		return nil
	}
	mended, err := b.settle(ctx, span{s.hour(), s.until}, b.cfg.Collector)
	b.metrics.rolledUp(ctx, mended, "late", 0)
	return err
}

// sweep looks for late samples of the hour that is not over.
func (b *Builder) sweep(ctx context.Context, p *progress) error {
	s := span{floor(p.boundary, hour), p.boundary}
	if s.from == s.until || b.swept > 0 && p.now-b.swept < int64(b.cfg.Sweep.Seconds()) {
		return nil
	}
	generation, err := b.generation(ctx, s)
	if err != nil {
		return err
	}
	mended, err := b.mend(ctx, s, generation)
	if err != nil {
		return err
	}
	b.metrics.rolledUp(ctx, mended, "late", 0)
	b.swept = p.now
	return nil
}

// look finds the hours that have more samples than they had when they were compared.
func (b *Builder) look(ctx context.Context, p *progress) error {
	if time.Since(b.surveyed) >= min(b.cfg.Quiet, time.Minute) {
		counts, parts, err := b.survey(ctx, b.known, p.horizon)
		if err != nil {
			return err
		}
		b.known, b.surveyed = parts, time.Now()
		maps.Copy(b.counts, counts)
		b.judge(p)
	}
	b.metrics.waiting(len(b.late))
	return nil
}

// judge compares what was counted with what was compared, which a rebuild may have set back.
func (b *Builder) judge(p *progress) {
	maps.DeleteFunc(b.counts, func(start int64, _ uint64) bool { return start < p.horizon })
	maps.DeleteFunc(b.late, func(start int64, _ *lateHour) bool { return start < p.horizon })
	for start, samples := range b.counts {
		h, known := p.hours[start]
		switch l := b.late[start]; {
		case samples == 0, start+hour > p.boundary, known && h.whole(start) && samples <= h.compared:
			delete(b.late, start)
		case l == nil && !known: // never rolled up
			b.late[start] = &lateHour{samples: samples}
		case l == nil:
			b.late[start] = &lateHour{samples: samples, first: p.now, changed: p.now}
		case l.samples != samples:
			l.samples, l.changed = samples, p.now
		}
	}
}

// mendOne rolls up again the newest hour whose time has come, and tells whether there are others.
func (b *Builder) mendOne(ctx context.Context, p progress) (more bool, err error) {
	quiet, delay := int64(b.cfg.Quiet.Seconds()), int64(b.cfg.MaxDelay.Seconds())
	var due []int64
	for start, l := range b.late {
		if p.now-l.changed >= quiet || p.now-l.first >= delay {
			due = append(due, start)
		}
	}
	if len(due) == 0 {
		return false, nil
	}
	start := slices.Max(due)
	began := time.Now()
	mended, err := b.settle(ctx, span{start, start + hour}, b.cfg.Collector)
	if err != nil {
		return false, err
	}
	b.metrics.rolledUp(ctx, mended, "late", time.Since(began))
	b.cfg.Logger.Info("late samples are rolled up", "hour", timeOf(start), "samples", mended, "took", time.Since(began), "waiting", slices.Sorted(maps.Keys(b.late)))
	delete(b.late, start)
	return len(due) > 1, nil
}
