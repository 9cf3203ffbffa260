// SPDX-License-Identifier: Apache-2.0

package account

const minutesOfHour = 60

// reading is what a GPU did in a minute.
type reading struct {
	seen       int64 // milliseconds for which there are rows
	busy       int64 // of these those in which a kernel ran
	measured   bool  // it is known whether one ran
	millijoule int64
	energy     bool
}

// rolled is a row of the rollup by minute.
type rolled struct {
	minute   uint32 // of the hour; from 60 on those of the next one
	rows     int64
	covered  int64 // milliseconds since the GPU's previous row, summed up
	readings int64 // that tell whether a kernel ran
	permille int64 // their sum
	foreign  bool  // pushed by another program at its own pace
	energy   int64 // -1: none is known
}

// foreignSilent is how far back a row of a program that pushes at its own pace vouches for a GPU, as in fleet_silent.
const foreignSilent = 150 * second

// readingsOf are the minutes of an hour. A minute that lacks less than two rows is whole: rows do not lie on its edges. Of a
// GPU that is read once a minute or so, a row vouches for the time back to the one before, though that is another minute.
func readingsOf(rows []rolled) (all [minutesOfHour]reading) {
	for _, r := range rows {
		if r.minute < minutesOfHour {
			all[r.minute] = r.reading()
		}
	}
	for _, r := range rows {
		if !r.foreign {
			continue
		}
		left := min(r.covered, foreignSilent) - minute
		for m := int64(r.minute) - 1; m >= 0 && left > 0; m-- {
			if m >= minutesOfHour {
				left -= minute
				continue
			}
			if all[m].seen < minute {
				all[m] = r.spread(all[m], min(minute, all[m].seen+left))
			}
			left -= minute
		}
	}
	return all
}

// spread is an earlier minute that this row reaches back into: it was as busy as the row says.
func (r rolled) spread(before reading, seen int64) reading {
	more := seen - before.seen
	before.seen = seen
	if r.readings > 0 {
		before.busy += more * r.permille / (1000 * r.readings)
		before.measured = true
	}
	return before
}

func (r rolled) reading() reading {
	m := reading{seen: min(minute, r.covered), measured: r.readings > 0}
	if r.rows > 0 && r.covered+2*r.covered/r.rows >= minute {
		m.seen = minute
	}
	if m.measured {
		m.busy = min(m.seen, m.seen*r.permille/(1000*r.readings))
	}
	if r.energy >= 0 {
		m.millijoule, m.energy = r.energy, true
	}
	return m
}
