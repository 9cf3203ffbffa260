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
)

// instant is what the clocks show at one moment, in µs; 0 where that is not known.
type instant [clockCount]int64

// wallInstant is an instant of which only the wall time is known.
func wallInstant(now time.Time) instant { return instant{realtime: now.UnixMicro()} }
