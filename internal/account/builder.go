// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Builder keeps the account of one database up to date. Several may: what they do twice counts once.
type Builder struct {
	*work
	how Schedule
}

// Schedule is when a Builder looks.
type Schedule struct {
	Every time.Duration // between two looks
	Back  time.Duration // how far back hours are looked at again; older ones change by Rebuild alone
	Hours int           // at most so many in one Pass
	// Collector is the one that also makes the rollups by that name: a Pass does nothing while another one makes them. Empty:
	// every Pass works.
	Collector string
	TakeOver  time.Duration // who has recorded nothing for this long does not make them any more
	// Logger is told of what is made.
	Logger *slog.Logger
}

// DefaultSchedule goes back a month of bills.
func DefaultSchedule() Schedule {
	return Schedule{Every: 5 * time.Minute, Back: 35 * 24 * time.Hour, Hours: 24, Logger: slog.New(slog.DiscardHandler)}
}

// NewBuilder makes a Builder, which does nothing before Run or Pass.
func NewBuilder(conn Conn, cfg Config, how Schedule) (*Builder, error) {
	w, err := newWork(conn, cfg)
	if err != nil {
		return nil, err
	}
	if how.Every <= 0 || how.Back < time.Hour || how.Hours < 1 || how.Logger == nil || how.Collector != "" && how.TakeOver < time.Second {
		return nil, fmt.Errorf("account: every %s, back %s, %d hours, collector %q taken over after %s: more than 0, at least 1h, at least 1, at least 1s, and a logger", how.Every, how.Back, how.Hours, how.Collector, how.TakeOver)
	}
	return &Builder{w, how}, nil
}

// Run works until the context ends. A ClickHouse that does not answer is asked again.
func (b *Builder) Run(ctx context.Context) {
	timer := time.NewTimer(min(b.how.Every, time.Minute)) // who has just begun has other things to do
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := b.how.Every
		done, err := b.Pass(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.how.Logger.Warn("the account is not brought up to date; trying again", "retry_in", wait, "error", err)
		case done.More:
			wait = 0
		}
		if done.Changed > 0 {
			b.how.Logger.Info("hours are accounted", "looked_at", done.Looked, "changed", done.Changed, "more", done.More)
		}
		timer.Reset(wait)
	}
}

// Done is what was done.
type Done struct {
	From, To time.Time // of the hours that were looked at
	Looked   int       // hours that were made
	Changed  int       // of these: that say something new
	Waiting  int       // hours whose rollups are not complete
	More     bool      // there are others
}

// Pass makes the hours that were never made, or that may say something else now: the newest first.
func (b *Builder) Pass(ctx context.Context) (Done, error) {
	if err := b.ready(ctx); err != nil {
		return Done{}, err
	}
	if others, err := b.othersTurn(ctx); err != nil || others {
		return Done{}, err
	}
	first, last, err := b.known(ctx)
	if err != nil || first >= last {
		return Done{}, err
	}
	first = max(first, floor(last-b.how.Back.Milliseconds(), hour))
	return b.each(ctx, first, last, b.how.Hours, func(before build, sources uint64) string {
		switch {
		case before.Version == 0:
			return reasonNew
		case before.Sources != sources:
			return reasonChanged
		default:
			return ""
		}
	})
}

// othersTurn tells that another collector makes the rollups now, and so the account.
func (b *Builder) othersTurn(ctx context.Context) (bool, error) {
	if b.how.Collector == "" {
		return false, nil
	}
	var makers []struct {
		Name string `ch:"name"`
	}
	if err := b.ask(ctx, &makers, fmt.Sprintf("SELECT CAST(argMax(collector, recorded_at), 'String') AS name FROM %s WHERE collector != '' AND recorded_at > %s - toIntervalSecond(%d) HAVING count() > 0",
		b.table(schema.RollupProgressTable().Name), b.clock, int(b.how.TakeOver.Seconds()))); err != nil {
		return false, fmt.Errorf("ask who makes the rollups: %w", err)
	}
	return len(makers) > 0 && makers[0].Name != b.how.Collector, nil
}

// each makes those hours of a time for which there is a reason, the newest first, and no more than a limit.
func (w *work) each(ctx context.Context, from, to int64, limit int, why func(before build, sources uint64) string) (Done, error) {
	d := Done{From: timeOf(from), To: timeOf(to)}
	s, err := w.loadSources(ctx, from, to)
	if err != nil {
		return d, err
	}
	built, err := w.builds(ctx, from, to)
	if err != nil {
		return d, err
	}
	var problems []error
	for start := to - hour; start >= from; start -= hour {
		of := span{start, start + hour}
		if !s.ready(of) {
			d.Waiting++
			continue
		}
		hash := s.hash(of)
		reason := why(built[start], hash)
		if reason == "" {
			continue
		}
		if d.Looked == limit {
			d.More = true
			break
		}
		changed, err := w.settle(ctx, of, built[start], hash, reason)
		d.Looked++
		if err != nil {
			if problems = append(problems, err); len(problems) > 1 || ctx.Err() != nil {
				break // it is not that hour alone
			}
			continue // one that cannot be made keeps no other from it
		}
		if changed {
			d.Changed++
		}
	}
	return d, errors.Join(problems...)
}

// Range is the time that a command is about: whole hours, rounded outwards.
type Range struct {
	From, To time.Time
}

// Rebuild makes the hours of a time again, whatever is known of them. An hour that comes to the same keeps its version.
func Rebuild(ctx context.Context, conn Conn, cfg Config, r Range) (Done, error) {
	w, err := newWork(conn, cfg)
	if err != nil {
		return Done{}, err
	}
	if err := w.ready(ctx); err != nil {
		return Done{}, err
	}
	from, to, err := w.hours(ctx, r)
	if err != nil {
		return Done{}, err
	}
	if !r.From.IsZero() && floor(r.From.UnixMilli(), hour) < from {
		return Done{}, fmt.Errorf("%w: %s is before %s", errGone, r.From.UTC().Format(time.RFC3339), timeOf(from).Format(time.RFC3339))
	}
	return w.each(ctx, from, to, int((to-from)/hour), func(build, uint64) string { return reasonRebuild })
}

// DefaultPeriod is what a command is about where nothing else is said.
const DefaultPeriod = 24 * time.Hour
