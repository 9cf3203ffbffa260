// SPDX-License-Identifier: Apache-2.0

package sampler

import "slices"

// driverClock maps the driver's time to wall time. It belongs to one loading of the driver, whose GPUs share
// it, so that their samples lie on one line of time.
//
//	driver time ──(which clock of the machine?)──▶ that clock ──(offset, both read at once)──▶ wall time
//
// nvml.h says no more than "CPU timestamp". So the newest sample of each harvest is held against every clock of
// the machine: it is a moment older than now by the right one, and years or minutes off by the others. Once
// the clock is known the offset is measured, not guessed, and does not change from harvest to harvest but when
// the wall clock is set. A driver with a clock of its own is mapped by the smallest of the latest differences,
// the one with the least delay between the driver's stamp and our reading of it.
type driverClock struct {
	clock    int    // of the machine; clockUnknown, or clockOwn if it is none of them
	anchored bool   // offset is known
	offset   int64  // from driver time to wall time, µs
	steps    uint64 // times that a known offset changed

	ages   [clockCount]ages // of the newest samples by each clock
	own    ages             // differences to the wall clock
	before instant          // at the harvest before
}

const (
	clockUnknown = -1
	clockOwn     = -2
)

// Limits of how old the newest sample of a harvest is by the driver's clock. Utilisation is sampled each
// second at the least (nvml.h).
const (
	leastAge = -2_000    // µs; the clocks are read one after the other
	mostAge  = 2_500_000 // µs
	// An offset that is wrong by less is left alone, so that samples do not jump about.
	tolerance = 2_000 // µs
	// Clocks that are apart by less are taken for the same.
	sameClock = 50_000 // µs
	// A wall clock that moves against the time that passes by more was set.
	setBy = 5_000 // µs
)

// agesKept is how many harvests count: with eight GPUs a minute and more.
const agesKept = 60

// ages are the latest of some differences, µs.
type ages struct {
	latest      [agesKept]int64
	known, next int
}

func (a *ages) add(v int64) {
	a.latest[a.next] = v
	a.next = (a.next + 1) % agesKept
	a.known = min(a.known+1, agesKept)
}

func (a *ages) least() int64 { return slices.Min(a.latest[:a.known]) }

func newDriverClock() driverClock { return driverClock{clock: clockUnknown} }

// align learns from a harvest: its newest sample, and what the clocks showed just after.
func (c *driverClock) align(newest uint64, now instant) {
	c.follow(now)
	for clock := range clockCount {
		if now[clock] != 0 {
			c.ages[clock].add(now[clock] - int64(newest))
		}
	}
	c.own.add(now[realtime] - int64(newest))
	if c.clock < 0 || !c.fits(c.clock) {
		c.choose()
	}
	offset := c.own.least()
	if c.clock >= 0 {
		offset = now[realtime] - now[c.clock]
	}
	if difference := offset - c.offset; c.anchored && difference <= tolerance && difference >= -tolerance {
		return
	}
	if c.anchored {
		c.steps++
	}
	c.offset, c.anchored = offset, true
}

// follow takes a wall clock that was set for what it is: all differences to it change at once.
func (c *driverClock) follow(now instant) {
	step := now[realtime] - c.before[realtime] - (now[elapsed] - c.before[elapsed])
	known := c.before[elapsed] != 0
	c.before = now
	if !known || step <= setBy && step >= -setBy {
		return
	}
	for i := range c.own.known {
		c.own.latest[i] += step
	}
	c.ages[realtime] = ages{}
}

// fits tells whether the samples may be stamped with a clock of the machine. The newest sample of the latest
// harvests is never from the future, and the freshest of them is fresh.
func (c *driverClock) fits(clock int) bool {
	a := &c.ages[clock]
	if a.known == 0 {
		return false
	}
	least := a.least()
	return least >= leastAge && least <= mostAge
}

// choose takes the clock by which the samples are the freshest. Clocks that show nearly the same are as good as
// each other, as boot time and monotonic time are until the machine is suspended: the first of them is taken.
func (c *driverClock) choose() {
	best := clockUnknown
	for clock := range clockCount {
		if c.fits(clock) && (best < 0 || c.ages[clock].least() < c.ages[best].least()-sameClock) {
			best = clock
		}
	}
	switch {
	case best >= 0:
		c.clock = best
	case c.clock != clockUnknown || c.own.known >= calibration:
		c.clock = clockOwn
	}
}

// calibration is how many harvests decide that the driver has a clock of its own.
const calibration = 8

// wall is the wall time of a sample, in µs since 1970.
func (c *driverClock) wall(driverTime uint64) int64 { return int64(driverTime) + c.offset }
