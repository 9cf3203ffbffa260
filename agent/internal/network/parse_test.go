// SPDX-License-Identifier: Apache-2.0

package network

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]state{
		"4: ACTIVE\n": {4, "ACTIVE"}, "5: ACTIVE_DEFER": {5, "ACTIVE_DEFER"}, "5: LinkUp": {5, "LinkUp"},
		"1: DOWN": {1, "DOWN"}, "6: LinkErrorRecovery": {6, "LinkErrorRecovery"}, "4:ACTIVE": {4, "ACTIVE"},
		"": {}, "ACTIVE": {}, "4": {}, "4:": {}, "-1: DOWN": {}, "256: X": {}, "4: A\x00B": {}, "4: " + strings.Repeat("A", 65): {},
	} {
		if got, err := parseState(text); got != want || (err == nil) != (want.name != "") {
			t.Errorf("parseState(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"400 Gb/sec (4X NDR)\n": "400 Gb/s (4X NDR)", "2.5 Gb/sec (1X SDR)": "2.5 Gb/s (1X SDR)", "100 Gb/sec": "100 Gb/s", "800 Gb/sec (4X XDR)": "800 Gb/s (4X XDR)",
		"": "", "400": "", "0 Gb/sec": "", "-4 Gb/sec": "", "NaN Gb/sec": "", "+Inf Gb/sec": "", "1e300 Gb/sec": "", "400 Gb/sec (\x01)": "400 Gb/s",
	} {
		got, err := parseRate(text)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("parseRate(%q) = %v, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]float64{"200000\n": 200, "1000": 1, "-1": 0, "0": 0, "": 0, "fast": 0, "99999999999999": 0} {
		if got, err := parseSpeed(text); got.gigabits != want || (err == nil) != (want > 0) {
			t.Errorf("parseSpeed(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, ok := range map[string]bool{"0": true, "18446744073709551615\n": true, "18446744073709551616": false, "-1": false, "N/A (no PMA)": false, "": false, "0x10": false, "1 2": false} {
		if _, err := parseCount(text); (err == nil) != ok {
			t.Errorf("parseCount(%q): %v", text, err)
		}
	}
}

// FuzzParse: what is accepted can stand in a row, and reads the same when it is written again.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"4: ACTIVE\n", "5: LinkUp", "400 Gb/sec (4X NDR)", "2.5 Gb/sec (1X SDR)", "230539874932483", "N/A (no PMA)", "-1", "200000\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseState(text); err == nil {
			again, err := parseState(strconv.Itoa(int(s.code)) + ": " + s.name)
			if err != nil || again != s || !isName(s.name) {
				t.Errorf("state %q is %v, and then %v, %v", text, s, again, err)
			}
		}
		if r, err := parseRate(text); err == nil {
			again, err := parseRate(strconv.FormatFloat(r.gigabits, 'g', -1, 64) + " Gb/sec (" + r.lanes + ")")
			if err != nil || again != r || !(r.gigabits > 0 && r.gigabits <= highestRate) {
				t.Errorf("rate %q is %v, and then %v, %v", text, r, again, err)
			}
		}
		if r, err := parseSpeed(text); err == nil && !(r.gigabits > 0 && r.gigabits <= highestRate) {
			t.Errorf("speed %q is %v", text, r)
		}
		if count, err := parseCount(text); err == nil {
			if again, err := parseCount(strconv.FormatUint(count, 10)); err != nil || again != count {
				t.Errorf("counter %q is %d, and then %d, %v", text, count, again, err)
			}
		}
	})
}

// FuzzCounter: whatever a counter shows, increments never exceed what it can have counted, and those of one that only
// rises add up to what it rose by.
func FuzzCounter(f *testing.F) {
	f.Add(uint64(1), uint64(5), uint64(2), uint8(0))
	f.Add(uint64(4294967295), uint64(3), uint64(4294967290), uint8(1))
	f.Add(uint64(65534), uint64(65535), uint64(7), uint8(2))
	f.Add(uint64(math.MaxUint64), uint64(0), uint64(math.MaxUint64), uint8(3))
	f.Fuzz(func(t *testing.T, a, b, c uint64, kind uint8) {
		sources := []schema.NetworkSource{{Bits: 64}, {Bits: 32}, {Bits: 16, Saturates: true}, {Bits: 32, Saturates: true, Multiply: 4}}
		source := &sources[int(kind)%len(sources)]
		var counter counter
		var sum uint64
		certain := true
		for i, reading := range []uint64{a, b, c} {
			delta, ok, _ := counter.next(reading, source)
			if ok && i == 0 {
				t.Error("the first reading has an increment")
			}
			if ok && delta > max(reading, 1<<32) {
				t.Errorf("increment %d at %d", delta, reading)
			}
			certain = certain && (ok || i == 0)
			sum += delta
			if n, fits := multiplied(delta, source); fits && n < 0 {
				t.Errorf("%d in the stored unit is %d", delta, n)
			}
		}
		if a <= b && b <= c && certain && sum != c-a {
			t.Errorf("rose from %d to %d to %d, increments add up to %d", a, b, c, sum)
		}
	})
}
