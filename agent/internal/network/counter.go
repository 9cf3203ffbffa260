// SPDX-License-Identifier: Apache-2.0

package network

import (
	"math"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// counter turns the readings of one counter into increments.
type counter struct {
	have bool
	last uint64
	at   time.Time // of the pass over the port's counters that read it
}

// next takes a reading, as the file has it. ok is false if what was gained is not known: on the first
// reading, and while the counter stands at its end. One of 32 bits that went down by more than half its
// range started again; any other that went down was reset, and has counted what it shows since then.
func (c *counter) next(now uint64, source *schema.NetworkSource) (delta uint64, ok, reset bool) {
	last, had := c.last, c.have
	c.last, c.have = now, true
	switch {
	case !had:
		return 0, false, false
	case saturated(now, source):
		return 0, false, now < last
	case now >= last:
		return now - last, true, false
	case source.Bits == 32 && !source.Saturates && last <= math.MaxUint32 && last-now > 1<<31:
		return 1<<32 - last + now, true, false
	default:
		return now, true, true
	}
}

// saturated tells that a counter stands at its end. A file that can hold 32 bits or 64, as the port
// has it, is at its end only at the very value.
func saturated(now uint64, source *schema.NetworkSource) bool {
	return source.Saturates && now == 1<<source.Bits-1
}

// multiplied is the count in the stored unit; false if that does not fit.
func multiplied(count uint64, source *schema.NetworkSource) (int64, bool) {
	factor := max(source.Multiply, 1)
	if count > math.MaxInt64/factor {
		return 0, false
	}
	return int64(count * factor), true
}
