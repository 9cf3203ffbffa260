// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// oracleList is the answer of the OCI price list: parts, each with a price by unit.
//
//	{"items":[{"partNumber":"B98415","displayName":"… GPU - H100","metricName":"GPU Per Hour",
//	  "currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":10}]}]}]}
type oracleList struct {
	Items []struct {
		PartNumber string `json:"partNumber"`
		MetricName string `json:"metricName"`
		Currencies []struct {
			Code   string `json:"currencyCode"`
			Prices []struct {
				Model string      `json:"model"`
				Value json.Number `json:"value"`
			} `json:"prices"`
		} `json:"currencyCodeLocalizations"`
	} `json:"items"`
}

// oracleParts says which part a shape's GPUs are billed as (from OpenCost's table of part numbers, 2024).
var oracleParts = map[string][]string{
	"B88517":  {"BM.GPU2.2"},
	"B88518":  {"VM.GPU2.1"},
	"B89734":  {"BM.GPU3.8", "VM.GPU3.1", "VM.GPU3.2", "VM.GPU3.4"},
	"B92740":  {"BM.GPU4.8"},
	"B95907":  {"BM.GPU.A100-v2.8"},
	"B95909":  {"BM.GPU.A10.4", "VM.GPU.A10.1", "VM.GPU.A10.2"},
	"B98415":  {"BM.GPU.H100.8"},
	"B109479": {"BM.GPU.L40S.4"},
}

const oracleMetric = "GPU Per Hour"

// ReadOracle reads the OCI price list. Its prices are by GPU and the same in every region: what is there is a list
// price, and does not say where the shape can be had. A GPU part whose shape is not known is
// a machine that the catalogue does not have.
func ReadOracle(r io.Reader, source string) (quotes []Quote, err error) {
	var list oracleList
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("read OCI prices from %s: %w", source, err)
	}
	for line, item := range list.Items {
		if item.MetricName != oracleMetric {
			continue
		}
		shapes := oracleParts[item.PartNumber]
		if len(shapes) == 0 { // listed by its number, so that it is not lost
			shapes = []string{"part " + item.PartNumber}
		}
		for _, currency := range item.Currencies {
			for _, price := range currency.Prices {
				if price.Model != "PAY_AS_YOU_GO" {
					continue
				}
				perGPU, ok := parsePrice(price.Value.String())
				for _, shape := range shapes {
					quotes = append(quotes, oracleQuote(shape, perGPU, ok, currency.Code, source, line+1))
				}
			}
		}
	}
	return quotes, nil
}

func oracleQuote(shape string, perGPU decimal.Decimal, ok bool, currency, source string, item int) Quote {
	q := Quote{
		Provider: hardware.Oracle, InstanceType: shape, LifeCycle: OnDemand, Basis: List, Currency: currency, HasPrice: ok, Source: source, Line: item,
	}
	q.Hourly = perGPU // of a shape that is not known, which is not used
	if i, known := hardware.FindInstance(hardware.Oracle, shape); known {
		q.Hourly = perGPU.Mul(decimal.NewFromInt(int64(i.GPUs)))
	}
	return q
}
