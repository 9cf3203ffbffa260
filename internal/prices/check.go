// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// Reason is why a price is not used.
type Reason string

// The reasons.
const (
	NoPrice         Reason = "no_price"             // the feed has none, or it is no number
	ZeroPrice       Reason = "zero_price"           // a machine that costs nothing is a hole in the feed
	NegativePrice   Reason = "negative_price"       // nobody pays to be rid of a GPU
	TooFine         Reason = "too_many_digits"      // to store it were to round it
	UnknownInstance Reason = "unknown_instance"     // the catalogue does not have it
	WrongGPUs       Reason = "wrong_gpu_count"      // not as many as the instance has
	WrongModel      Reason = "wrong_gpu_model"      // another GPU than the instance has
	UnknownCurrency Reason = "unknown_currency"     // no ISO 4217 code
	UnknownBasis    Reason = "unknown_basis"        // none of ours
	UnknownLife     Reason = "unknown_life_cycle"   // none of ours
	BelowSpot       Reason = "on_demand_below_spot" // the feed has taken another product's price
	Outlier         Reason = "outlier"              // far from what the provider asks for the same machine elsewhere
	Implausible     Reason = "absurd"               // no GPU-hour has ever cost so little or so much
	Contradiction   Reason = "conflict"             // the feed has two prices for one thing
	BadInterval     Reason = "bad_interval"         // it ends before it begins
	Premature       Reason = "far_ahead"            // it begins more than a year from now
	PartOfGPU       Reason = "part_of_gpu"          // several of these machines share a GPU
	OtherMaker      Reason = "other_maker"          // its GPUs are not NVIDIA's
	NoGPU           Reason = "no_gpu"               // chips for inference, FPGAs
	BadTime         Reason = "bad_time"             // it says when it holds, in a way that cannot be read
	NoZoneID        Reason = "no_zone_id"           // a zone by its name, which means another one in each account
	PartsMissing    Reason = "parts_missing"        // a price that is made of parts, of which the feed lacks some
	Tiered          Reason = "tiered"               // it depends on how much is used
	UnknownUnit     Reason = "unknown_unit"         // neither by the hour nor by GiB and hour
)

// Quarantined is a quote that is not used, and all that speaks against it.
type Quarantined struct {
	Quote   Quote
	Reasons []Finding
}

// Finding is one reason, with the figures.
type Finding struct {
	Reason Reason
	Detail string
}

// Result is what came of a feed.
type Result struct {
	Prices      []Price
	Quarantined []Quarantined
	Duplicates  int // equal to a quote before
}

// Bounds of what is believed, in any of the great currencies, for one GPU and hour.
var (
	leastPerGPU = decimal.RequireFromString("0.02")
	mostPerGPU  = decimal.NewFromInt(150)
)

// An on-demand price that is this far from the median of the provider's regions is not believed. Regions differ
// by up to twice their median (Azure's Brazil South); real errors were at 0.43 and 0.58.
var (
	leastOfMedian = decimal.RequireFromString("0.6")
	mostOfMedian  = decimal.RequireFromString("3")
)

// regionsForMedian is how many regions must have a price before one of them can be far from the others.
const regionsForMedian = 3

// maxAhead is how far in the future a price may begin: providers announce them.
const maxAhead = 366 * 24 * time.Hour

var isoCurrency = regexp.MustCompile(`^[A-Z]{3}$`)

// Check tells the quotes of one feed that can be used from those that cannot. readAt is when the feed was read.
func Check(quotes []Quote, readAt time.Time) Result {
	var r Result
	c := checker{readAt: readAt, findings: make([][]Finding, len(quotes)), instances: make([]hardware.Instance, len(quotes))}
	for i, q := range quotes {
		c.alone(i, q)
	}
	c.against(quotes)
	seen := make(map[moment]bool)
	for i, q := range quotes {
		if len(c.findings[i]) > 0 {
			r.Quarantined = append(r.Quarantined, Quarantined{q, c.findings[i]})
			continue
		}
		price := newPrice(q, c.instances[i], readAt)
		m := moment{q.key(), price.ValidFrom.UnixMilli()}
		if seen[m] { // at another price both were a conflict
			r.Duplicates++
			continue
		}
		seen[m] = true
		r.Prices = append(r.Prices, price)
	}
	return r
}

type checker struct {
	readAt    time.Time
	findings  [][]Finding
	instances []hardware.Instance
}

