// SPDX-License-Identifier: Apache-2.0

package mapping

import (
	"math"
	"math/bits"

	"github.com/gpufleet/gpufleet/schema"
)

// Value is a number as it was pushed: whole numbers stay what they are, however large.
type Value struct {
	Float float64
	Int   int64
	Whole bool // Int counts, and not Float
}

// Float is a number of floating point. One that is whole, and small enough to be exactly that, counts as whole.
func Float(f float64) Value {
	if f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return Value{Int: int64(f), Whole: true}
	}
	return Value{Float: f}
}

// Int is a whole number.
func Int(i int64) Value { return Value{Int: i, Whole: true} }

// none tells whether it is no number.
func (v Value) none() bool { return !v.Whole && (math.IsNaN(v.Float) || math.IsInf(v.Float, 0)) }

// blank tells whether DCGM says by a number that there is none: the last sixteen of 32 and of 64 bits, and 2^47 and the
// fifteen that follow.
func (v Value) blank() bool {
	if !v.Whole {
		return v.Float >= math.MaxInt64
	}
	return v.Int > math.MaxInt64-16 || v.Int > math.MaxInt32-16 && v.Int <= math.MaxInt32 || v.Int >= 1<<47 && v.Int < 1<<47+16
}

// ratio is a factor.
type ratio struct{ multiply, divide int64 }

func (r ratio) times(o ratio) ratio { return ratio{r.multiply * o.multiply, r.divide * o.divide} }

// scaled multiplies and rounds to the nearest whole number, halves away from zero. It is false for what is no number,
// and for what 64 bits do not hold.
func (v Value) scaled(by ratio) (int64, bool) {
	if !v.Whole {
		scaled := math.Round(v.Float * float64(by.multiply) / float64(by.divide))
		if math.IsNaN(scaled) || scaled < math.MinInt64 || scaled >= math.MaxInt64 {
			return 0, false
		}
		return int64(scaled), true
	}
	magnitude := uint64(v.Int)
	if v.Int < 0 {
		magnitude = -magnitude
	}
	high, low := bits.Mul64(magnitude, uint64(by.multiply))
	if high >= uint64(by.divide) {
		return 0, false
	}
	quotient, rest := bits.Div64(high, low, uint64(by.divide))
	if rest >= uint64(by.divide)-rest {
		quotient++
	}
	if quotient > math.MaxInt64 {
		return 0, false
	}
	if v.Int < 0 {
		return -int64(quotient), true
	}
	return int64(quotient), true
}

// permille is the unit of shares in the schema.
const permille = "‰"

// fits tells whether the metric's column holds the value. Of a counter that is the total, of 64 bits.
func fits(m schema.Metric, v int64) bool {
	if m.Kind == schema.Counter {
		return v >= 0
	}
	if m.Unit == permille && v > 1000 { // no share is more than the whole: a percentage that does not say so, or none at all
		return false
	}
	switch m.Type {
	case schema.Uint8:
		return v >= 0 && v <= math.MaxUint8
	case schema.Uint16:
		return v >= 0 && v <= math.MaxUint16
	case schema.Uint32:
		return v >= 0 && v <= math.MaxUint32
	case schema.Uint64:
		return v >= 0
	case schema.Int16:
		return v >= math.MinInt16 && v <= math.MaxInt16
	case schema.Int64:
		return true
	default:
		return false
	}
}

// units are those of one kind, each as a factor to the first-named; UCUM as OpenTelemetry uses it.
var units = map[string]map[string]ratio{
	"1":    {"%": {1, 100}, "ratio": {1, 1}},
	"%":    {"1": {100, 1}, "percent": {1, 1}},
	"W":    {"mW": {1, 1000}, "kW": {1000, 1}},
	"J":    {"mJ": {1, 1000}, "kJ": {1000, 1}, "W.h": {3600, 1}, "Wh": {3600, 1}, "kWh": {3_600_000, 1}},
	"mJ":   {"J": {1000, 1}, "kJ": {1_000_000, 1}},
	"By":   {"B": {1, 1}, "bytes": {1, 1}, "kBy": {1000, 1}, "MBy": {1_000_000, 1}, "KiBy": {1 << 10, 1}, "MiBy": {1 << 20, 1}, "GiBy": {1 << 30, 1}},
	"MiBy": {"MiB": {1, 1}, "By": {1, 1 << 20}},
	"By/s": {"B/s": {1, 1}, "KiBy/s": {1 << 10, 1}, "MiBy/s": {1 << 20, 1}},
	"MHz":  {"Hz": {1, 1_000_000}, "kHz": {1, 1000}, "GHz": {1000, 1}},
	"Cel":  {"C": {1, 1}, "celsius": {1, 1}},
	"ns":   {"us": {1000, 1}, "ms": {1_000_000, 1}, "s": {1_000_000_000, 1}},
}

// factor is what a value in a unit is to be multiplied with.
func (n *Name) factor(unit string) (ratio, bool) {
	own := ratio{max(n.Multiply, 1), max(n.Divide, 1)}
	if unit == "" || unit == n.Unit || countsThings(unit) && (n.Unit == "1" && own == ratio{1, 1} || countsThings(n.Unit)) {
		return own, true
	}
	other, ok := units[n.Unit][unit]
	return own.times(other), ok
}

// countsThings is true of UCUM's annotations, such as {error}: they are no units, whatever they say.
func countsThings(unit string) bool { return len(unit) > 1 && unit[0] == '{' }
