// SPDX-License-Identifier: Apache-2.0

package account

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
)

// TestColumnsAreThoseOfTheSchema holds the order of the columns of time against that of the table.
func TestColumnsAreThoseOfTheSchema(t *testing.T) {
	want := map[int]string{
		inventory: "inventory", productive: "productive", allocatedIdle: "allocated_idle", busyLost: "busy_lost", unhealthy: "unhealthy", unallocated: "unallocated", undelivered: "undelivered",
		unattributed: "unattributed", unmeasured: "unmeasured", lost: "lost", ownerUnknown: "owner_unknown", unseen: "unseen", missing: "missing", unlisted: "unlisted",
	}
	names := schema.AccountMilliseconds()
	if len(names) != times || len(want) != times {
		t.Fatalf("%d columns in the schema, %d here", len(names), times)
	}
	for i, name := range names {
		if want[i] != name {
			t.Errorf("column %d is %s here, %s in the schema", i, want[i], name)
		}
	}
}

// chance makes GPUs of every kind; unit is what all moments are multiples of.
type chance struct {
	*rand.Rand
	hour span
	unit int64
}

func (c chance) span() span {
	n := c.hour.length() / c.unit
	from := c.Int64N(n)
	return span{c.hour.from + from*c.unit, c.hour.from + (from+1+c.Int64N(n-from))*c.unit}
}

func (c chance) spans(most int) []span {
	var all []span
	for range c.IntN(most + 1) {
		all = append(all, c.span())
	}
	return all
}

// chain cuts the hour into pieces that lie one behind the other.
func (c chance) chain(most int) []span {
	cut := newCuts(c.hour)
	for range c.IntN(most) {
		cut.add(span{c.hour.from, c.span().to})
	}
	return cut.pieces()
}

func (c chance) gpu() (*gpuHour, map[nodeID]*nodeHour) {
	g := &gpuHour{id: gpuID{"acme", "eu", 1}}
	nodes := map[nodeID]*nodeHour{}
	for i, s := range c.chain(3) {
		if c.IntN(4) == 0 {
			continue // not in the inventory
		}
		g.present = append(g.present, presence{s, uint64(i), text{"H100", true}})
		n := &nodeHour{}
		for m := range n.seen {
			n.seen[m] = minute * c.Int64N(2)
		}
		for j, p := range c.chain(3) {
			at := placed{span: p, place: place{name: text{fmt.Sprint(i, j), true}}}
			for k, of := range c.chain(4) {
				at.prices = append(at.prices, priced{of, price{known: k%3 > 0, billionths: int64(k)}})
			}
			n.places = append(n.places, at)
		}
		nodes[nodeID{"acme", "eu", uint64(i)}] = n
	}
	for i, s := range c.spans(4) {
		o := ownership{s, owner{kind: "kubernetes", team: text{strconv.Itoa(i), true}}, false}
		if c.IntN(3) == 0 {
			o.owner, o.unknown = nobody, c.IntN(2) == 0
		}
		g.owners = append(g.owners, o)
	}
	g.unhealthy, g.away = c.spans(2), c.spans(2)
	for m := range g.readings {
		switch c.IntN(3) {
		case 0:
			g.readings[m] = reading{seen: minute, busy: c.Int64N(251) * 240, measured: true}
		case 1:
			g.readings[m] = reading{seen: minute}
		}
	}
	return g, nodes
}

// plain is an account of one second after the other, for moments and loads that are whole in each second.
func plain(g *gpuHour, nodes map[nodeID]*nodeHour, of span) map[key]*amounts {
	all := newAccount(of)
	for now := of.from; now < of.to; now += second {
		for _, p := range g.present {
			if !p.has(now) {
				continue
			}
			id := nodeID{"acme", "eu", p.node}
			k := key{node: id, model: p.model, split: splitWhole, owner: nobody}
			k.place, k.price = nodes[id].at(now)
			m := (now - of.from) / minute
			r := g.readings[m]
			owners, unknown := g.ownersAt(now)
			for i := range max(1, len(owners)) {
				var a amounts
				each := second / int64(max(1, len(owners)))
				a.of[inventory] = each
				busy := r.busy / (minute / each)
				switch {
				case anyHas(g.unhealthy, now):
					a.of[unhealthy] = each
					if r.seen == 0 {
						a.of[lost] = each
					}
				case r.seen == 0:
					a.of[undelivered] = each
					if nodes[id].seen[m] > 0 && !anyHas(g.away, now) {
						a.of[missing] = each
					} else {
						a.of[unseen] = each
					}
				case len(owners) > 0:
					a.of[productive], a.of[allocatedIdle] = busy, each-busy
					if !r.measured {
						a.of[unmeasured] = each
					}
				default:
					a.of[productive], a.of[unattributed], a.of[unallocated] = busy, busy, each-busy
					if unknown {
						a.of[ownerUnknown] = each - busy
					}
				}
				if len(owners) > 0 {
					k.owner = owners[i]
				}
				if len(owners) > 1 {
					k.split = splitEqual
				}
				all.add(k, a)
			}
		}
	}
	return all.rows
}

