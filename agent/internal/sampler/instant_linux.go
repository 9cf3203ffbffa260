// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"golang.org/x/sys/unix"
)

// readClocks reads all clocks, one right after the other.
func readClocks() instant {
	now := wallInstant(time.Now())
	for clock, id := range map[int]int32{boottime: unix.CLOCK_BOOTTIME, monotonic: unix.CLOCK_MONOTONIC, monotonicRaw: unix.CLOCK_MONOTONIC_RAW} {
		var t unix.Timespec
		if err := unix.ClockGettime(id, &t); err == nil {
			now[clock] = t.Nano() / int64(time.Microsecond)
		}
	}
	return now
}
