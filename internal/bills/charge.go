// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/internal/prices"
	"github.com/gpufleet/gpufleet/schema/hardware"
)

// column is one of ours, and where FOCUS has it: the first that is there counts.
type column struct {
	ours  string
	focus []string
}

func texts() []column {
	return []column{
		{"service_provider_name", []string{"ServiceProviderName", "ProviderName"}},
		{"host_provider_name", []string{"HostProviderName"}},
		{"invoice_issuer_name", []string{"InvoiceIssuerName", "InvoiceIssuer"}},
		{"publisher_name", []string{"PublisherName"}},
		{"invoice_id", []string{"InvoiceId"}},
		{"sub_account_id", []string{"SubAccountId"}},
		{"charge_class", []string{"ChargeClass"}},
		{"charge_frequency", []string{"ChargeFrequency"}},
		{"charge_description", []string{"ChargeDescription"}},
		{"pricing_category", []string{"PricingCategory"}},
		{"commitment_discount_id", []string{"CommitmentDiscountId"}},
		{"commitment_discount_category", []string{"CommitmentDiscountCategory"}},
		{"commitment_discount_type", []string{"CommitmentDiscountType"}},
		{"commitment_discount_status", []string{"CommitmentDiscountStatus"}},
		{"capacity_reservation_id", []string{"CapacityReservationId"}},
		{"capacity_reservation_status", []string{"CapacityReservationStatus"}},
		{"contract_applied", []string{"ContractApplied"}},
		{"region", []string{"RegionId", "Region"}},
		{"zone_name", []string{"AvailabilityZone"}},
		{"service_category", []string{"ServiceCategory"}},
		{"service_name", []string{"ServiceName"}},
		{"resource_type", []string{"ResourceType"}},
		{"resource_id", []string{"ResourceId"}},
		{"sku_id", []string{"SkuId"}},
		{"sku_price_id", []string{"SkuPriceId"}},
		{"sku_price_details", []string{"SkuPriceDetails"}},
		{"consumed_unit", []string{"ConsumedUnit"}},
		{"pricing_unit", []string{"PricingUnit"}},
		{"tags", []string{"Tags"}},
	}
}

func amounts() []column {
	return []column{
		{"consumed_quantity", []string{"ConsumedQuantity"}},
		{"pricing_quantity", []string{"PricingQuantity"}},
		{"list_unit_price", []string{"ListUnitPrice"}},
		{"contracted_unit_price", []string{"ContractedUnitPrice"}},
		{"list_cost", []string{"ListCost"}},
		{"contracted_cost", []string{"ContractedCost"}},
		{"effective_cost", []string{"EffectiveCost"}},
		{"billed_cost", []string{"BilledCost"}},
	}
}

// maxText bounds a cell that is stored: tags of some have more.
const maxText = 16 << 10

var isoCurrency = regexp.MustCompile(`^[A-Z]{3}$`)

// newCharge reads a row, whatever it holds.
func newCharge(r record, source string) Charge {
	c := Charge{
		Source: source, Line: r.line, Account: r.text("BillingAccountId"), Currency: strings.ToUpper(r.text("BillingCurrency")), Category: r.text("ChargeCategory"),
		Provider: hardware.Provider(r.first("ServiceProviderName", "ProviderName")), Texts: make(map[string]string), Amounts: make(map[string]*decimal.Decimal),
		fingerprint: r.hash(),
	}
	for _, t := range texts() {
		if text := r.first(t.focus...); text != "" {
			c.Texts[t.ours] = strings.ToValidUTF8(text[:min(len(text), maxText)], "")
		}
	}
	for _, a := range amounts() {
		c.amount(a.ours, r.first(a.focus...))
	}
	if !isoCurrency.MatchString(c.Currency) {
		c.against(UnknownCurrency, "%q is no currency code such as USD", c.Currency)
	}
	if c.Provider == "" {
		c.against(NoProvider, "there is neither a ProviderName nor a ServiceProviderName")
	}
	if c.Account == "" {
		c.note(NoAccount)
	}
	c.periods(r)
	c.costs()
	c.machine(r)
	if r.binary {
		c.note(BinaryFraction)
	}
	return c
}

