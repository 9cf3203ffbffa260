// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// Feed is an address at which prices are asked for.
type Feed struct {
	Format string // as Read has it
	URL    string // of the first page
	// Key is an API key. It travels in a header, so that it is in no log and in no error.
	Key      string
	Defaults Defaults // of rows of CSV
}

// Where providers tell their prices.
const (
	awsPrices   = "https://pricing.us-east-1.amazonaws.com"
	azurePrices = "https://prices.azure.com"
	gcpPrices   = "https://cloudbilling.googleapis.com"
	ociPrices   = "https://apexapps.oracle.com"
)

// regionForm keeps what is no region out of an address.
var regionForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,40}$`)

// FeedsOf are the feeds of a provider: AWS has one for each region, Azure answers for one or for all, Google and Oracle
// for all. The base stands in for the provider's own address; "" is that. Spot prices of AWS need an account: they are
// imported from what its own tool prints.
func FeedsOf(provider, base, key string, regions []string) ([]Feed, error) {
	for _, region := range regions {
		if !regionForm.MatchString(region) {
			return nil, fmt.Errorf("region %q: want a name such as us-east-1 or eastus", region)
		}
	}
	or := func(otherwise string) string {
		if base != "" {
			return strings.TrimSuffix(base, "/")
		}
		return otherwise
	}
	switch hardware.Provider(provider) {
	case hardware.AWS:
		return awsFeeds(or(awsPrices), regions)
	case hardware.Azure:
		return azureFeeds(or(azurePrices), regions), nil
	case hardware.GCP:
		if key == "" {
			return nil, errors.New("prices of gcp: Google's catalogue wants an API key, of any project: set GPUFLEET_GCP_API_KEY")
		}
		return []Feed{{Format: "gcp", Key: key, URL: or(gcpPrices) + "/v1/services/6F81-5844-456A/skus?pageSize=5000"}}, nil
	case hardware.Oracle:
		return []Feed{{Format: "oci", URL: or(ociPrices) + "/pls/apex/cetools/api/v1/products/?currencyCode=USD"}}, nil
	default:
		return nil, fmt.Errorf("prices of %q: want aws, azure, gcp or oci; for others give --url and --format", provider)
	}
}

func awsFeeds(base string, regions []string) ([]Feed, error) {
	if len(regions) == 0 {
		return nil, errors.New("prices of aws: say which regions with --region: the file of all has 8 GB")
	}
	feeds := make([]Feed, len(regions))
	for i, region := range regions {
		feeds[i] = Feed{Format: "aws", URL: base + "/offers/v1.0/aws/AmazonEC2/current/" + region + "/index.json"}
	}
	return feeds, nil
}

func azureFeeds(base string, regions []string) []Feed {
	address := func(filter string) Feed {
		query := url.Values{"api-version": {"2023-01-01-preview"}, "$filter": {"serviceName eq 'Virtual Machines' and priceType eq 'Consumption'" + filter}}
		return Feed{Format: "azure", URL: base + "/api/retail/prices?" + query.Encode()}
	}
	if len(regions) == 0 {
		return []Feed{address("")}
	}
	feeds := make([]Feed, len(regions))
	for i, region := range regions {
		feeds[i] = address(" and armRegionName eq '" + region + "'")
	}
	return feeds
}
