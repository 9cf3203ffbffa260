// SPDX-License-Identifier: Apache-2.0

package sampler

import "time"

// The clocks of the machine that a driver may stamp its samples with.
const (
	realtime     = iota // since 1970; follows when it is set
	boottime            // since the boot, with the time that the machine was suspended
	monotonic           // since the boot, without that time
	monotonicRaw        // as monotonic, at the oscillator's own pace
	clockCount

	elapsed = clockCount // since some moment, whatever is done to the wall clock; no clock of a driver
)

// instant is what the clocks show at one moment, in µs; 0 where that is not known.
type instant [clockCount + 1]int64

// wallInstant is an instant of which only the wall time is known, and the time since another one.
func wallInstant(now, start time.Time) instant {
	return instant{realtime: now.UnixMicro(), elapsed: now.Sub(start).Microseconds() + 1}
}

// clocksSince reads all clocks. The time that has passed is counted from a start.
func clocksSince(start time.Time) func() instant {
	return func() instant { return readClocks(time.Now(), start) }
}
