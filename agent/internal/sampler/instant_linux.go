// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"golang.org/x/sys/unix"
)

// readClocks reads all other clocks, right after the wall clock.
func readClocks(wall, start time.Time) instant {
	now := wallInstant(wall, start)
	for clock, id := range [...]int32{boottime: unix.CLOCK_BOOTTIME, monotonic: unix.CLOCK_MONOTONIC, monotonicRaw: unix.CLOCK_MONOTONIC_RAW} {
		if clock == realtime {
			continue
		}
		var t unix.Timespec
		if err := unix.ClockGettime(id, &t); err == nil {
			now[clock] = t.Nano() / int64(time.Microsecond)
		}
	}
	return now
}
