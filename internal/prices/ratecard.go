// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
	"go.yaml.in/yaml/v3"

	"github.com/gpufleet/gpufleet/schema/yamlfile"
)

// A rate card says what machines of one's own cost: to buy, to house, to run. Money is of the card's currency, and of one
// machine. What is left out is 0, but for what a price cannot do without.
//
//	currency: EUR
//	valid_from: 2026-01-01
//	machines:
//	  - name: rack-a                         # instance type of its nodes (gpufleet-agent --instance-type)
//	    provider: own                        # own is the default
//	    region: eu-de-1                      # none: everywhere
//	    gpus: 8
//	    gpu: NVIDIA H100 80GB HBM3
//	    purchase: 285000
//	    residual: 20000                      # what it is worth after that time
//	    amortisation_months: 48
//	    space_per_month: 950                 # its part of rack, room and lines
//	    service_per_month: 1200              # support, spare parts, hands
//	    power_kilowatts: 10.2                # at the socket
//	    power_usage_effectiveness: 1.25      # 1 is the default
//	    power_price_per_kilowatt_hour: 0.14
type rateCard struct {
	yamlfile.File
	quotes             []Quote
	currency, from, to string
}

// maxRateCardBytes is more than a card of all the world's racks has.
const maxRateCardBytes = 1 << 20

// hoursPerMonth is of the middle month: 365.25 days by 24 hours by 12.
var hoursPerMonth = decimal.RequireFromString("730.5")

// mostOwnDigits bounds a figure of a card.
const mostOwnDigits = 24

// ReadRateCard reads a rate card. Its prices are effective ones: they have the purchase by the hour in them.
func ReadRateCard(r io.Reader, source string, d Defaults) ([]Quote, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxRateCardBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the rate card %s: %w", source, err)
	}
	if len(text) > maxRateCardBytes {
		return nil, fmt.Errorf("read the rate card %s: it has more than %d bytes", source, maxRateCardBytes)
	}
	card := rateCard{File: yamlfile.File{Name: source}, currency: d.Currency}
	if document := card.Document(text); document != nil {
		card.top(document)
	} else if card.Err() == nil {
		card.Wrong(1, "it is empty: want machines, and what they cost")
	}
	if err := card.Err(); err != nil {
		return nil, fmt.Errorf("read the rate card %s: %w", source, err)
	}
	return card.quotes, nil
}

// pairs calls for each key of a mapping; a key that is there twice is a mistake.
func (c *rateCard) pairs(n *yaml.Node, what string, each func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		c.Wrong(max(n.Line, 1), "%s: want names with values", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			c.Wrong(key.Line, "%s is there twice", key.Value)
			continue
		}
		seen[key.Value] = true
		each(key, n.Content[i+1])
	}
}

func (c *rateCard) top(n *yaml.Node) {
	var machines *yaml.Node
	c.pairs(n, "the card", func(key, value *yaml.Node) {
		switch key.Value {
		case "currency":
			c.currency = strings.ToUpper(c.word(key, value))
		case "valid_from":
			c.from = c.word(key, value)
		case "valid_to":
			c.to = c.word(key, value)
		case "machines":
			machines = value
		default:
			c.Wrong(key.Line, "%q: want currency, valid_from, valid_to or machines", key.Value)
		}
	})
	if machines == nil || machines.Kind != yaml.SequenceNode || len(machines.Content) == 0 {
		c.Wrong(max(n.Line, 1), "machines: want a list of machines, and what each costs")
		return
	}
	for _, machine := range machines.Content {
		c.machine(machine)
	}
}

// The figures of a machine.
var (
	cardNumbers = []string{
		"gpus", "purchase", "residual", "amortisation_months", "space_per_month", "service_per_month",
		"power_kilowatts", "power_usage_effectiveness", "power_price_per_kilowatt_hour",
	}
	cardWords = []string{"name", "provider", "region", "zone_id", "gpu"}
)

