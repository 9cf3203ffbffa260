// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatIsSpentAfterTheLastSampleIsNotCounted: neither the time nor the CPU of looking whether more comes.
func TestWhatIsSpentAfterTheLastSampleIsNotCounted(t *testing.T) {
	own := []process{{"own", os.Getpid()}}
	synctest.Test(t, func(t *testing.T) {
		var at time.Time
		var cpu float64
		calls := 0
		got, err := awaitSamples(t.Context(), 100, own, func(context.Context) (float64, error) {
			if calls++; calls == 3 {
				at = time.Now()
			}
			if calls == 4 { // some tenth of a second of CPU
				for cpu = cpuSeconds(os.Getpid()); cpuSeconds(os.Getpid()) < cpu+0.1; {
				}
			}
			return float64(min(calls, 3)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.samples != 3 || !got.at.Equal(at) || got.cpu[0] > cpu {
			t.Errorf("%v samples at %s with %v of CPU, want 3 at %s with no more than %v", got.samples, got.at, got.cpu, at, cpu)
		}
		if waited := time.Since(at); waited < 10*time.Second || waited > 11*time.Second {
			t.Errorf("waited %s for more", waited)
		}
	})
}
