// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

func TestPace(t *testing.T) {
	const second, hour = int64(1e6), int64(3600e6)
	from := instant{realtime: 1e15, boottime: 9e12, monotonic: 5e12, elapsed: 7e9}
	for name, c := range map[string]struct {
		realtime, boottime, monotonic, elapsed int64
		late, set                              time.Duration
	}{
		"in time":                       {second, second, second, second, 0, 0},
		"late":                          {3 * second, 3 * second, 3 * second, 3 * second, 2 * time.Second, 0},
		"an hour forwards":              {second + hour, second, second, second, 0, time.Hour},
		"an hour backwards":             {second - hour, second, second, second, 0, -time.Hour},
		"suspended for an hour":         {second + hour, second + hour, second, second, time.Hour, 0},
		"suspended, and set backwards":  {second, second + hour, second, second, time.Hour, -time.Hour},
		"slewed by a thousandth":        {second + second/1000, second, second, second, 0, time.Millisecond},
		"late, and set back by an hour": {2*second - hour, 2 * second, 2 * second, 2 * second, time.Second, -time.Hour},
	} {
		var p pace
		p.plan(from, time.Second)
		now := instant{from[realtime] + c.realtime, from[boottime] + c.boottime, from[monotonic] + c.monotonic, 0, from[elapsed] + c.elapsed}
		if late, set := p.judge(now); late != c.late || set != c.set {
			t.Errorf("%s: late by %s, set by %s; want %s, %s", name, late, set, c.late, c.set)
		}
	}
}

// steppedClocks are the clocks of a machine whose wall clock is set.
type steppedClocks struct {
	by    time.Duration
	after time.Duration // since the start
}

func (s steppedClocks) since(start time.Time) func() instant {
	return func() instant {
		now := wallInstant(time.Now(), start)
		if time.Since(start) > s.after {
			now[realtime] += s.by.Microseconds()
		}
		return now
	}
}

// TestClockStepOfAnHour: no tick counts as missed, no row is left out, and an event tells of it.
func TestClockStepOfAnHour(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			d := newFakeDriver(1)
			s := startSampler(t, opening(d), func(c *Config) { c.clocks = steppedClocks{by, 10 * time.Second}.since })
			wait(30*time.Second + 500*time.Millisecond)
			s.stop()
			if got := s.Stats().MissedTicks.Load(); got != 0 || s.Stats().LateTicks.Load() != 0 {
				t.Errorf("%s: %d ticks missed, %d late", by, got, s.Stats().LateTicks.Load())
			}
			rows := s.rowsOf("GPU-0")
			if len(rows) != 30 {
				t.Errorf("%s: %d rows in 30 ticks", by, len(rows))
			}
			for _, r := range rows[1:] {
				if r["interval_milliseconds"].Int != 1000 {
					t.Errorf("%s: interval of %d ms", by, r["interval_milliseconds"].Int)
				}
			}
			var told int
			for _, e := range s.rows.of(schema.EventsID) {
				if e["kind"].Text == "clock_set" {
					told++
					if e["count"].Int != time.Hour.Milliseconds() {
						t.Errorf("%s: event %v", by, e)
					}
				}
			}
			if told != 1 {
				t.Errorf("%s: told %d times", by, told)
			}
		})
	}
}

// TestTickAfterAClockStep: the tick that was planned lies an hour off; the next one is a second away all the same.
func TestTickAfterAClockStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := newRecorder()
		r := &session{Sampler: New(Config{Interval: time.Second, InventoryInterval: time.Hour, Sink: rows}), clocks: clocksSince(time.Now())}
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			r.searched, r.searching = true, true
			r.pace.plan(r.clocks(), 0)
			next, err := r.tick(t.Context(), time.Now().Add(by))
			if err != nil {
				t.Fatal(err)
			}
			if wait := time.Until(next); wait <= 0 || wait > time.Second {
				t.Errorf("planned tick is off by %s: the next one is in %s", by, wait)
			}
		}
		if got := r.stats.MissedTicks.Load(); got != 0 {
			t.Errorf("%d ticks missed", got)
		}
	})
}
