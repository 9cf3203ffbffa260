// SPDX-License-Identifier: Apache-2.0

package account

// gpuHour is what is known of a GPU in an hour.
type gpuHour struct {
	id        gpuID
	present   []presence
	owners    []ownership
	unhealthy []span
	away      []span // taken from the driver on purpose: it cannot give rows
	readings  [minutesOfHour]reading
}

// presence is a time in which a node has the GPU. Those of one GPU do not overlap.
type presence struct {
	span
	node  uint64
	model text
}

// ownership is a time in which somebody has the GPU, or in which nobody was found.
type ownership struct {
	span
	owner   owner
	unknown bool // nobody was found, and somebody may have it
}

// nodeHour is what is known of a node in an hour.
type nodeHour struct {
	places []placed
	seen   [minutesOfHour]int64 // of each minute the milliseconds in which some GPU gave rows
}

// placed is a place and the time for which a node is there. Those of a node lie one behind the other, without gaps.
type placed struct {
	span
	place  place
	prices []priced
}

// priced is a time with one price, or none. Those of a place lie one behind the other, without gaps.
type priced struct {
	span
	price price
}

// divide gives every millisecond in which a node has the GPU to a key and a state.
func (g *gpuHour) divide(nodes map[nodeID]*nodeHour, add func(key, amounts)) {
	for _, p := range g.present {
		id := nodeID{g.id.tenant, g.id.residency, p.node}
		node := nodes[id]
		if node == nil {
			node = &nodeHour{}
		}
		c := newCuts(p.span)
		for _, at := range node.places {
			c.add(at.span)
			for _, of := range at.prices {
				c.add(of.span)
			}
		}
		for _, o := range g.owners {
			c.add(o.span)
		}
		c.add(g.unhealthy...)
		c.add(g.away...)
		for _, piece := range c.pieces() {
			g.piece(piece, key{node: id, model: p.model}, node, add)
		}
	}
}

// piece divides a time in which nothing changes but what the GPU does.
func (g *gpuHour) piece(of span, k key, node *nodeHour, add func(key, amounts)) {
	k.place, k.price = node.at(of.from)
	owners, unknown := g.ownersAt(of.from)
	a := g.states(of, node, len(owners) > 0, unknown)
	k.split = splitWhole
	if len(owners) == 0 {
		k.owner = nobody
		add(k, a)
		return
	}
	if len(owners) > 1 {
		k.split = splitEqual
	}
	for i, o := range owners {
		k.owner = o
		add(k, a.share(int64(i), int64(len(owners))))
	}
}

// at is where the node is at a moment, and what a GPU costs there.
func (n *nodeHour) at(moment int64) (place, price) {
	for _, p := range n.places {
		if !p.has(moment) {
			continue
		}
		for _, of := range p.prices {
			if of.has(moment) {
				return p.place, of.price
			}
		}
		return p.place, price{}
	}
	return place{}, price{}
}

// ownersAt are those who have the GPU at a moment, and whether somebody may who was not found.
func (g *gpuHour) ownersAt(moment int64) (owners []owner, unknown bool) {
	asked := false
	for _, o := range g.owners {
		if !o.has(moment) {
			continue
		}
		asked = true
		if o.owner.kind == nobody.kind {
			unknown = unknown || o.unknown
			continue
		}
		owners = append(owners, o.owner)
	}
	return owners, unknown || !asked
}

// states divides a time among the states, minute by minute: within a minute, what the GPU did is spread evenly.
func (g *gpuHour) states(of span, node *nodeHour, owned, unknown bool) (sum amounts) {
	ill, away := anyHas(g.unhealthy, of.from), anyHas(g.away, of.from)
	start := floor(of.from, hour)
	for at := of.from; at < of.to; {
		m := (at - start) / minute
		begin := start + m*minute
		until := min(of.to, begin+minute)
		r := g.readings[m]
		from, to := at-begin, until-begin
		seenFrom, seenTo := upTo(r.seen, from, minute), upTo(r.seen, to, minute)
		a := amounts{energy: r.energy, millijoule: part(r.millijoule, from, to, minute)}
		d := division{length: to - from, seen: seenTo - seenFrom, busy: part(r.busy, seenFrom, seenTo, r.seen), measured: r.measured}
		if !away {
			d.others = part(node.seen[m], from, to, minute)
		}
		switch {
		case ill:
			d.ill(&a)
		case owned:
			d.owned(&a)
		default:
			d.free(&a, unknown)
		}
		sum.add(a)
		at = until
	}
	return sum
}

// division is a time within a minute, and how much of it the GPU gave rows and was busy, and other GPUs of its node gave rows.
type division struct {
	length, seen, busy, others int64
	measured                   bool // it is known whether a kernel ran
}

func (d division) ill(a *amounts) {
	a.of[inventory], a.of[unhealthy], a.of[lost] = d.length, d.length, d.length-d.seen
}

// dark counts the time without rows. While others of the node gave some the GPU was missing; else nothing is known.
func (d division) dark(a *amounts) {
	dark := d.length - d.seen
	a.of[inventory], a.of[undelivered] = d.length, dark
	a.of[missing] = min(dark, max(0, d.others-d.seen))
	a.of[unseen] = dark - a.of[missing]
}

func (d division) owned(a *amounts) {
	d.dark(a)
	a.of[productive], a.of[allocatedIdle] = d.busy, d.seen-d.busy
	if !d.measured {
		a.of[unmeasured] = d.seen
	}
}

func (d division) free(a *amounts, unknown bool) {
	d.dark(a)
	a.of[productive], a.of[unattributed], a.of[unallocated] = d.busy, d.busy, d.seen-d.busy
	if unknown {
		a.of[ownerUnknown] = d.seen - d.busy
	}
}
