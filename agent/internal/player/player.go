// SPDX-License-Identifier: Apache-2.0

// Package player plays a recording in the sampler's place: the rows that an agent once made come
// again, at the pace at which they were made and with their times moved to now, and go the same way
// from there on. It promises to change nothing but those times, reading_source, which becomes
// "recording", and counter_epoch, which rises each time that the recording starts again: counters then
// stand where they stood when it was made, as they would after a reset.
package player

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/schema"
)

const (
	// step is between looks for rows whose time has come. A row is at most this late.
	step = 100 * time.Millisecond
	// pause is between the last row of a recording and the first when it starts again: one tick.
	pause = time.Second
	// maxLag is how late a start may be: beyond it (the machine slept) times move to now once more.
	maxLag = time.Second
)

// Config is what is played, and how.
type Config struct {
	Recording *recording.Recording
	Loop      bool    // start again at the end, until the context ends
	Speed     float64 // recorded seconds per second
	Sink      sampler.Sink
	Journal   Journal
	Logger    *slog.Logger
}

// Journal writes events: of the player itself, and those that were recorded.
type Journal interface {
	Write(e event.Event) error
	WriteCells(cells []batch.Cell) error
}

// Player plays one recording. It runs once.
type Player struct {
	cfg   Config
	stats sampler.Stats
	gpus  map[int64]struct{} // seen so far

	lowestEpoch, highestEpoch int64 // of the counters, as recorded; 0 before the first row
}

// New makes a player.
func New(cfg Config) *Player {
	return &Player{cfg: cfg, gpus: make(map[int64]struct{})}
}

// Stats are the counters: ticks are looks that found rows of gpu_samples; none is ever missed.
func (p *Player) Stats() *sampler.Stats { return &p.stats }

// Run plays until the recording or the context ends.
func (p *Player) Run(ctx context.Context) error {
	r := p.cfg.Recording
	p.cfg.Logger.Info("playing a recording", "recording", r.Provenance.String(), "span", r.Last.Sub(r.First), "loop", p.cfg.Loop)
	if r.Cut != nil {
		p.cfg.Logger.Warn("the end of the recording is missing", "reason", r.Cut)
	}
	if err := p.cfg.Journal.Write(event.Event{Kind: "agent_started", Message: "plays the recording of " + r.Provenance.String()}); err != nil {
		return err
	}
	why, err := p.play(ctx)
	if err != nil {
		return err
	}
	return p.cfg.Journal.Write(event.Event{Kind: "agent_stopped", Message: why})
}

// play returns why it ended.
func (p *Player) play(ctx context.Context) (string, error) {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	now := p.firstRun(time.Now())
	for {
		if err := p.emit(now); err != nil {
			return "", err
		}
		switch {
		case !now.over():
		case !p.cfg.Loop:
			return "the recording has ended", nil
		case !time.Now().Before(now.end):
			now = p.again(now)
			e := event.Event{Time: now.start, Kind: "counters_reset", Message: "the recording starts again"}
			if err := p.cfg.Journal.Write(e); err != nil {
				return "", err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return "asked to stop", nil
		case <-ticker.C:
		}
	}
}

// run is one time through the recording.
type run struct {
	start   time.Time     // when its first row is due
	end     time.Time     // when it may start again
	shift   time.Duration // from recorded time to written time, whole milliseconds
	epochs  int64         // added to counter epochs
	cursors []*cursor
}

func (r *run) over() bool {
	for _, c := range r.cursors {
		if !c.done() {
			return false
		}
	}
	return true
}

// firstRun starts the recording now. One that plays faster than it was made ends now, as it were: its
// times are moved so that the last row is written when it is due, and none lies in the future.
func (p *Player) firstRun(now time.Time) *run {
	rec := p.cfg.Recording
	shift := now.Sub(rec.First)
	if p.cfg.Speed > 1 {
		shift = now.Add(p.lasts()).Sub(rec.Last)
	}
	return p.newRun(now, shift, 0)
}

// lasts is how long the recording plays.
func (p *Player) lasts() time.Duration {
	rec := p.cfg.Recording
	return time.Duration(float64(rec.Last.Sub(rec.First)) / p.cfg.Speed)
}

func (p *Player) newRun(start time.Time, shift time.Duration, epochs int64) *run {
	r := &run{start: start, end: start.Add(p.lasts() + pause), shift: shift.Truncate(time.Millisecond), epochs: epochs}
	for _, t := range schema.Tables() {
		r.cursors = append(r.cursors, newCursor(t, p.cfg.Recording.Records(t.ID)))
	}
	return r
}

// again starts the recording where the run before ended.
func (p *Player) again(before *run) *run {
	start := before.end
	if now := time.Now(); now.Sub(start) > maxLag {
		start = now
	}
	return p.newRun(start, start.Sub(p.cfg.Recording.First), before.epochs+p.highestEpoch-p.lowestEpoch+1)
}

// emit writes the rows whose time has come.
func (p *Player) emit(r *run) error {
	now := time.Now()
	position := p.cfg.Recording.First.Add(time.Duration(float64(now.Sub(r.start)) * p.cfg.Speed))
	rows := p.stats.Rows.Load()
	for _, c := range r.cursors {
		for !c.done() && !c.time().After(position) {
			if err := p.row(r, c); err != nil {
				return err
			}
		}
	}
	if p.stats.Rows.Load() > rows {
		p.stats.Ticks.Add(1)
	}
	if err := p.cfg.Sink.FlushDue(now); err != nil {
		return fmt.Errorf("play recording: %w", err)
	}
	return nil
}

// row writes the cursor's row and moves on.
func (p *Player) row(r *run, c *cursor) error {
	cells := c.next()
	cells[0].Int += int64(r.shift / c.unit)
	if c.epoch >= 0 {
		p.sawEpoch(cells[c.epoch].Int)
		cells[c.epoch].Int += r.epochs
	}
	switch c.table.ID {
	case schema.SamplesID:
		p.stats.Rows.Add(1)
		p.sawGPU(cells[1].Int)
	case schema.NodeInventoryID:
		cells[c.source] = batch.Cell{Text: "recording", OK: true}
		cells[c.hash] = sampler.ContentHash(cells[c.hash+1:])
	}
	write := func() error { return p.cfg.Sink.Append(c.table.ID, cells) }
	if c.table.ID == schema.EventsID {
		write = func() error { return p.cfg.Journal.WriteCells(cells) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("play row of %s: %w", c.table.Name, err)
	}
	return nil
}

func (p *Player) sawEpoch(epoch int64) {
	if p.highestEpoch == 0 && p.lowestEpoch == 0 {
		p.lowestEpoch, p.highestEpoch = epoch, epoch
	}
	p.lowestEpoch, p.highestEpoch = min(p.lowestEpoch, epoch), max(p.highestEpoch, epoch)
}

func (p *Player) sawGPU(id int64) {
	if _, seen := p.gpus[id]; !seen {
		p.gpus[id] = struct{}{}
		p.stats.GPUs.Add(1)
	}
}
