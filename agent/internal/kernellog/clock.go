// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"time"

	"golang.org/x/sys/unix"
)

// readClocks gives the node's time and its time since boot, of the same moment.
func readClocks() (now time.Time, sinceBoot time.Duration) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return time.Now(), 0 // it cannot fail on Linux
	}
	return time.Now(), time.Duration(t.Nano())
}

// stamper turns the log's time since boot into the time of day.
//
// The log's clock is not the one that the system calls time since boot: nothing corrects its rate, so that after
// weeks it is off by seconds. But a line that is read while nothing else waits was written just now. The smallest
// difference between the two clocks at such lines is how far they have parted: reading late only makes it larger.
// The time of day is taken anew for each line, so that a step of it is followed at once.
type stamper struct {
	read func() (now time.Time, sinceBoot time.Duration)

	from          time.Duration // when the present window began, since boot
	window, prior time.Duration // smallest difference in the present window, and in the one before
	hasNow        bool          // window is set
	hasPrior      bool
}

// skewWindow is the time after which an old difference no longer counts. Clocks part by some parts in a million.
const skewWindow = 10 * time.Minute

func newStamper(read func() (time.Time, time.Duration)) *stamper { return &stamper{read: read} }

// stamp is when the log's clock showed since. fresh tells that the line was read as soon as it came.
func (s *stamper) stamp(since time.Duration, fresh bool) time.Time {
	now, sinceBoot := s.read()
	age := sinceBoot - since
	if fresh {
		s.learn(sinceBoot, age)
	}
	age -= s.skew()
	return now.Add(-max(age, 0)) // nothing was written in the future
}

func (s *stamper) learn(sinceBoot, difference time.Duration) {
	if s.hasNow && sinceBoot-s.from > skewWindow {
		s.prior, s.hasPrior, s.hasNow = s.window, true, false
	}
	if !s.hasNow {
		s.from, s.window, s.hasNow = sinceBoot, difference, true
	}
	s.window = min(s.window, difference)
}

// skew is how far the log's clock is behind.
func (s *stamper) skew() time.Duration {
	switch {
	case s.hasNow && s.hasPrior:
		return min(s.window, s.prior)
	case s.hasNow:
		return s.window
	default:
		return 0
	}
}
