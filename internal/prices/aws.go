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

// awsProduct is a product of the AWS price list in bulk. The file of a region has hundreds of thousands of them, in
// some hundred MB: it is read as a stream, and what has no GPU of the catalogue is dropped at once.
//
//	{ "products": { "SKU": { "attributes": { "instanceType": "p5.48xlarge", "regionCode": "us-east-1", … } }, … },
//	  "terms": { "OnDemand": { "SKU": { "SKU.JRTCKXETXF": { "effectiveDate": "2026-07-01T00:00:00Z", "priceDimensions":
//	    { "….6YS6EN2CT7": { "unit": "Hrs", "pricePerUnit": { "USD": "55.0400000000" } } } } } }, "Reserved": { … } } }
type awsProduct struct {
	Attributes struct {
		InstanceType    string `json:"instanceType"`
		RegionCode      string `json:"regionCode"`
		OperatingSystem string `json:"operatingSystem"`
		PreInstalled    string `json:"preInstalledSw"`
		Tenancy         string `json:"tenancy"`
		CapacityStatus  string `json:"capacitystatus"`
		GPU             string `json:"gpu"`
		MarketOption    string `json:"marketoption"`
	} `json:"attributes"`
}

// wanted tells whether it is a whole Linux machine, alone on its price, with GPUs that the catalogue knows.
func (p awsProduct) wanted() bool {
	a := p.Attributes
	_, known := hardware.FindInstance(hardware.AWS, a.InstanceType)
	return known && a.OperatingSystem == "Linux" && a.PreInstalled == "NA" && a.Tenancy == "Shared" && a.CapacityStatus == "Used" &&
		(a.MarketOption == "" || a.MarketOption == "OnDemand")
}

type awsTerm struct {
	EffectiveDate   string `json:"effectiveDate"`
	PriceDimensions map[string]struct {
		Unit         string            `json:"unit"`
		PricePerUnit map[string]string `json:"pricePerUnit"`
	} `json:"priceDimensions"`
}

// errOrder says that the file has its prices before what they are for, which AWS has never done.
var errOrder = errors.New("it has terms before products: is it an offer file of AmazonEC2?")

// ReadAWS reads an offer file of AmazonEC2 (offers/v1.0/aws/AmazonEC2/current/REGION/index.json): on-demand prices of
// Linux machines with GPUs. It holds in memory what has GPUs, and no more.
func ReadAWS(r io.Reader, source string) ([]Quote, error) {
	file := awsFile{source: source, wanted: make(map[string]awsProduct)}
	d := json.NewDecoder(r)
	err := eachMember(d, func(name string) error {
		switch name {
		case "products":
			file.hasProducts = true
			return eachMember(d, func(sku string) error { return file.product(d, sku) })
		case "terms":
			if !file.hasProducts {
				return errOrder
			}
			return eachMember(d, func(kind string) error {
				if kind != "OnDemand" {
					return skip(d)
				}
				return eachMember(d, func(sku string) error { return file.terms(d, sku) })
			})
		default:
			return skip(d)
		}
	})
	if err == nil && !file.hasProducts {
		err = errors.New("it has no products: is it an offer file of AmazonEC2?")
	}
	if err != nil {
		return nil, fmt.Errorf("read AWS prices from %s: %w", source, err)
	}
	return file.quotes, nil
}

type awsFile struct {
	source      string
	hasProducts bool
	wanted      map[string]awsProduct // by SKU
	quotes      []Quote
}

func (f *awsFile) product(d *json.Decoder, sku string) error {
	var p awsProduct
	if err := d.Decode(&p); err != nil {
		return fmt.Errorf("product %s: %w", sku, err)
	}
	if p.wanted() {
		f.wanted[strings.Clone(sku)] = p
	}
	return nil
}

func (f *awsFile) terms(d *json.Decoder, sku string) error {
	product, wanted := f.wanted[sku]
	if !wanted {
		return skip(d)
	}
	var terms map[string]awsTerm
	if err := d.Decode(&terms); err != nil {
		return fmt.Errorf("terms of %s: %w", sku, err)
	}
	for _, term := range terms {
		for _, dimension := range term.PriceDimensions {
			if dimension.Unit != "Hrs" {
				continue
			}
			for currency, amount := range dimension.PricePerUnit {
				f.quotes = append(f.quotes, product.quote(currency, amount, term.EffectiveDate, f.source))
			}
		}
	}
	return nil
}

func (p awsProduct) quote(currency, amount, from, source string) Quote {
	q := Quote{
		Provider: hardware.AWS, Region: p.Attributes.RegionCode, InstanceType: p.Attributes.InstanceType, LifeCycle: OnDemand, Basis: List,
		Currency: currency, Source: source,
	}
	q.Hourly, q.HasPrice = parsePrice(amount)
	q.dated(from, "")
	return q
}

// eachMember calls for each member of the object that comes next; each must read its value.
func eachMember(d *json.Decoder, member func(name string) error) error {
	if err := wantDelim(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		text, _ := name.(string) // the decoder takes nothing else there
		if err := member(text); err != nil {
			return err
		}
	}
	return wantDelim(d, '}')
}

func wantDelim(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("at byte %d: %v where a %v was expected", d.InputOffset(), token, want)
	}
	return nil
}

// skip reads over the value that comes next, without keeping it.
func skip(d *json.Decoder) error {
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// awsSpot is what `aws ec2 describe-spot-price-history --output json` prints, one answer after the other.
type awsSpot struct {
	SpotPriceHistory []struct {
		AvailabilityZone   string `json:"AvailabilityZone"`
		AvailabilityZoneID string `json:"AvailabilityZoneId"`
		InstanceType       string `json:"InstanceType"`
		ProductDescription string `json:"ProductDescription"`
		SpotPrice          string `json:"SpotPrice"`
		Timestamp          string `json:"Timestamp"`
	} `json:"SpotPriceHistory"`
}

// ReadAWSSpot reads AWS's history of spot prices: of Linux, by zone. A zone is known by its id, since names differ from
// account to account; where the answer has the name alone the price is not used.
func ReadAWSSpot(r io.Reader, source string) ([]Quote, error) {
	var quotes []Quote
	d := json.NewDecoder(r)
	for line := 0; ; {
		var page awsSpot
		if err := d.Decode(&page); errors.Is(err, io.EOF) {
			return quotes, nil
		} else if err != nil {
			return nil, fmt.Errorf("read AWS spot prices from %s: %w", source, err)
		}
		for _, p := range page.SpotPriceHistory {
			line++
			if !strings.HasPrefix(p.ProductDescription, "Linux/UNIX") {
				continue
			}
			q := Quote{
				Provider: hardware.AWS, Region: regionOfZone(p.AvailabilityZone), ZoneID: p.AvailabilityZoneID, InstanceType: p.InstanceType,
				LifeCycle: Spot, Basis: List, Currency: "USD", Source: source, Line: line,
			}
			q.Hourly, q.HasPrice = parsePrice(p.SpotPrice)
			q.dated(p.Timestamp, "")
			if p.AvailabilityZoneID == "" {
				q.against(NoZoneID, "zone %q is another one in each account: ask for AvailabilityZoneId, too", p.AvailabilityZone)
			}
			quotes = append(quotes, q)
		}
	}
}

// regionOfZone is us-east-1 of us-east-1a, and of the zone of a city us-east-1-atl-2a.
func regionOfZone(zone string) string {
	parts := strings.SplitN(zone, "-", 4)
	if len(parts) < 3 {
		return ""
	}
	return strings.TrimRight(strings.Join(parts[:3], "-"), "abcdefghijklmnopqrstuvwxyz")
}
