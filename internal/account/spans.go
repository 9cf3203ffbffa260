// SPDX-License-Identifier: Apache-2.0

package account

import (
	"math"
	"slices"
)

// span is a time from a first moment to the first one after it, in milliseconds since 1970.
type span struct{ from, to int64 }

// forever is the end of what has none.
const forever = math.MaxInt64

func (s span) has(at int64) bool { return s.from <= at && at < s.to }

func (s span) length() int64 { return s.to - s.from }

// within is the part of the span that lies in another one, and whether there is one.
func (s span) within(other span) (span, bool) {
	s = span{max(s.from, other.from), min(s.to, other.to)}
	return s, s.from < s.to
}

// union puts spans together that overlap, touch, or are no further apart than a gap.
func union(spans []span, gap int64) []span {
	slices.SortFunc(spans, func(a, b span) int { return compare(a.from, b.from) })
	var all []span
	for _, s := range spans {
		if s.from >= s.to {
			continue
		}
		if n := len(all); n > 0 && s.from <= all[n-1].to+gap {
			all[n-1].to = max(all[n-1].to, s.to)
			continue
		}
		all = append(all, s)
	}
	return all
}

func anyHas(spans []span, at int64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.has(at) })
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// cuts are the moments at which something changes, in order, from the beginning of a time to its end.
type cuts struct {
	of  span
	all []int64
}

func newCuts(of span) *cuts { return &cuts{of, []int64{of.from, of.to}} }

func (c *cuts) add(spans ...span) {
	for _, s := range spans {
		for _, at := range []int64{s.from, s.to} {
			if c.of.from < at && at < c.of.to {
				c.all = append(c.all, at)
			}
		}
	}
}

// pieces are the times between two cuts.
func (c *cuts) pieces() []span {
	slices.Sort(c.all)
	c.all = slices.Compact(c.all)
	pieces := make([]span, 0, len(c.all)-1)
	for i, at := range c.all[1:] {
		pieces = append(pieces, span{c.all[i], at})
	}
	return pieces
}

// part is how much of a whole lies between two moments of a time over which it is spread evenly. The parts of a time are
// whole numbers, and add up to the whole wherever it is cut.
func part(whole, from, to, length int64) int64 {
	return upTo(whole, to, length) - upTo(whole, from, length)
}

// upTo is whole × at ÷ length, rounded down. A whole below 2⁴⁰ and a time below 2²² do not overflow.
func upTo(whole, at, length int64) int64 {
	if length == 0 {
		return 0
	}
	return whole/length*at + whole%length*at/length
}