func (c *checker) found(i int, reason Reason, format string, args ...any) {
	c.findings[i] = append(c.findings[i], Finding{reason, fmt.Sprintf(format, args...)})
}

// alone looks at one quote by itself.
func (c *checker) alone(i int, q Quote) {
	c.findings[i] = append(c.findings[i], q.Problems...)
	instance, ok := machine(q)
	switch {
	case instance.Unusable != "":
		c.found(i, Reason(instance.Unusable), "%s", whyUnusable[instance.Unusable])
		ok = false
	case ok:
	case hardware.Closed(q.Provider):
		c.found(i, UnknownInstance, "%s has no instance type %q in the catalogue (version %d)", q.Provider, q.InstanceType, hardware.CatalogueVersion)
	default:
		c.found(i, UnknownInstance, "the catalogue does not have %q: gpus and gpu must say how many GPUs of which model it has, and say %d of %q", q.Provider, q.GPUs, q.GPU)
	}
	c.instances[i] = instance
	c.amount(i, q, instance, ok)
	if ok && q.GPUs != 0 && q.GPUs != instance.GPUs {
		c.found(i, WrongGPUs, "the feed says %d GPUs, the instance has %d", q.GPUs, instance.GPUs)
	}
	if ok && q.GPU != "" && !slices.ContainsFunc(hardware.FindModels(q.GPU), func(m hardware.Model) bool { return m.Name == instance.Model }) {
		c.found(i, WrongModel, "the feed says %q, the instance has %s", q.GPU, instance.Model)
	}
	if !isoCurrency.MatchString(q.Currency) {
		c.found(i, UnknownCurrency, "%q is no currency code such as USD", q.Currency)
	}
	if !slices.Contains([]Basis{List, Contracted, Effective, Billed}, q.Basis) {
		c.found(i, UnknownBasis, "%q: want list, contracted, effective or billed", q.Basis)
	}
	if !slices.Contains([]string{OnDemand, Spot, Reserved, CapacityBlock, Owned}, q.LifeCycle) {
		c.found(i, UnknownLife, "%q: want on_demand, spot, reserved, capacity_block or owned", q.LifeCycle)
	}
	c.interval(i, q)
}

// whyUnusable says in words why the price of a machine says nothing about that of a GPU.
var whyUnusable = map[hardware.Unusable]string{
	hardware.PartOfGPU:  "several of these machines share a GPU",
	hardware.OtherMaker: "its GPUs are not NVIDIA's, and no agent reads them",
	hardware.NoGPU:      "it has no GPU",
}

// machine is what the catalogue knows of the machine; of a provider whose machines it does not all have, what the
// source says itself.
func machine(q Quote) (hardware.Instance, bool) {
	instance, ok := hardware.FindInstance(q.Provider, q.InstanceType)
	models := hardware.FindModels(q.GPU)
	if ok || hardware.Closed(q.Provider) || q.Provider == "" || q.InstanceType == "" || q.GPUs <= 0 || q.GPUs > mostGPUs || len(models) != 1 {
		return instance, ok
	}
	return hardware.Instance{Provider: q.Provider, Type: q.InstanceType, Model: models[0].Name, GPUs: q.GPUs, Source: hardware.Source{Name: q.Source}}, true
}

// mostGPUs is more than any machine has, and any rack that is rented as one.
const mostGPUs = 1152

// amount looks at the figure; what is plausible depends on the machine, if that is known.
func (c *checker) amount(i int, q Quote, instance hardware.Instance, known bool) {
	switch {
	case !q.HasPrice && len(q.Problems) > 0: // which say why
	case !q.HasPrice:
		c.found(i, NoPrice, "there is no price in the row")
	case q.Hourly.IsZero():
		c.found(i, ZeroPrice, "a price of 0")
	case q.Hourly.IsNegative():
		c.found(i, NegativePrice, "a price of %s", q.Hourly)
	case -q.Hourly.Exponent() > digits && !q.Hourly.Equal(q.Hourly.Truncate(digits)):
		c.found(i, TooFine, "a price of %s: money has %d digits behind the point here", q.Hourly, digits)
	case known:
		c.plausible(i, q, instance)
	}
}

func (c *checker) plausible(i int, q Quote, instance hardware.Instance) {
	perGPU := q.Hourly.DivRound(decimal.NewFromInt(int64(instance.GPUs)), digits)
	if perGPU.LessThan(leastPerGPU) || perGPU.GreaterThan(mostPerGPU) {
		c.found(i, Implausible, "%s %s for a GPU and hour: believed is %s to %s", perGPU, q.Currency, leastPerGPU, mostPerGPU)
	}
}

