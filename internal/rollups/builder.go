// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Builder keeps the rollups of one database up to date. Several may: one of them works, the others watch, and if two
// work at the same time they only do it twice.
type Builder struct {
	*work
	cfg     Config
	metrics *instruments

	at        progress
	known     map[string]bool     // parts of the samples, when they were last surveyed
	counts    map[int64]uint64    // samples by hour, when they were last counted
	late      map[int64]*lateHour // hours with more samples than were compared
	surveyed  time.Time
	swept     int64 // by ClickHouse's clock
	leading   bool
	advancing bool
	aside     error // of what was to be done between the shares of other work
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
	b.onStep, b.between = cfg.OnStep, b.betweenShares
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
	failures := 0
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
			failures++
			wait = b.cfg.retry(failures)
			b.metrics.failed(ctx)
			b.cfg.Logger.Warn("the rollups are not brought up to date; trying again", "retry_in", wait, "error", err)
		case more:
			failures, wait = 0, 0
		default:
			failures = 0
		}
		timer.Reset(wait)
	}
}

// maxRetry is how long it is waited at the most after errors: each try may take minutes of ClickHouse's time.
const maxRetry = time.Minute

// retry is how long it is waited after so many errors in a row.
func (c Config) retry(failures int) time.Duration {
	wait := c.Every
	for range failures - 1 {
		if wait >= maxRetry {
			break
		}
		wait *= 2
	}
	return min(wait, max(maxRetry, c.Every))
}

// Pass does what is to be done now, and tells whether there is more. What cannot be done does not keep it from the rest.
func (b *Builder) Pass(ctx context.Context) (more bool, err error) {
	if b.at, err = b.progress(ctx, b.cfg.Collector, b.cfg.TakeOver); err != nil {
		return false, err
	}
	b.metrics.moved(b.at.boundary)
	if lead := b.at.leader == ""; lead != b.leading {
		b.leading = lead
		b.cfg.Logger.Info("rollups", "made_here", lead, "made_by", b.at.leader)
	}
	if !b.leading {
		return false, nil
	}
	b.aside = nil
	problems := []error{b.advance(ctx)}
	for _, step := range []func(context.Context) error{b.sweep, b.look} {
		if ctx.Err() == nil {
			problems = append(problems, step(ctx))
		}
	}
	if ctx.Err() == nil {
		more, err = b.mendOne(ctx)
		problems = append(problems, err)
	}
	return more, errors.Join(append(problems, b.aside)...)
}

// advanceSeconds is how far the boundary moves at once: what is rolled up is told soon, to readers and to other collectors.
const advanceSeconds = 5 * minute

// advance moves the boundary up to the last minute that is over, a few minutes at a time. It moves past the end of an hour
// only once the hour is complete.
func (b *Builder) advance(ctx context.Context) error {
	b.advancing = true
	defer func() { b.advancing = false }()
	over := floor(b.at.now-int64(b.cfg.Grace.Seconds()), minute)
	if b.at.boundary == 0 {
		b.at.boundary = floor(over, hour) // earlier hours are late ones
	}
	b.at.boundary = max(b.at.boundary, b.at.horizon)
	for from := b.at.boundary; from < over; from = b.at.boundary {
		s := span{from, min(over, from+advanceSeconds, floor(from, hour)+hour)}
		if err := b.advanceBy(ctx, s); err != nil {
			return err
		}
		b.at.boundary = s.until
		b.metrics.moved(s.until)
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

// betweenShares is called in the middle of work that may take longer than TakeOver, as that on an hour of a large fleet. It
// tells the other collectors that there is somebody, lest each of them does the same; and it moves the boundary, lest new
// minutes wait for old ones.
func (b *Builder) betweenShares(ctx context.Context) error {
	if time.Since(b.recorded) < b.cfg.TakeOver/5 {
		return nil
	}
	if b.advancing {
		return b.beat(ctx)
	}
	now, err := b.number(ctx, "SELECT toUInt64(toUnixTimestamp("+b.clock+")) AS n")
	if err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	b.at.now = int64(now)
	b.aside = errors.Join(b.aside, b.advance(ctx))
	if time.Since(b.recorded) < b.cfg.TakeOver/5 {
		return nil
	}
	return b.beat(ctx)
}

// beat records nothing but that somebody is at work. It says of an hour what was known of it.
func (b *Builder) beat(ctx context.Context) error {
	return b.record(ctx, span{b.at.boundary, b.at.boundary}, 0, 0, b.cfg.Collector)
}

// sweep looks for late samples of the hour that is not over.
func (b *Builder) sweep(ctx context.Context) error {
	s := span{floor(b.at.boundary, hour), b.at.boundary}
	if s.from == s.until || b.swept > 0 && b.at.now-b.swept < int64(b.cfg.Sweep.Seconds()) {
		return nil
	}
	b.swept = b.at.now // also if it fails: it is too much to be tried at each look
	generation, err := b.generation(ctx, s)
	if err != nil {
		return err
	}
	mended, err := b.mend(ctx, s, generation)
	b.metrics.rolledUp(ctx, mended, "late", 0)
	return err
}
