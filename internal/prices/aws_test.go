// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// product is a product of an offer file; changes replace words in it.
func product(sku, instance string, changes ...string) string {
	text := `"` + sku + `":{"sku":"` + sku + `","productFamily":"Compute Instance","attributes":{"instanceType":"` + instance + `","regionCode":"us-east-1",` +
		`"operatingSystem":"Linux","preInstalledSw":"NA","tenancy":"Shared","capacitystatus":"Used","marketoption":"OnDemand","gpu":"8"}}`
	return strings.NewReplacer(changes...).Replace(text)
}

func terms(sku, price string) string {
	return `"` + sku + `":{"` + sku + `.T":{"effectiveDate":"2026-07-01T00:00:00Z","priceDimensions":{"d":{"unit":"Hrs","pricePerUnit":{"USD":"` + price + `"}},` +
		`"q":{"unit":"Quantity","pricePerUnit":{"USD":"1"}}}}}`
}

func offer(products, onDemand string) string {
	return `{"formatVersion":"v1.0","offerCode":"AmazonEC2","more":[{"a":["}"]},1],"products":{` + products +
		`},"terms":{"Reserved":{"A":{"x":[{}]}},"OnDemand":{` + onDemand + `}},"attributesList":{}}`
}

func TestReadAWS(t *testing.T) {
	products := strings.Join([]string{
		product("A", "p5.48xlarge"), product("B", "m5.large"), product("C", "p5.48xlarge", "Linux", "Windows"), product("D", "p5.48xlarge", `"NA"`, `"SQL Web"`),
		product("E", "p5.48xlarge", "Shared", "Dedicated"), product("F", "p5.48xlarge", `"Used"`, `"UnusedCapacityReservation"`),
		product("G", "p5.48xlarge", `"OnDemand"`, `"CapacityBlock"`), product("H", "p4d.24xlarge", `"marketoption":"OnDemand",`, ""),
		`"I":{"productFamily":"Storage","attributes":{"volumeType":"x"}}`,
	}, ",")
	var onDemand []string
	for i, sku := range []string{"A", "B", "C", "D", "E", "F", "G", "I"} {
		onDemand = append(onDemand, terms(sku, fmt.Sprint(55.04+float64(i))))
	}
	onDemand = append(onDemand, terms("H", "0.0000000000"))
	quotes, err := ReadAWS(strings.NewReader(offer(products, strings.Join(onDemand, ","))), "index.json")
	if err != nil || len(quotes) != 2 {
		t.Fatalf("%d quotes, %v: %v", len(quotes), err, quotes)
	}
	r := Check(quotes, readAt)
	if len(r.Prices) != 1 || r.Prices[0].String() != "aws p5.48xlarge in us-east-1, on_demand, list" || r.Prices[0].Hourly.String() != "55.04" ||
		r.Prices[0].Undated || r.Prices[0].ValidFrom.Month() != 7 || outcome(r) != "p4d.24xlarge zero_price" {
		t.Errorf("prices %+v, in quarantine %s", r.Prices, outcome(r))
	}
}

func TestReadAWSErrors(t *testing.T) {
	whole := offer(product("A", "p5.48xlarge"), terms("A", "1"))
	for text, want := range map[string]string{
		"":                            "EOF",
		"[]":                          "where a { was expected",
		`{"a":1}`:                     "it has no products",
		`{"terms":{}}`:                "terms before products",
		whole[:len(whole)/2]:          "unexpected EOF",
		`{"products":{"A":7}}`:        "product A",
		`{"products":{},"terms":[1]}`: "where a { was expected",
		`{"products":{},"terms":{"OnDemand":{"A":`: "EOF",
	} {
		if _, err := ReadAWS(strings.NewReader(text), "index.json"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "index.json") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestReadAWSSpot(t *testing.T) {
	const row = `{"AvailabilityZone":"%s","AvailabilityZoneId":"%s","InstanceType":"p5.48xlarge","ProductDescription":"%s","SpotPrice":"%s","Timestamp":"2026-11-01T10:00:00+00:00"}`
	page := func(rows ...string) string {
		return `{"SpotPriceHistory":[` + strings.Join(rows, ",") + `],"NextToken":""}`
	}
	text := page(fmt.Sprintf(row, "us-east-1a", "use1-az4", "Linux/UNIX", "20.100000"), fmt.Sprintf(row, "us-east-1-atl-2a", "use1-atl2-az1", "Linux/UNIX (Amazon VPC)", "30")) +
		page(fmt.Sprintf(row, "us-east-1a", "use1-az4", "Windows", "40"), fmt.Sprintf(row, "us-east-1b", "", "Linux/UNIX", "21"))
	quotes, err := ReadAWSSpot(strings.NewReader(text), "spot.json")
	if err != nil || len(quotes) != 3 {
		t.Fatalf("%d quotes, %v", len(quotes), err)
	}
	r := Check(quotes, readAt)
	if len(r.Prices) != 2 || r.Prices[0].Region != "us-east-1" || r.Prices[1].Region != "us-east-1" || r.Prices[1].ZoneID != "use1-atl2-az1" || r.Prices[0].ValidFrom.Hour() != 10 {
		t.Errorf("prices %+v", r.Prices)
	}
	if got := outcome(r); got != "p5.48xlarge no_zone_id" {
		t.Errorf("in quarantine %s", got)
	}
	if _, err := ReadAWSSpot(strings.NewReader(text[:50]), "spot.json"); err == nil || !strings.Contains(err.Error(), "spot.json") {
		t.Errorf("got %v", err)
	}
}

// FuzzReadAWS: whatever a file holds, reading it ends, and every price comes with a machine of the catalogue.
func FuzzReadAWS(f *testing.F) {
	f.Add(offer(product("A", "p5.48xlarge"), terms("A", "55.04")))
	f.Add(`{"products":{},"terms":{"OnDemand":{"A":[[[`)
	f.Fuzz(func(t *testing.T, text string) {
		quotes, err := ReadAWS(strings.NewReader(text), "fuzz")
		if err != nil {
			return
		}
		for _, q := range quotes {
			if _, known := hardware.FindInstance(q.Provider, q.InstanceType); !known {
				t.Fatalf("quote %+v", q)
			}
		}
	})
}