func (c *checker) interval(i int, q Quote) {
	if !q.ValidTo.IsZero() && !q.ValidTo.After(cmp.Or(q.ValidFrom, c.readAt)) {
		c.found(i, BadInterval, "it ends at %s and begins at %s", q.ValidTo.UTC().Format(time.RFC3339), q.ValidFrom.UTC().Format(time.RFC3339))
	}
	if q.ValidFrom.Sub(c.readAt) > maxAhead {
		c.found(i, Premature, "it begins at %s, more than a year from now", q.ValidFrom.UTC().Format(time.RFC3339))
	}
}

// against looks at quotes beside each other. Those that were found wrong by themselves are no measure for others.
func (c *checker) against(quotes []Quote) {
	good := make([]int, 0, len(quotes))
	for i := range quotes {
		if len(c.findings[i]) == 0 {
			good = append(good, i)
		}
	}
	c.conflicts(quotes, good)
	c.outliers(quotes, good)
	c.belowSpot(quotes, good)
}

// from is when a price begins, in milliseconds since 1970: at the time of reading, if the feed does not tell.
func (c *checker) from(q Quote) int64 {
	return cmp.Or(q.ValidFrom, c.readAt).UnixMilli()
}

// conflicts finds two prices of one thing at one time: neither is believed.
func (c *checker) conflicts(quotes []Quote, good []int) {
	first := make(map[moment]int)
	for _, i := range good {
		m := moment{quotes[i].key(), c.from(quotes[i])}
		at, ok := first[m]
		if !ok {
			first[m] = i
			continue
		}
		if quotes[at].Hourly.Equal(quotes[i].Hourly) {
			continue
		}
		c.found(i, Contradiction, "line %d has %s %s for it", quotes[at].Line, quotes[at].Hourly, quotes[at].Currency)
		if len(c.findings[at]) == 0 {
			c.found(at, Contradiction, "line %d has %s %s for it", quotes[i].Line, quotes[i].Hourly, quotes[i].Currency)
		}
	}
}

// outliers compares the on-demand list prices of an instance in all regions of its provider.
func (c *checker) outliers(quotes []Quote, good []int) {
	type group struct{ provider, instance, currency string }
	regions := make(map[group][]int)
	for _, i := range good {
		if q := quotes[i]; q.LifeCycle == OnDemand && q.Basis == List && q.Region != "" {
			g := group{q.Provider, q.InstanceType, q.Currency}
			regions[g] = append(regions[g], i)
		}
	}
	for _, members := range regions {
		if len(members) < regionsForMedian {
			continue
		}
		middle := median(quotes, members)
		for _, i := range members {
			ratio := quotes[i].Hourly.DivRound(middle, 3)
			if ratio.LessThan(leastOfMedian) || ratio.GreaterThan(mostOfMedian) {
				c.found(i, Outlier, "%s times the median of %d regions, %s %s", ratio, len(members), middle, quotes[i].Currency)
			}
		}
	}
}

// median is the middle price; of an even number the lower of the two in the middle.
func median(quotes []Quote, members []int) decimal.Decimal {
	sorted := make([]decimal.Decimal, len(members))
	for n, i := range members {
		sorted[n] = quotes[i].Hourly
	}
	slices.SortFunc(sorted, decimal.Decimal.Cmp)
	return sorted[(len(sorted)-1)/2]
}

// belowSpot finds on-demand prices that are below the lowest spot price of the same machine and region: the feed has
// taken another product's. Equal is right: it is the ceiling of spot.
func (c *checker) belowSpot(quotes []Quote, good []int) {
	type group struct{ provider, region, instance, currency string }
	lowest := make(map[group]decimal.Decimal)
	for _, i := range good {
		q := quotes[i]
		g := group{q.Provider, q.Region, q.InstanceType, q.Currency}
		if before, ok := lowest[g]; q.LifeCycle == Spot && (!ok || q.Hourly.LessThan(before)) {
			lowest[g] = q.Hourly
		}
	}
	for _, i := range good {
		q := quotes[i]
		spot, ok := lowest[group{q.Provider, q.Region, q.InstanceType, q.Currency}]
		if ok && q.LifeCycle == OnDemand && q.Basis == List && q.Hourly.LessThan(spot) {
			c.found(i, BelowSpot, "spot costs at least %s %s there", spot, q.Currency)
		}
	}
}
