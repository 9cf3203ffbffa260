// SPDX-License-Identifier: Apache-2.0

package account

import (
	"cmp"
	"slices"
)

// event is one of those that say whether a GPU, or all of a node, can be used.
type event struct {
	at   int64
	gpu  uint64
	all  bool // it concerns all GPUs of the node
	kind string
}

// critical is a critical fault.
type critical struct {
	at, last int64
	gpu      uint64
	all      bool
}

// What events do. To be found again ends every trouble; a reset and a boot end faults.
const (
	losing    = 1 << iota // the GPU gives no rows any more, and not because somebody wants that
	taking                // the GPU is taken from the driver on purpose
	finding               // it is there again
	repairing             // what is done against a fault was done
)

// effects are those of the kinds of gpu_events that are asked for.
var effects = map[string]int{ //nolint:gochecknoglobals // a constant table
	"gpu_lost": losing, "gpu_stuck": losing, "driver_missing": losing,
	"gpu_unbound": taking, "driver_released": taking,
	"gpu_recovered": finding | repairing, "driver_recovered": finding | repairing, "driver_resumed": finding, "gpu_found": finding,
	"gpu_removed": finding | repairing, "counters_reset": repairing, booted: repairing, stopped: 0,
}

const (
	booted  = "node_booted" // no event of an agent: its node has another boot_id
	stopped = "agent_stopped"
)

// troubles are what happened to the GPUs of a node, as far as it tells whether they can be used in an hour.
type troubles struct {
	events   []event
	faults   []critical
	verdicts map[uint64][]int64 // by GPU: readings at which the driver asked for a reset or a reboot
}

func (t *troubles) sort() {
	slices.SortStableFunc(t.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

// of are when a GPU was unhealthy within a time, and when it was taken away on purpose.
func (t *troubles) of(gpu uint64, readings *[minutesOfHour]reading, within span) (ill, away []span) {
	if t == nil {
		return nil, nil
	}
	concerns := func(all bool, one uint64) bool { return all || one == gpu }
	for i, e := range t.events {
		effect := effects[e.kind]
		if !concerns(e.all, e.gpu) || effect&(losing|taking) == 0 {
			continue
		}
		s := span{e.at, t.next(i+1, e.at, gpu, losing|taking|finding)}
		s.to = min(s.to, rowsAgain(readings, s.from, within))
		if effect&losing != 0 {
			ill = append(ill, s)
		} else {
			away = append(away, s)
		}
	}
	for _, f := range t.faults {
		if concerns(f.all, f.gpu) {
			ill = append(ill, span{f.at, min(f.last+faultHolds.Milliseconds(), t.next(0, f.at, gpu, repairing))})
		}
	}
	for _, at := range t.verdicts[gpu] {
		ill = append(ill, span{at, at + verdictHolds.Milliseconds()})
	}
	return clipped(union(ill, 0), within), clipped(union(away, 0), within)
}

// next is when something with one of these effects happens to a GPU after a moment, from the i-th event on.
func (t *troubles) next(i int, after int64, gpu uint64, effect int) int64 {
	for _, e := range t.events[i:] {
		if e.at > after && (e.all || e.gpu == gpu) && effects[e.kind]&effect != 0 {
			return e.at
		}
	}
	return forever
}

// rowsAgain is the first minute after a moment in which a GPU gives rows: then it is there, whatever was said.
func rowsAgain(readings *[minutesOfHour]reading, after int64, within span) int64 {
	for m, r := range readings {
		if begin := within.from + int64(m)*minute; begin >= after && r.seen > 0 {
			return begin
		}
	}
	return forever
}

func clipped(spans []span, within span) []span {
	var all []span
	for _, s := range spans {
		if s, ok := s.within(within); ok {
			all = append(all, s)
		}
	}
	return all
}
