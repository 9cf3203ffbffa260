// SPDX-License-Identifier: Apache-2.0

// Package prices reads what providers ask for their machines, from their own feeds or from files, and tells prices
// that can be used from those that cannot. Public feeds are wrong often enough that a price is guilty until it was
// checked: what fails is quarantined with its reasons, and never used.
//
// Money is decimal here as everywhere: no price passes through a float.
package prices

import (
	"cmp"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// Basis is which price it is.
type Basis string

// The bases.
const (
	List       Basis = "list"       // what everybody pays
	Contracted Basis = "contracted" // a private price
	Effective  Basis = "effective"  // amortised, as a bill has it
	Billed     Basis = "billed"     // as invoiced
)

// Life cycles of an instance, as node_inventory has them.
const (
	OnDemand      = "on_demand"
	Spot          = "spot"
	Reserved      = "reserved"
	CapacityBlock = "capacity_block"
	Owned         = "owned"
)

// Quote is one price of one type of instance, from a time on. An empty text is "not told".
type Quote struct {
	Provider     string
	Region       string // "" is every region
	ZoneID       string // "" is every zone of the region
	InstanceType string
	LifeCycle    string
	Basis        Basis
	Currency     string          // ISO 4217
	Hourly       decimal.Decimal // of the whole instance
	HasPrice     bool            // false: the feed has the row, and no price in it
	GPUs         int             // as the feed says; 0 if it does not
	GPU          string          // as the feed spells it; "" if it does not
	ValidFrom    time.Time       // zero: from the time of reading on
	ValidTo      time.Time       // zero: until another price
	Source       string          // of what feed or file
	Line         int             // in it; 0 if it has none
	Problems     []Finding       // what its reader found against it
}

// against notes what speaks against a quote that its reader could not make whole.
func (q *Quote) against(reason Reason, format string, args ...any) {
	q.Problems = append(q.Problems, Finding{reason, fmt.Sprintf(format, args...)})
}

// dated reads from when to when a quote holds.
func (q *Quote) dated(from, to string) {
	var ok bool
	if q.ValidFrom, ok = ParseTime(from); !ok {
		q.against(BadTime, "it begins at %q, which is no time", from)
	}
	if q.ValidTo, ok = ParseTime(to); !ok {
		q.against(BadTime, "it ends at %q, which is no time", to)
	}
}

// Price is a quote that was checked, with what the catalogue knows of the instance.
type Price struct {
	Quote            // ValidFrom is never zero, GPUs is what the catalogue says
	Undated   bool   // the source does not say from when on it holds: ValidFrom is the time of reading
	Model     string // canonical name of the GPU
	PerGPU    decimal.Decimal
	ReadAt    time.Time
	Catalogue int // version
}

// digits is how many digits behind the point a price has, as schema.Decimal: the finest feed, Google's, has nine.
const digits = 9

// newPrice joins a quote with the catalogue's instance.
func newPrice(q Quote, i hardware.Instance, readAt time.Time) Price {
	undated := q.ValidFrom.IsZero()
	if undated {
		q.ValidFrom = readAt
	}
	q.GPUs = i.GPUs
	return Price{
		Quote: q, Undated: undated, Model: i.Model, ReadAt: readAt, Catalogue: hardware.CatalogueVersion,
		PerGPU: q.Hourly.DivRound(decimal.NewFromInt(int64(i.GPUs)), digits),
	}
}

// key is what can have one price at a time.
type key struct {
	provider, region, zone, instance, lifeCycle, currency string
	basis                                                 Basis
}

// moment is a key from a time on, in milliseconds since 1970.
type moment struct {
	key
	from int64
}

func (q Quote) key() key {
	return key{q.Provider, q.Region, q.ZoneID, q.InstanceType, q.LifeCycle, q.Currency, q.Basis}
}

// String says which price it is.
func (q Quote) String() string {
	where := cmp.Or(q.ZoneID, q.Region, "every region")
	return fmt.Sprintf("%s %s in %s, %s, %s", q.Provider, q.InstanceType, where, q.LifeCycle, q.Basis)
}
