// SPDX-License-Identifier: Apache-2.0

package account

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// account is an hour's account while it is made.
type account struct {
	of   span
	rows map[key]*amounts
	had  map[nodeID][]span // when a node had GPUs: a span for each of them
}

func newAccount(of span) *account {
	return &account{of: of, rows: make(map[key]*amounts), had: make(map[nodeID][]span)}
}

func (a *account) add(k key, of amounts) {
	row := a.rows[k]
	if row == nil {
		row = &amounts{}
		a.rows[k] = row
	}
	row.add(of)
}

// take divides the hour of a GPU.
func (a *account) take(g *gpuHour, nodes map[nodeID]*nodeHour) {
	for _, p := range g.present {
		id := nodeID{g.id.tenant, g.id.residency, p.node}
		a.had[id] = append(a.had[id], p.span)
	}
	g.divide(nodes, a.add)
}

// takeUnlisted adds the GPUs that a machine has by the catalogue and that no driver ever listed: they are paid for, too. While
// a node has no GPU at all it is not known to be there.
func (a *account) takeUnlisted(nodes map[nodeID]*nodeHour, catalogue map[[2]string]int64) {
	for id, had := range a.had {
		node := nodes[id]
		if node == nil {
			continue
		}
		c := newCuts(a.of)
		c.add(had...)
		for _, p := range node.places {
			c.add(p.span)
			for _, of := range p.prices {
				c.add(of.span)
			}
		}
		for _, piece := range c.pieces() {
			n := int64(0)
			for _, s := range had {
				if s.has(piece.from) {
					n++
				}
			}
			at, cost := node.at(piece.from)
			want := catalogue[[2]string{at.provider.value, strings.ToLower(at.instance.value)}]
			if n == 0 || n >= want {
				continue
			}
			all := (want - n) * piece.length()
			var of amounts
			of.of[inventory], of.of[undelivered], of.of[unlisted] = all, all, all
			a.add(key{node: id, place: at, owner: nobody, split: splitWhole, price: cost}, of)
		}
	}
}

// catalogueGPUs are how many GPUs each type of machine has.
func catalogueGPUs() map[[2]string]int64 {
	all := make(map[[2]string]int64)
	for _, i := range hardware.Instances() {
		all[[2]string{i.Provider, strings.ToLower(i.Type)}] = int64(i.GPUs)
	}
	return all
}

// row is a row of account_hours.
type row struct {
	key
	amounts
}

// sorted are the rows in an order that does not depend on how they were made.
func (a *account) sorted() []row {
	rows := make([]row, 0, len(a.rows))
	for k, of := range a.rows {
		rows = append(rows, row{k, *of})
	}
	slices.SortFunc(rows, func(x, y row) int { return x.compare(y.key) })
	return rows
}

func (k key) compare(o key) int {
	return cmp.Or(
		cmp.Compare(k.node.node, o.node.node), cmp.Compare(k.node.tenant, o.node.tenant), cmp.Compare(k.node.residency, o.node.residency),
		k.place.compare(o.place), k.model.compare(o.model), k.owner.compare(o.owner), cmp.Compare(k.split, o.split), k.price.compare(o.price))
}

func (t text) compare(o text) int {
	if t.known != o.known {
		if t.known {
			return 1
		}
		return -1
	}
	return cmp.Compare(t.value, o.value)
}

func (p place) compare(o place) int {
	return cmp.Or(p.name.compare(o.name), p.provider.compare(o.provider), p.region.compare(o.region), p.zone.compare(o.zone),
		p.instance.compare(o.instance), p.lifeCycle.compare(o.lifeCycle), p.cluster.compare(o.cluster))
}

func (p owner) compare(o owner) int {
	return cmp.Or(cmp.Compare(p.kind, o.kind), p.team.compare(o.team), p.deployment.compare(o.deployment), p.account.compare(o.account), p.model.compare(o.model))
}

func (p price) compare(o price) int {
	return cmp.Or(cmp.Compare(p.billionths, o.billionths), cmp.Compare(p.currency, o.currency), cmp.Compare(p.basis, o.basis),
		cmp.Compare(p.lifeCycle, o.lifeCycle), cmp.Compare(p.validFrom, o.validFrom), cmp.Compare(p.readAt, o.readAt))
}
