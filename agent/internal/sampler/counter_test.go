// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

func TestCounter(t *testing.T) {
	plain := func(v int64) int64 { return v }
	tests := []struct {
		name     string
		bits     int
		wraps    bool
		readings []int64
		want     []int64 // increments after the first reading
		resets   int
	}{
		{"counts up", 64, false, []int64{10, 15, 15, 40}, []int64{5, 0, 25}, 0},
		{"32 bits wrap", 32, false, []int64{math.MaxUint32 - 9, 5, 7}, []int64{15, 2}, 0},
		{"32 bits reset", 32, false, []int64{1000, 30, 40}, []int64{30, 10}, 1},
		{"64 bits reset", 64, false, []int64{1 << 40, 30, 40}, []int64{30, 10}, 1},
		{"32 bits that always wrap", 32, true, []int64{1000, 30, 40}, []int64{1<<32 - 970, 10}, 0},
		{"64 bits never wrap", 64, false, []int64{math.MaxUint32 - 9, 5}, []int64{5}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c counter
			resets := 0
			for i, r := range tt.readings {
				delta, ok, reset := c.next(r, tt.bits, tt.wraps, plain)
				if ok != (i > 0) {
					t.Fatalf("reading %d: ok = %t", i, ok)
				}
				if i > 0 && delta != tt.want[i-1] {
					t.Errorf("reading %d: increment %d, want %d", i, delta, tt.want[i-1])
				}
				if reset {
					resets++
				}
			}
			if resets != tt.resets {
				t.Errorf("%d resets, want %d", resets, tt.resets)
			}
		})
	}
}

// Increments that are rounded one by one would drift from the total.
func TestCounterIncrementsAddUpToTheScaledTotal(t *testing.T) {
	source := &schema.Source{Divide: 1000}
	var c counter
	var sum, now int64
	for range 1000 {
		now += 499
		if delta, ok, _ := c.next(now, 64, false, func(v int64) int64 { return scale(source, v) }); ok {
			sum += delta
		}
	}
	if want := scale(source, now-499); sum != want {
		t.Errorf("increments add up to %d, the total is %d", sum, want)
	}
}

func TestScaleRoundsToTheNearest(t *testing.T) {
	milli := &schema.Source{Divide: 1000}
	for in, want := range map[int64]int64{0: 0, 499: 0, 500: 1, 1499: 1, -499: 0, -500: -1, 699_600: 700} {
		if got := scale(milli, in); got != want {
			t.Errorf("scale(%d) = %d, want %d", in, got, want)
		}
	}
	if got := scale(&schema.Source{Multiply: 10}, 37); got != 370 {
		t.Errorf("37 %% = %d per mille", got)
	}
}

func TestBitErrorRate(t *testing.T) {
	if got, ok := bitErrorRate(0x50c); math.Abs(got-5e-12) > 1e-20 || !ok {
		t.Errorf("coded 0x50c is %g, want 5e-12", got)
	}
	if got, ok := bitErrorRate(0xf00); ok {
		t.Errorf("a rate of %g is taken for one", got)
	}
}