func (c *rateCard) machine(n *yaml.Node) {
	words, numbers := map[string]string{}, map[string]decimal.Decimal{}
	c.pairs(n, "a machine", func(key, value *yaml.Node) {
		switch {
		case slices.Contains(cardWords, key.Value):
			words[key.Value] = c.word(key, value)
		case slices.Contains(cardNumbers, key.Value):
			numbers[key.Value] = c.number(key, value)
		default:
			c.Wrong(key.Line, "%q: want one of %s, %s", key.Value, strings.Join(cardWords, ", "), strings.Join(cardNumbers, ", "))
		}
	})
	c.needs(n, words, numbers)
	provider := words["provider"]
	if provider == "" {
		provider = "own"
	}
	q := Quote{
		Provider: provider, Region: words["region"], ZoneID: words["zone_id"], InstanceType: words["name"], LifeCycle: Owned, Basis: Effective,
		Currency: c.currency, GPUs: int(numbers["gpus"].IntPart()), GPU: words["gpu"], Source: c.Name, Line: n.Line,
		Hourly: ownHourly(numbers), HasPrice: true,
	}
	q.dated(c.from, c.to)
	c.quotes = append(c.quotes, q)
}

// needs says what a machine lacks for a price.
func (c *rateCard) needs(n *yaml.Node, words map[string]string, numbers map[string]decimal.Decimal) {
	for _, word := range []string{"name", "gpu"} {
		if words[word] == "" {
			c.Wrong(max(n.Line, 1), "a machine without %s", word)
		}
	}
	if gpus := numbers["gpus"]; !gpus.IsInteger() || !gpus.IsPositive() || gpus.GreaterThan(decimal.NewFromInt(mostGPUs)) {
		c.Wrong(max(n.Line, 1), "gpus: want how many GPUs the machine has, up to %d", mostGPUs)
	}
	months := numbers["amortisation_months"]
	if !numbers["purchase"].IsZero() && (!months.IsInteger() || !months.IsPositive()) {
		c.Wrong(max(n.Line, 1), "amortisation_months: want over how many months the purchase is paid off")
	}
	if numbers["residual"].GreaterThan(numbers["purchase"]) {
		c.Wrong(max(n.Line, 1), "residual: it is more than the purchase")
	}
	if effectiveness, told := numbers["power_usage_effectiveness"]; told && effectiveness.LessThan(decimal.NewFromInt(1)) {
		c.Wrong(max(n.Line, 1), "power_usage_effectiveness: it is 1 or more")
	}
	if numbers["power_kilowatts"].IsPositive() && !numbers["power_price_per_kilowatt_hour"].IsPositive() {
		c.Wrong(max(n.Line, 1), "power_price_per_kilowatt_hour: want what the power costs")
	}
}

// ownHourly is what a machine costs by the hour: what it loses in worth, its monthly costs, its power. It is rounded once.
func ownHourly(n map[string]decimal.Decimal) decimal.Decimal {
	one := decimal.NewFromInt(1)
	months := decimal.Max(n["amortisation_months"], one)
	effectiveness := decimal.Max(n["power_usage_effectiveness"], one)
	perMonth := n["space_per_month"].Add(n["service_per_month"])
	power := n["power_kilowatts"].Mul(effectiveness).Mul(n["power_price_per_kilowatt_hour"])
	divisor := months.Mul(hoursPerMonth)
	dividend := n["purchase"].Sub(n["residual"]).Add(perMonth.Mul(months)).Add(power.Mul(divisor))
	return dividend.DivRound(divisor, digits)
}

func (c *rateCard) word(key, value *yaml.Node) string {
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" || len(value.Value) > maxRowBytes {
		c.Wrong(value.Line, "%s: want a text", key.Value)
		return ""
	}
	return strings.TrimSpace(value.Value)
}

func (c *rateCard) number(key, value *yaml.Node) decimal.Decimal {
	n, ok := parsePrice(value.Value)
	if value.Kind != yaml.ScalarNode || !ok || n.IsNegative() || len(value.Value) > mostOwnDigits {
		c.Wrong(value.Line, "%s: %q is no number from 0 up", key.Value, value.Value)
		return decimal.Decimal{}
	}
	return n
}
