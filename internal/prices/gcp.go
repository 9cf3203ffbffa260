// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// gcpSKU is one thing that Google has a price for, in the Cloud Billing Catalog (services/6F81-5844-456A/skus):
//
//	{"skus":[{"skuId":"…","description":"Nvidia H100 80GB GPU running in Americas",
//	  "category":{"resourceFamily":"Compute","resourceGroup":"GPU","usageType":"OnDemand"},"serviceRegions":["us-central1"],
//	  "pricingInfo":[{"effectiveTime":"2026-11-20T00:00:00Z","pricingExpression":{"usageUnit":"h","tieredRates":[
//	    {"startUsageAmount":0,"unitPrice":{"currencyCode":"USD","units":"9","nanos":796550569}}]}}]}],"nextPageToken":""}
//
// There is no price of a machine: it is that of its vCPUs, its GiB and its GPUs, each by the region. Which SKU is meant
// tells nothing but the words of its description.
type gcpSKU struct {
	Description    string    `json:"description"`
	ServiceRegions []string  `json:"serviceRegions"`
	PricingInfo    []gcpInfo `json:"pricingInfo"`
}

// gcpInfo leaves effectiveTime out: it is when the catalogue was asked, and not since when the price holds.
type gcpInfo struct {
	PricingExpression struct {
		UsageUnit   string    `json:"usageUnit"`
		TieredRates []gcpRate `json:"tieredRates"`
	} `json:"pricingExpression"`
}

type gcpRate struct {
	StartUsageAmount json.Number `json:"startUsageAmount"`
	UnitPrice        struct {
		CurrencyCode string      `json:"currencyCode"`
		Units        json.Number `json:"units"` // whole ones, as text
		Nanos        int64       `json:"nanos"` // billionths
	} `json:"unitPrice"`
}

// gcpFamily is what the parts of machines are called whose names begin alike. Spot has other words around the same ones.
// A SKU that says more is another thing: committed use, a calendar's reservation (half the price: this is how wrong prices
// came into public tables), flex start ("DWS"), sole tenancy, a custom machine.
type gcpFamily struct {
	prefix    string
	core, ram string   // "": the price of the GPU has them in it
	gpu       []string // as it was called, and is
}

func gcpFamilies() []gcpFamily {
	const a2Core, a2RAM, a3Core, a3RAM = "A2 Instance Core", "A2 Instance Ram", "A3 Instance Core", "A3 Instance Ram"
	return []gcpFamily{
		{"a2-highgpu-", a2Core, a2RAM, []string{"Nvidia Tesla A100 GPU"}},
		{"a2-megagpu-", a2Core, a2RAM, []string{"Nvidia Tesla A100 GPU"}},
		{"a2-ultragpu-", a2Core, a2RAM, []string{"Nvidia Tesla A100 80GB GPU"}},
		{"a3-highgpu-", a3Core, a3RAM, []string{"Nvidia H100 80GB GPU"}},
		{"a3-edgegpu-", a3Core, a3RAM, []string{"Nvidia H100 80GB GPU"}},
		{"a3-megagpu-", "A3Plus Instance Core", "A3Plus Instance Ram", []string{"Nvidia H100 80GB Plus GPU", "Nvidia H100 80GB Mega GPU"}},
		{"a3-ultragpu-", "A3Ultra Instance Core", "A3Ultra Instance Ram", []string{"H200 141GB GPU", "Nvidia H200 141GB GPU"}},
		{"a4-highgpu-", "", "", []string{"A4 Nvidia B200 (1 gpu slice)"}},
		{"g2-standard-", "G2 Instance Core", "G2 Instance Ram", []string{"Nvidia L4 GPU"}},
		{"g4-standard-", "G4 Instance Core", "G4 Instance Ram", []string{"RTX 6000 96GB"}},
	}
}

// gcpPart is the price of a part: in which region, how rented, in which currency, what it is.
type gcpPart struct{ region, lifeCycle, currency, name string }

