// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// azurePage is one page of the Azure Retail Prices API:
//
//	{"Items":[{"armSkuName":"Standard_ND96isr_H100_v5","armRegionName":"eastus","retailPrice":98.32,
//	  "unitOfMeasure":"1 Hour","type":"Consumption","skuName":"ND96isr H100 v5 Spot","productName":"… Linux", …}],
//	 "NextPageLink":"https://prices.azure.com/…"}
type azurePage struct {
	Items []azureItem `json:"Items"`
}

type azureItem struct {
	CurrencyCode       string      `json:"currencyCode"`
	TierMinimumUnits   json.Number `json:"tierMinimumUnits"`
	RetailPrice        json.Number `json:"retailPrice"`
	ArmRegionName      string      `json:"armRegionName"`
	EffectiveStartDate string      `json:"effectiveStartDate"`
	EffectiveEndDate   string      `json:"effectiveEndDate"`
	SkuName            string      `json:"skuName"`
	MeterName          string      `json:"meterName"`
	ProductName        string      `json:"productName"`
	UnitOfMeasure      string      `json:"unitOfMeasure"`
	Type               string      `json:"type"`
	ArmSkuName         string      `json:"armSkuName"`
	ReservationTerm    string      `json:"reservationTerm"`
}

// ReadAzure reads pages of the Azure Retail Prices API, one after the other. Windows, reservations' totals and what is not by the hour are left out.
func ReadAzure(r io.Reader, source string) (quotes []Quote, err error) {
	pages := json.NewDecoder(r)
	pages.UseNumber()
	for {
		var page azurePage
		if err := pages.Decode(&page); errors.Is(err, io.EOF) {
			return quotes, nil
		} else if err != nil {
			return nil, fmt.Errorf("read Azure prices from %s: %w", source, err)
		}
		for _, item := range page.Items {
			if q, ok := item.quote(source); ok {
				quotes = append(quotes, q)
			}
		}
	}
}

// quote is false for items that are no hourly price of a Linux machine.
func (i azureItem) quote(source string) (Quote, bool) {
	if i.ArmSkuName == "" || i.UnitOfMeasure != "1 Hour" || i.Type != "Consumption" || strings.Contains(i.ProductName, "Windows") ||
		strings.Contains(i.ProductName, "Dedicated Host") || strings.Contains(i.ProductName, "CloudServices") {
		return Quote{}, false
	}
	if units := i.TierMinimumUnits.String(); units != "" && units != "0" && units != "0.0" { // a rebate on many
		return Quote{}, false
	}
	q := Quote{
		Provider: hardware.Azure, Region: i.ArmRegionName, InstanceType: i.ArmSkuName, LifeCycle: OnDemand, Basis: List,
		Currency: i.CurrencyCode, Source: source,
	}
	switch said := i.SkuName + " " + i.MeterName; { // nothing else tells
	case strings.Contains(said, "Low Priority"): // the forerunner of spot, for batches alone
		return Quote{}, false
	case strings.Contains(said, "Spot"):
		q.LifeCycle = Spot
	}
	q.Hourly, q.HasPrice = parsePrice(i.RetailPrice.String())
	q.dated(i.EffectiveStartDate, i.EffectiveEndDate)
	return q, true
}
