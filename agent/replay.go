// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/gpufleet/gpufleet/agent/internal/player"
	"github.com/gpufleet/gpufleet/agent/recording"
)

// ReplayOptions is how a recording is played.
type ReplayOptions struct {
	// Loop starts the recording again at its end, a second after its last row, until the context ends.
	// Increments are then as recorded. Totals stand where they stood when it was made, so counter_epoch
	// rises and an event counters_reset is written, as after a driver reload.
	Loop bool
	// Speed is how many recorded seconds pass in one; 0 is 1. Rows keep their distances in time: played
	// faster, they lie in the past and reach the present with the last one. That cannot be repeated, so
	// a Speed above 1 excludes Loop.
	Speed float64
}

// NewReplay puts an agent together that plays a recording as the node that it was made on: the rows
// take the way that all rows take, with their times moved so that the first is now. Of the
// configuration only what concerns sending is used; the node is the recording's, and a token must be
// that node's.
func NewReplay(cfg Config, r *recording.Recording, o ReplayOptions) (*Agent, error) {
	cfg.Node = Node{Name: r.Provenance.Node}
	if o.Speed == 0 {
		o.Speed = 1
	}
	problems := cfg.sendingProblems()
	if math.IsNaN(o.Speed) || o.Speed < 0 || math.IsInf(o.Speed, 0) {
		problems = append(problems, fmt.Errorf("speed of %v: it must be above 0", o.Speed))
	}
	if o.Loop && o.Speed > 1 {
		problems = append(problems, fmt.Errorf("speed of %v in a loop: its rows would soon lie in the future", o.Speed))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("replay configuration: %w", err)
	}
	a, err := newAgent(cfg)
	if err != nil {
		return nil, err
	}
	a.source = player.New(player.Config{Recording: r, Loop: o.Loop, Speed: o.Speed, Sink: a.sink, Journal: a.journal, Logger: cfg.Logger})
	return a, nil
}

// Replay plays a recording until it or the context ends, sends what is left, and tells what was done.
// Of its Stats, MissedTicks and DriverCalls are 0: nothing is read.
func Replay(ctx context.Context, cfg Config, r *recording.Recording, o ReplayOptions) (Stats, error) {
	a, err := NewReplay(cfg, r, o)
	if err != nil {
		return Stats{}, err
	}
	err = a.Run(ctx)
	return a.Stats(), err
}
