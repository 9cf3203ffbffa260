// SPDX-License-Identifier: Apache-2.0

package sampler

// counter turns the readings of one counter into increments.
type counter struct {
	have   bool
	last   int64 // as the driver gave it
	total  int64 // without wraps and resets, in the driver's unit
	stored int64 // what of total was given out as increments, in the stored unit
	epoch  int64 // counter_epoch of the latest reading
}

// next takes a reading in the driver's unit. ok is false on the first one. A counter of 32 bits that
// went down by more than half its range wrapped, and so did one that always wraps; any other that went
// down was reset, and has counted what it shows since then.
func (c *counter) next(now int64, bits int, wraps bool, scale func(int64) int64) (delta int64, ok, reset bool) {
	if !c.have {
		c.have, c.last, c.total, c.stored = true, now, 0, 0
		return 0, false, false
	}
	switch {
	case now >= c.last:
		c.total += now - c.last
	case bits == 32 && (wraps || c.last-now > 1<<31):
		c.total += 1<<32 - c.last + now
	default:
		c.total += now
		reset = true
	}
	c.last = now
	scaled := scale(c.total)
	delta, c.stored = scaled-c.stored, scaled
	return delta, true, reset
}
