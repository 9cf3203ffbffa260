// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/internal/prices"
	"github.com/gpufleet/gpufleet/schema/hardware"
)

// machineForms tell by a provider's names of resources that one is a machine.
var machineForms = map[string]*regexp.Regexp{
	hardware.AWS:    regexp.MustCompile(`^(arn:aws[a-z-]*:ec2:.*:instance/)?i-[0-9a-z]+$`),
	hardware.Azure:  regexp.MustCompile(`(?i)/virtualMachines/[^/]+$`),
	hardware.GCP:    regexp.MustCompile(`(^|/)instances/[^/]+$`),
	hardware.Oracle: regexp.MustCompile(`^ocid1\.instance\.`),
}

var timeUnit = regexp.MustCompile(`(?i)hour|\bhrs?\b|second|minute`)

// machine reads of which machine the row is, and for how many hours of it.
func (c *Charge) machine(r record) {
	id := c.Texts["resource_id"]
	form, known := machineForms[c.Provider]
	switch {
	case id == "", known && !form.MatchString(id), !known && !strings.Contains(strings.ToLower(c.Texts["resource_type"]), "instance"):
		return
	}
	c.InstanceID = strings.ToLower(id[strings.LastIndex(id, "/")+1:])
	c.typeOfMachine(r)
	unit := c.Texts["consumed_unit"] + " " + c.Texts["pricing_unit"]
	if c.Texts["service_category"] != "Compute" || c.Category != "Usage" || !timeUnit.MatchString(unit) {
		return
	}
	c.OfMachine = true
	c.hours()
	if c.InstanceType == "" {
		c.note(UnknownMachine)
	}
	switch zone := c.Texts["zone_name"]; {
	case zone == "":
		c.note(NoZone)
	case zone == c.Texts["region"]:
		c.note(ZoneIsRegion)
	}
}

// typeOfMachine is told by the details of the price, from FOCUS 1.1 on.
func (c *Charge) typeOfMachine(r record) {
	var details map[string]any
	if err := json.Unmarshal([]byte(c.Texts["sku_price_details"]), &details); err != nil {
		details = nil
	}
	told := func(names ...string) string {
		for _, name := range names {
			if text, ok := details[name].(string); ok && text != "" {
				return text
			}
		}
		return r.first(names...)
	}
	instance, ok := hardware.FindInstance(c.Provider, told("InstanceType", "x_InstanceType", "x_SkuInstanceType"))
	if ok && instance.Unusable == "" {
		c.InstanceType, c.GPUs = instance.Type, instance.GPUs
		return
	}
	if n, ok := details["GpuCount"].(float64); ok && n >= 1 && n <= 1024 && n == float64(int(n)) {
		c.GPUs = int(n)
	}
}

// hours counts hours of the machine, or of its GPUs where the provider charges for its parts: there the rows of vCPUs and
// memory are costs of the machine, and no hours of it.
func (c *Charge) hours() {
	hours := c.inHours()
	switch {
	case prices.ByParts(c.Provider):
		if prices.GPUPart(c.Provider, c.Texts["sku_id"], c.Texts["charge_description"]) {
			c.GPUHours = hours
		}
	case hours == nil:
		c.note(UnknownTimeOfUnit)
	default:
		c.MachineHours = hours
	}
}

// inHours is the quantity, if it is one of hours.
func (c *Charge) inHours() *decimal.Decimal {
	for _, kind := range []string{"consumed", "pricing"} {
		switch strings.ToLower(c.Texts[kind+"_unit"]) {
		case "hours", "hour", "1 hour", "hrs", "h":
			if q := c.Amounts[kind+"_quantity"]; q != nil {
				return q
			}
		}
	}
	return nil
}