// gcpPrice is a part's price, or what is wrong with it. spelled is whose words they were.
type gcpPrice struct {
	hourly   decimal.Decimal // by vCPU, GiB or GPU
	problems []Finding
}

// ReadGCP reads pages of Google's Cloud Billing Catalog, one after the other, and makes prices of machines of it. Disks
// on the machine are priced apart and are not in it.
func ReadGCP(r io.Reader, source string) ([]Quote, error) {
	book := gcpBook{source: source, parts: make(map[gcpPart]gcpPrice), names: make(map[string]bool)}
	for _, f := range gcpFamilies() {
		for _, name := range append([]string{f.core, f.ram}, f.gpu...) {
			book.names[name] = name != ""
		}
	}
	d := json.NewDecoder(r)
	d.UseNumber()
	pages := 0
	for {
		err := eachMember(d, func(name string) error {
			if name != "skus" {
				return skip(d)
			}
			pages++
			return eachElement(d, func() error { return book.read(d) })
		})
		switch {
		case errors.Is(err, io.EOF) && pages > 0:
			return book.quotes(), nil
		case err != nil:
			return nil, fmt.Errorf("read GCP prices from %s: %w", source, err)
		case pages == 0:
			return nil, fmt.Errorf("read GCP prices from %s: it has no skus: is it an answer of the Cloud Billing Catalog?", source)
		}
	}
}

// gcpBook has the prices of parts by region, and no more of the catalogue.
type gcpBook struct {
	source string
	names  map[string]bool
	parts  map[gcpPart]gcpPrice
}

func (b *gcpBook) read(d *json.Decoder) error {
	var sku gcpSKU
	if err := d.Decode(&sku); err != nil {
		return fmt.Errorf("a SKU at byte %d: %w", d.InputOffset(), err)
	}
	name, lifeCycle := gcpName(sku.Description)
	if !b.names[name] || len(sku.PricingInfo) == 0 {
		return nil
	}
	info := sku.PricingInfo[len(sku.PricingInfo)-1] // the latest
	currency, price := info.price()
	for _, region := range sku.ServiceRegions {
		part := gcpPart{region, lifeCycle, currency, name}
		if before, twice := b.parts[part]; twice && !before.hourly.Equal(price.hourly) {
			price.problems = append(slices.Clone(price.problems), Finding{Contradiction, fmt.Sprintf("%q costs %s and %s in %s", name, before.hourly, price.hourly, region)})
		}
		b.parts[part] = price
	}
	return nil
}

// gcpName is the part that a description names, and how it is rented: "" if it is none that machines are made of.
func gcpName(description string) (name, lifeCycle string) {
	name, _, ok := strings.Cut(description, " running in ")
	if !ok {
		return "", ""
	}
	if gpu, spot := strings.CutSuffix(name, " attached to Spot Preemptible VMs"); spot {
		return gpu, Spot
	}
	if part, spot := strings.CutPrefix(name, "Spot Preemptible "); spot {
		return part, Spot
	}
	return name, OnDemand
}

// gibibytePerGigabyte is by what a price for 10⁹ bytes becomes one for 2³⁰.
var gibibytePerGigabyte = decimal.RequireFromString("1.073741824")

