// SPDX-License-Identifier: Apache-2.0

package account

import (
	"cmp"
	"slices"
)

// observation is what an agent said of a GPU at a moment.
type observation struct {
	at      int64
	node    uint64
	model   text
	removed bool
}

// presences are when which node has a GPU: from each observation to the next, or to what ended it: the GPU was removed;
// nobody saw it for so long that it is not expected any more; or its agent was stopped in order, and did not come back soon
// on that node. An agent that falls silent ends nothing: the node may well be there, and be paid for.
func presences(seen []observation, stops map[uint64][]int64, within span) []presence {
	slices.SortFunc(seen, func(a, b observation) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.node, b.node)) })
	var all []presence
	for i, o := range seen {
		if o.removed {
			continue
		}
		p := presence{span{o.at, o.at + expected.Milliseconds()}, o.node, o.model}
		var next *observation
		if i+1 < len(seen) {
			next = &seen[i+1]
			p.to = min(p.to, next.at)
		}
		for _, stop := range stops[o.node] {
			back := next != nil && next.node == o.node && next.at <= stop+settled.Milliseconds()
			if p.from < stop && stop < p.to && !back {
				p.to = stop
			}
		}
		s, ok := p.within(within)
		if !ok {
			continue
		}
		p.span = s
		if n := len(all); n > 0 && all[n-1].node == p.node && all[n-1].model == p.model && all[n-1].to == p.from {
			all[n-1].to = p.to
			continue
		}
		all = append(all, p)
	}
	return all
}

// placing is where an agent said at a moment that its node is.
type placing struct {
	at    int64
	place place
}

// placesOf are where a node is, all through a time: from one observation to the next, and where the first one says before it.
func placesOf(seen []placing, within span) []placed {
	slices.SortStableFunc(seen, func(a, b placing) int { return cmp.Compare(a.at, b.at) })
	var all []placed
	for i, o := range seen {
		s := span{o.at, forever}
		if i == 0 {
			s.from = within.from
		}
		if i+1 < len(seen) {
			s.to = seen[i+1].at
		}
		s, ok := s.within(within)
		if !ok {
			continue
		}
		if n := len(all); n > 0 && all[n-1].place == o.place {
			all[n-1].to = s.to
			continue
		}
		all = append(all, placed{span: s, place: o.place})
	}
	return all
}
