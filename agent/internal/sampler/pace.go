// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// pace measures how late ticks are by the time that passes: the wall clock may be set, by an hour too. A suspended
// machine is late; the clock that counts that time tells it from the one that does not.
type pace struct {
	from instant       // when the next tick was planned
	wait time.Duration // until that tick; less than 0 if it was over
}

func (p *pace) plan(now instant, wait time.Duration) { p.from, p.wait = now, wait }

// judge tells how late a tick is, and by how much the wall clock was set since it was planned.
func (p *pace) judge(now instant) (late, set time.Duration) {
	passed := since(p.from, now, elapsed)
	if p.from[boottime] != 0 && p.from[monotonic] != 0 {
		passed += since(p.from, now, boottime) - since(p.from, now, monotonic)
	}
	return passed - p.wait, since(p.from, now, realtime) - passed
}

// since is the time between two instants by one clock.
func since(from, to instant, clock int) time.Duration {
	return time.Duration(to[clock]-from[clock]) * time.Microsecond
}

// holdPace counts what is late or missed at a tick, and tells if the wall clock was set.
func (r *session) holdPace() error {
	late, set := r.pace.judge(r.clocks())
	r.late = late > r.cfg.Interval/10
	if r.late {
		r.stats.LateTicks.Add(1)
	}
	if missed := int64(late / r.cfg.Interval); missed > 0 {
		r.stats.MissedTicks.Add(uint64(missed))
		r.missed += missed
	}
	if set.Abs() < r.cfg.Interval/2 {
		return nil
	}
	r.cfg.Logger.Warn("the wall clock was set", "by", set)
	milliseconds := set.Abs().Milliseconds()
	direction := "forwards"
	if set < 0 {
		direction = "backwards"
	}
	return r.write(event.Event{Kind: "clock_set", Count: &milliseconds, Message: fmt.Sprintf("by %s %s", set.Abs().Round(time.Millisecond), direction)})
}
