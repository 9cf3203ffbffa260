// SPDX-License-Identifier: Apache-2.0

package account

import (
	"cmp"
	"slices"
	"strings"
)

// offer is an interval of fleet_prices.
type offer struct {
	span
	region, zone string // empty: everywhere
	price        price
}

// priceList has the offers by provider and type of machine, the latter in lower case.
type priceList map[[2]string][]offer

// bases are from what is told to everybody to what was paid.
var bases = []string{"list", "contracted", "effective", "billed"} //nolint:gochecknoglobals // a constant list

const onDemand = "on_demand"

// standsIn are the life cycles whose machines are priced as on demand where no price of their own is known: see fleet_rates.
func standsIn(lifeCycle string) bool { return lifeCycle == "reserved" || lifeCycle == "capacity_block" }

// of are the prices of a place, all through a time: at each moment the one that fleet_rates would have chosen then. An
// offer that begins or ends ends or begins another one in that very millisecond.
func (l priceList) of(at place, within span) []priced {
	offers := l.fitting(at)
	c := newCuts(within)
	for _, o := range offers {
		c.add(o.span)
	}
	var all []priced
	for _, piece := range c.pieces() {
		p := priced{span: piece}
		if i := slices.IndexFunc(offers, func(o offer) bool { return o.has(piece.from) }); i >= 0 {
			p.price = offers[i].price
		}
		if n := len(all); n > 0 && all[n-1].price == p.price {
			all[n-1].to = p.to
			continue
		}
		all = append(all, p)
	}
	return all
}

// fitting are the offers that hold at a place, the one to be taken first.
func (l priceList) fitting(at place) []offer {
	if !at.provider.known || !at.instance.known {
		return nil
	}
	lifeCycle := onDemand
	if at.lifeCycle.known {
		lifeCycle = at.lifeCycle.value
	}
	var fit []offer
	for _, o := range l[[2]string{at.provider.value, strings.ToLower(at.instance.value)}] {
		sameRegion := o.region == "" || o.region == at.region.value
		sameZone := o.zone == "" || o.zone == at.zone.value
		as := o.price.lifeCycle
		if sameRegion && sameZone && (as == lifeCycle || as == onDemand && standsIn(lifeCycle)) {
			fit = append(fit, o)
		}
	}
	first := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(fit, func(a, b offer) int {
		return cmp.Or(
			cmp.Compare(first(a.price.lifeCycle == lifeCycle), first(b.price.lifeCycle == lifeCycle)),
			cmp.Compare(slices.Index(bases, b.price.basis), slices.Index(bases, a.price.basis)),
			cmp.Compare(first(a.zone != ""), first(b.zone != "")), cmp.Compare(first(a.region != ""), first(b.region != "")),
			cmp.Compare(a.price.currency, b.price.currency), cmp.Compare(a.price.billionths, b.price.billionths))
	})
	return fit
}