// Bounds of a number: 20 digits before the point, 18 behind it.
const (
	behind   = 18
	longest  = 60
	mostTens = 20
)

var largest = decimal.New(1, mostTens)

// amount reads a number. Some exports write small ones with an exponent.
func (c *Charge) amount(column, text string) {
	if text == "" {
		return
	}
	value, err := decimal.NewFromString(text)
	switch exponent := value.Exponent(); {
	case err != nil || len(text) > longest || exponent > mostTens || exponent < -longest || value.Abs().GreaterThanOrEqual(largest):
		c.against(BadNumber, "%s is %.80q", column, text)
	case exponent < -behind && !value.Equal(value.Truncate(behind)):
		c.against(TooFine, "%s is %s: there are %d digits behind the point here", column, text, behind)
	default:
		c.Amounts[column] = &value
	}
}

func (c *Charge) periods(r record) {
	sound := c.period(r, "BillingPeriodStart", &c.MonthStart)
	sound = c.period(r, "ChargePeriodStart", &c.From) && sound
	sound = c.period(r, "ChargePeriodEnd", &c.To) && sound
	if r.text("BillingPeriodEnd") == "" {
		c.MonthEnd = c.MonthStart.AddDate(0, 1, 0)
	} else {
		sound = c.period(r, "BillingPeriodEnd", &c.MonthEnd) && sound
	}
	switch {
	case !sound:
	case c.To.Before(c.From) || !c.MonthEnd.After(c.MonthStart):
		c.against(BadPeriod, "it ends before it begins: %s to %s, of a bill of %s to %s", c.From, c.To, c.MonthStart, c.MonthEnd)
	case c.From.Before(c.MonthStart) || c.To.After(c.MonthEnd):
		c.note(OutsideMonth)
	}
}

// period reads a time of years in which clouds charge: what is stored does not reach further.
func (c *Charge) period(r record, column string, at *time.Time) bool {
	text := r.text(column)
	told, ok := prices.ParseTime(text)
	if !ok || told.Year() < 2000 || told.Year() > 2100 {
		c.against(BadPeriod, "%s is %.40q", column, text)
		return false
	}
	*at = told
	return true
}

var categories = []string{"Usage", "Purchase", "Tax", "Credit", "Adjustment"}

// costs chooses what the row costs.
func (c *Charge) costs() {
	effective, billed := c.Amounts["effective_cost"], c.Amounts["billed_cost"]
	commitment := c.Texts["commitment_discount_id"] != ""
	usage := c.Category == "Usage"
	c.Cost = cmp.Or(effective, billed)
	switch {
	case c.Cost == nil && len(c.Reasons) == 0:
		c.against(NoCost, "it has neither an EffectiveCost nor a BilledCost")
	case effective == nil:
		c.note(EffectiveMissing)
	case usage && !commitment && billed != nil && effective.IsZero() && !billed.IsZero():
		c.Cost = billed
		c.note(EffectiveZero)
	}
	c.kind(usage)
}

// kind notes what kind of charge it is.
func (c *Charge) kind(usage bool) {
	if !slices.Contains(categories, c.Category) {
		c.note(UnknownCategory)
	}
	correction := c.Texts["charge_class"] == "Correction"
	switch {
	case correction:
		c.note(Correction)
	case c.Category == "Credit":
		c.note(Credit)
	case usage && c.Cost != nil && c.Cost.IsNegative():
		c.note(NegativeUsage)
	}
	if c.Texts["commitment_discount_status"] == "Unused" || c.Texts["capacity_reservation_status"] == "Unused" {
		c.note(UnusedCommitment)
	}
}
