// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"strings"
	"testing"
)

const card = `currency: eur
valid_from: 2026-01-01
machines:
  - name: rack-a
    region: eu-de-1
    gpus: 8
    gpu: NVIDIA H100 80GB HBM3
    purchase: 285000
    residual: 20000
    amortisation_months: 48
    space_per_month: 950
    service_per_month: 1200
    power_kilowatts: 10.2
    power_usage_effectiveness: 1.25
    power_price_per_kilowatt_hour: 0.14
  - {name: paid, provider: lab, gpus: 4, gpu: L40S, space_per_month: 292.2}
`

func TestRateCard(t *testing.T) {
	quotes, err := ReadRateCard(strings.NewReader(card), "racks.yaml", Defaults{Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	r := Check(quotes, readAt)
	if len(r.Prices) != 2 {
		t.Fatalf("prices %+v, in quarantine %s", r.Prices, outcome(r))
	}
	// (285000 - 20000) / (48 × 730.5) + 2150 / 730.5 + 10.2 × 1.25 × 0.14
	a, b := r.Prices[0], r.Prices[1]
	if a.Hourly.String() != "12.28579854" || a.Currency != "EUR" || a.Basis != Effective || a.LifeCycle != Owned || a.Provider != "own" || a.Model != "H100 SXM 80GB" ||
		a.ValidFrom.Format("2006-01-02") != "2026-01-01" || a.Line != 4 || a.GPUs != 8 {
		t.Errorf("price %+v", a)
	}
	if b.Hourly.String() != "0.4" || b.PerGPU.String() != "0.1" || b.Provider != "lab" {
		t.Errorf("price %+v", b)
	}
}

func TestRateCardMistakes(t *testing.T) {
	for change, want := range map[string]string{
		"":                                       "is empty",
		"machines: []":                           "racks.yaml:1: machines: want a list",
		"- a":                                    "the card: want names with values",
		"colour: red\nmachines:\n  - {name: a}":  `racks.yaml:1: "colour"`,
		card + "  - {name: x, gpus: 0, gpu: L4}": "racks.yaml:17: gpus: want how many",
		card + "  - {gpus: 1, gpu: L4}":          "a machine without name",
		card + "  - {name: x, gpus: 1, gpu: L4, purchase: 5}":                           "amortisation_months",
		card + "  - {name: x, gpus: 1, gpu: L4, purchase: -5, amortisation_months: 1}":  `"-5" is no number`,
		card + "  - {name: x, gpus: 1, gpu: L4, purchase: 1e9, amortisation_months: 1}": `"1e9" is no number`,
		card + "  - {name: x, gpus: 1, gpu: L4, residual: 5}":                           "more than the purchase",
		card + "  - {name: x, gpus: 1, gpu: L4, power_kilowatts: 5}":                    "power_price_per_kilowatt_hour",
		card + "  - {name: x, gpus: 1, gpu: L4, power_usage_effectiveness: 0.5}":        "it is 1 or more",
		card + "  - {name: x, name: y, gpus: 1, gpu: L4}":                               "name is there twice",
		card + "  - {name: x, gpus: 1, gpu: L4, price: 5}":                              `"price": want one of`,
		card + "  - {name: [x], gpus: 1, gpu: L4}":                                      "name: want a text",
		strings.Repeat("#", maxRateCardBytes+1):                                         "more than",
	} {
		if _, err := ReadRateCard(strings.NewReader(change), "racks.yaml", Defaults{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "racks.yaml") {
			t.Errorf("%.80q: %v, want %q", change, err, want)
		}
	}
}

// FuzzRateCard: whatever a card holds, reading it ends, and no price comes of it that is below 0.
func FuzzRateCard(f *testing.F) {
	f.Add(card)
	f.Add("machines: [{name: a, gpus: 1, gpu: L4, purchase: 9, amortisation_months: 1}]")
	f.Fuzz(func(t *testing.T, text string) {
		quotes, err := ReadRateCard(strings.NewReader(text), "fuzz", Defaults{Currency: "USD"})
		if err != nil {
			return
		}
		for _, q := range quotes {
			if q.Hourly.IsNegative() || q.GPUs <= 0 {
				t.Fatalf("quote %+v", q)
			}
		}
	})
}