// price is what a part costs by the hour.
func (i gcpInfo) price() (currency string, p gcpPrice) {
	rates := i.PricingExpression.TieredRates
	if len(rates) == 0 {
		return "USD", gcpPrice{problems: []Finding{{NoPrice, "a part of the machine has no rate"}}}
	}
	rate := rates[0]
	if start := rate.StartUsageAmount.String(); len(rates) > 1 || start != "" && start != "0" && start != "0.0" {
		p.problems = append(p.problems, Finding{Tiered, fmt.Sprintf("the price of a part has %d steps", len(rates))})
	}
	units, ok := parsePrice(rate.UnitPrice.Units.String())
	if rate.UnitPrice.Units == "" {
		units, ok = decimal.Zero, true
	}
	if !ok {
		p.problems = append(p.problems, Finding{NoPrice, fmt.Sprintf("a part of the machine costs %q, which is no number", rate.UnitPrice.Units)})
	}
	p.hourly = units.Add(decimal.New(rate.UnitPrice.Nanos, -digits))
	switch unit := i.PricingExpression.UsageUnit; unit {
	case "h", "GiBy.h":
	case "GBy.h":
		p.hourly = p.hourly.Mul(gibibytePerGigabyte)
	default:
		p.problems = append(p.problems, Finding{UnknownUnit, fmt.Sprintf("a part of the machine is priced by %q", unit)})
	}
	return rate.UnitPrice.CurrencyCode, p
}

// quotes makes the prices of machines: of each type, in each region that has a price for its GPUs.
func (b *gcpBook) quotes() (quotes []Quote) {
	var places []gcpPart // without a name
	for part := range b.parts {
		part.name = ""
		if !slices.Contains(places, part) {
			places = append(places, part)
		}
	}
	slices.SortFunc(places, func(a, b gcpPart) int {
		return slices.Compare([]string{a.region, a.lifeCycle, a.currency}, []string{b.region, b.lifeCycle, b.currency})
	})
	for _, instance := range hardware.InstancesOf(hardware.GCP) {
		for _, f := range gcpFamilies() {
			if !strings.HasPrefix(instance.Type, f.prefix) {
				continue
			}
			for _, place := range places {
				if q, ok := b.quote(instance, f, place); ok {
					quotes = append(quotes, q)
				}
			}
		}
	}
	return quotes
}

// quote is the price of a machine at a place; false if its GPUs cannot be had there.
func (b *gcpBook) quote(instance hardware.Instance, f gcpFamily, place gcpPart) (Quote, bool) {
	q := Quote{
		Provider: hardware.GCP, Region: place.region, InstanceType: instance.Type, LifeCycle: place.lifeCycle, Basis: List,
		Currency: place.currency, Source: b.source,
	}
	there := false
	add := func(count int, names ...string) {
		for _, name := range names {
			place.name = name
			if price, ok := b.parts[place]; ok {
				q.Hourly = q.Hourly.Add(price.hourly.Mul(decimal.NewFromInt(int64(count))))
				q.Problems = append(q.Problems, price.problems...)
				there = true
				return
			}
		}
		q.against(PartsMissing, "the feed has no price of %q there", names[0])
	}
	add(instance.GPUs, f.gpu...)
	if !there {
		return Quote{}, false
	}
	if f.core != "" {
		add(instance.VCPUs, f.core)
		add(instance.MemoryGibibytes, f.ram)
	}
	q.HasPrice = len(q.Problems) == 0
	q.Hourly = q.Hourly.Round(digits) // of memory that is priced by 10⁹ bytes; all else has no more digits
	return q, true
}

// eachElement calls for each element of the array that comes next; each must read its value.
func eachElement(d *json.Decoder, element func() error) error {
	if err := wantDelim(d, '['); err != nil {
		return err
	}
	for d.More() {
		if err := element(); err != nil {
			return err
		}
	}
	return wantDelim(d, ']')
}

// ByParts tells whether a provider charges for the parts of a machine, and not for the whole.
func ByParts(provider string) bool { return provider == hardware.GCP || provider == hardware.Oracle }

// GPUPart tells whether what a provider charges for, by the number of its part or by its words, is GPUs.
func GPUPart(provider, part, description string) bool {
	switch provider {
	case hardware.Oracle:
		return len(oracleParts[part]) > 0
	case hardware.GCP:
		name, _ := gcpName(description)
		return slices.ContainsFunc(gcpFamilies(), func(f gcpFamily) bool { return slices.Contains(f.gpu, name) })
	default:
		return false
	}
}