// TestDivideAgreesWithAPlainAccount compares with an account that goes by the second.
func TestDivideAgreesWithAPlainAccount(t *testing.T) {
	of := span{490_000 * hour, 490_001 * hour}
	c := chance{rand.New(rand.NewPCG(5, 5)), of, second}
	for round := range 300 {
		g, nodes := c.gpu()
		three := false
		for at := of.from; at < of.to; at += second {
			owners, _ := g.ownersAt(at)
			three = three || len(owners) == 3 // a second does not divide by three
		}
		if three {
			continue
		}
		a := newAccount(of)
		g.divide(nodes, a.add)
		want := plain(g, nodes, of)
		if diff := cmp.Diff(values(want), values(a.rows)); diff != "" {
			t.Fatalf("round %d (-plain +divided):\n%s\n%+v", round, diff, g)
		}
	}
}

func values(rows map[key]*amounts) map[string][times]int64 {
	all := make(map[string][times]int64)
	for k, a := range rows {
		all[fmt.Sprint(k)] = a.of
	}
	return all
}

// TestEveryMillisecondHasOneState: wherever the hour is cut, and whatever is known of it.
func TestEveryMillisecondHasOneState(t *testing.T) {
	of := span{490_000 * hour, 490_001 * hour}
	c := chance{rand.New(rand.NewPCG(6, 5)), of, 1}
	for round := range 500 {
		g, nodes := c.gpu()
		for m := range g.readings {
			g.readings[m].seen = c.Int64N(minute + 1)
			g.readings[m].busy = c.Int64N(g.readings[m].seen + 1)
			g.readings[m].millijoule, g.readings[m].energy = c.Int64N(1e6), true
		}
		a := newAccount(of)
		g.divide(nodes, a.add)
		var sum amounts
		for k, row := range a.rows {
			states := int64(0)
			for i := productive; i < firstPart; i++ {
				states += row.of[i]
			}
			for i, n := range row.of {
				if n < 0 {
					t.Fatalf("round %d: %+v: column %d is %d", round, k, i, n)
				}
			}
			if states != row.of[inventory] {
				t.Fatalf("round %d: %+v: the states are %d, the inventory %d", round, k, states, row.of[inventory])
			}
			sum.add(*row)
		}
		want, energy := int64(0), int64(0)
		for _, p := range g.present {
			want += p.length()
			for m := range g.readings {
				begin := of.from + int64(m)*minute
				if s, ok := p.within(span{begin, begin + minute}); ok {
					energy += part(g.readings[m].millijoule, s.from-begin, s.to-begin, minute)
				}
			}
		}
		if sum.of[inventory] != want || sum.millijoule != energy {
			t.Fatalf("round %d: inventory %d and %d mJ, want %d and %d", round, sum.of[inventory], sum.millijoule, want, energy)
		}
		if sum.of[undelivered] != sum.of[unseen]+sum.of[missing]+sum.of[unlisted] {
			t.Fatalf("round %d: the parts of undelivered are not all of it: %v", round, sum.of)
		}
	}
}

// TestReadings: what a minute of the rollups says.
func TestReadings(t *testing.T) {
	whole := reading{seen: minute, busy: 15 * second, measured: true}
	for name, tt := range map[string]struct {
		rows []rolled
		want map[int]reading
	}{
		"none":                       {nil, map[int]reading{}},
		"a minute at 1 Hz":           {[]rolled{{0, 60, 60_003, 60, 15_000, false, -1}}, map[int]reading{0: whole}},
		"lacks a row at its edge":    {[]rolled{{0, 59, 59_001, 59, 14_750, false, -1}}, map[int]reading{0: whole}},
		"half of it":                 {[]rolled{{3, 30, 30_000, 30, 15_000, false, 21}}, map[int]reading{3: {seen: 30_000, busy: 15_000, measured: true, millijoule: 21, energy: true}}},
		"tells of no kernels":        {[]rolled{{3, 60, 60_000, 0, 0, false, -1}}, map[int]reading{3: {seen: minute}}},
		"a gap is no row":            {[]rolled{{3, 60, 200_000, 60, 15_000, false, -1}}, map[int]reading{3: whole}},
		"read once a minute or less": {[]rolled{{3, 1, 110_000, 1, 250, true, -1}}, map[int]reading{2: {seen: 50_000, busy: 12_500, measured: true}, 3: whole}},
		"and in the next hour":       {[]rolled{{60, 1, 110_000, 1, 250, true, -1}}, map[int]reading{59: {seen: 50_000, busy: 12_500, measured: true}}},
		"and silent for long":        {[]rolled{{9, 1, 3_000_000, 1, 250, true, -1}}, map[int]reading{7: {seen: 30_000, busy: 7500, measured: true}, 8: whole, 9: whole}},
	} {
		got := map[int]reading{}
		for m, r := range readingsOf(tt.rows) {
			if r != (reading{}) {
				got[m] = r
			}
		}
		if !maps.Equal(tt.want, got) {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// FuzzPart: the parts of a whole are never negative, and add up to it.
func FuzzPart(f *testing.F) {
	f.Add(int64(12_345), int64(100), int64(59_999), int64(60_000))
	f.Fuzz(func(t *testing.T, whole, a, b, length int64) {
		whole, length = abs(whole)%(1<<40), abs(length)%(1<<22)+1
		a, b = abs(a)%(length+1), abs(b)%(length+1)
		a, b = min(a, b), max(a, b)
		x, y, z := part(whole, 0, a, length), part(whole, a, b, length), part(whole, b, length, length)
		if x < 0 || y < 0 || z < 0 || x+y+z != whole {
			t.Errorf("%d of %d: %d + %d + %d", whole, length, x, y, z)
		}
	})
}

func abs(n int64) int64 {
	if n < 0 {
		return max(0, -(n + 1))
	}
	return n
}
