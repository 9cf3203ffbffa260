// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math/rand/v2"
	"testing"
)

// machine is a machine whose clocks a test moves, µs.
type machine struct {
	wall, up, suspended, drift int64 // drift of the raw clock, parts per million
	passed                     int64
}

func newMachine() machine { return machine{wall: 1_700_000_000_000_000, up: 5_000_000_000} }

func (m *machine) pass(microseconds int64) {
	m.wall += microseconds
	m.up += microseconds
	m.passed += microseconds
}

func (m *machine) suspend(microseconds int64) {
	m.wall += microseconds
	m.suspended += microseconds
}

func (m *machine) instant() instant {
	return instant{
		realtime: m.wall, boottime: m.up + m.suspended, monotonic: m.up,
		monotonicRaw: m.up + m.up*m.drift/1_000_000, elapsed: m.passed + 1,
	}
}

// harvests lets a while pass in ticks of a second, with samples by the given clock that are up to 100 ms old, and
// returns the greatest error of the last one.
func (m *machine) harvests(c *driverClock, ticks int, stamp func(instant) int64) (worst int64) {
	for range ticks {
		m.pass(1_000_000)
		age := rand.Int64N(100_000)
		taken := *m
		taken.pass(-age)
		sample := uint64(stamp(taken.instant()))
		c.align(sample, m.instant())
		worst = max(worst, abs(c.wall(sample)-taken.wall))
	}
	return worst
}

func abs(v int64) int64 { return max(v, -v) }

func TestDriverClockIsFoundAndThenMeasured(t *testing.T) {
	for name, clock := range map[string]int{"Unix time": realtime, "since the boot": boottime, "without suspension": monotonic, "raw": monotonicRaw} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			if clock == monotonicRaw {
				m.drift = 30 // in a hundred seconds as much as is left alone, and more
			}
			m.pass(20 * 3600 * 1_000_000)
			m.suspend(3600 * 1_000_000)
			c := newDriverClock()
			stamp := func(i instant) int64 { return i[clock] }
			if worst := m.harvests(&c, 100, stamp); worst > 2_000 {
				t.Errorf("samples are %d µs off", worst)
			}
			if c.clock != clock || c.steps > uint64(m.drift/20) {
				t.Errorf("clock %d with %d steps, want clock %d", c.clock, c.steps, clock)
			}
			c.steps = 0
			m.wall += 7_000_000 // it is set
			if worst := m.harvests(&c, 10, stamp); worst > 2_000 {
				t.Errorf("samples are %d µs off after the wall clock was set", worst)
			}
			if want := uint64(1); c.steps != want && clock != realtime || clock == realtime && c.steps != 0 {
				t.Errorf("%d steps after the wall clock was set once", c.steps)
			}
		})
	}
}

// TestNeighbouringHarvestsDoNotJump: the offset of a known clock does not follow how old samples are.
func TestNeighbouringHarvestsDoNotJump(t *testing.T) {
	m := newMachine()
	c := newDriverClock()
	stamp := func(i instant) int64 { return i[boottime] }
	m.harvests(&c, 1, stamp)
	offset := c.offset
	for range 1000 {
		m.harvests(&c, 1, stamp)
		if c.offset != offset {
			t.Fatalf("the offset moved by %d µs", c.offset-offset)
		}
	}
}

// TestDriverWithAClockOfItsOwn: the offset is learned from the freshest samples, and follows the wall clock.
func TestDriverWithAClockOfItsOwn(t *testing.T) {
	m := newMachine()
	c := newDriverClock()
	stamp := func(i instant) int64 { return i[monotonic] - 4_000_000_000 }
	m.harvests(&c, 100, stamp)
	if c.clock != clockOwn {
		t.Errorf("clock %d, want its own", c.clock)
	}
	if worst := m.harvests(&c, 100, stamp); worst > 20_000 {
		t.Errorf("samples are %d µs off", worst)
	}
	for _, step := range []int64{5_000_000, -5_000_000} {
		m.wall += step
		if worst := m.harvests(&c, 3, stamp); worst > 20_000 {
			t.Errorf("samples are %d µs off just after the wall clock was set by %d µs", worst, step)
		}
	}
}

// TestNoSampleIsOfTheFuture: a clock that would make it so is not taken for the driver's.
func TestNoSampleIsOfTheFuture(t *testing.T) {
	m := newMachine()
	m.suspend(2_000_000) // boot time is two seconds ahead of monotonic time
	c := newDriverClock()
	m.harvests(&c, 3, func(i instant) int64 { return i[boottime] })
	if c.clock != boottime {
		t.Errorf("clock %d: by it samples are of the future", c.clock)
	}
}
