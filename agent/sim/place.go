// SPDX-License-Identifier: Apache-2.0

package sim

import "fmt"

// Place says where a node stands and how it is rented.
type Place struct {
	Provider     string // aws, azure, gcp or oci
	Region       string // such as "us-west-2"
	ZoneID       string // the same for all accounts, such as "usw2-az2"
	InstanceType string // instance type or shape, such as "p5.48xlarge"
	LifeCycle    string // on_demand, spot or reserved
	Rack         string // such as "r0012"
}

// providers are the clouds in the order in which a fleet goes round them.
var providers = [...]string{"aws", "azure", "gcp", "oci"}

// region is a region with one of its zones.
type region struct {
	name, zone string
	utcOffset  float64 // hours, without daylight saving
}

// offer is a model that a provider rents out under an instance type, in some regions.
type offer struct {
	provider, instanceType string
	model                  Model
	weight                 float64 // share in the provider's part of a fleet, relative to its other offers
	regions                []region
}

// offers are instance types and regions as the providers name them; prices for these pairs are public.
var offers = []offer{
	{"aws", "p5.48xlarge", H100, 4, []region{{"us-east-1", "use1-az6", -5}, {"us-west-2", "usw2-az2", -8}, {"ap-northeast-1", "apne1-az1", 9}}},
	{"aws", "p4de.24xlarge", A100, 3, []region{{"us-east-1", "use1-az4", -5}, {"us-west-2", "usw2-az2", -8}}},
	{"aws", "p5en.48xlarge", H200, 3, []region{{"us-east-2", "use2-az3", -5}, {"us-west-2", "usw2-az1", -8}}},
	{"aws", "p6-b200.48xlarge", B200, 2, []region{{"us-east-1", "use1-az6", -5}, {"us-west-2", "usw2-az3", -8}}},
	{"aws", "p6e-gb200.36xlarge", GB200, 2, []region{{"us-east-1", "use1-dfw2-az1", -6}}},
	{"azure", "Standard_ND96isr_H200_v5", H200, 4, []region{{"eastus2", "eastus2-az1", -5}, {"northeurope", "northeurope-az2", 0}, {"japaneast", "japaneast-az1", 9}}},
	{"azure", "Standard_ND96isr_H100_v5", H100, 4, []region{{"eastus", "eastus-az1", -5}, {"centralus", "centralus-az3", -6}}},
	{"azure", "Standard_ND96amsr_A100_v4", A100, 3, []region{{"eastus", "eastus-az2", -5}, {"francecentral", "francecentral-az1", 1}}},
	{"azure", "Standard_ND128isr_NDR_GB200_v6", GB200, 2, []region{{"eastus", "eastus-az3", -5}, {"canadaeast", "canadaeast-az1", -5}}},
	{"gcp", "a2-ultragpu-8g", A100, 3, []region{{"us-central1", "us-central1-a", -6}, {"asia-southeast1", "asia-southeast1-c", 8}}},
	{"gcp", "a3-highgpu-8g", H100, 4, []region{{"us-central1", "us-central1-c", -6}, {"europe-west4", "europe-west4-b", 1}, {"asia-northeast1", "asia-northeast1-b", 9}}},
	{"gcp", "a3-ultragpu-8g", H200, 3, []region{{"europe-west1", "europe-west1-b", 1}, {"us-east5", "us-east5-a", -5}}},
	{"gcp", "a4-highgpu-8g", B200, 2, []region{{"us-central1", "us-central1-b", -6}, {"us-east4", "us-east4-b", -5}}},
	{"gcp", "a4x-highgpu-4g", GB200, 2, []region{{"us-central1", "us-central1-a", -6}}},
	{"oci", "BM.GPU.B200.8", B200, 2, []region{{"us-ashburn-1", "us-ashburn-1-ad-1", -5}, {"eu-frankfurt-1", "eu-frankfurt-1-ad-3", 1}}},
	{"oci", "BM.GPU.H100.8", H100, 4, []region{{"uk-london-1", "uk-london-1-ad-1", 0}, {"us-chicago-1", "us-chicago-1-ad-1", -6}}},
	{"oci", "BM.GPU.H200.8", H200, 3, []region{{"us-ashburn-1", "us-ashburn-1-ad-2", -5}, {"ap-osaka-1", "ap-osaka-1-ad-1", 9}}},
	{"oci", "BM.GPU.A100-v2.8", A100, 3, []region{{"us-ashburn-1", "us-ashburn-1-ad-1", -5}, {"eu-frankfurt-1", "eu-frankfurt-1-ad-1", 1}}},
	{"oci", "BM.GPU.GB200.4", GB200, 2, []region{{"us-chicago-1", "us-chicago-1-ad-2", -6}}},
}

// offersOf are a provider's offers of the given models.
func offersOf(provider string, models []Model) []offer {
	var found []offer
	for _, o := range offers {
		for _, m := range models {
			if o.provider == provider && o.model == m {
				found = append(found, o)
			}
		}
	}
	return found
}

// pick chooses one of the offers by its weight.
func pick(from []offer, chance float64) offer {
	var sum float64
	for _, o := range from {
		sum += o.weight
	}
	at := chance * sum
	for _, o := range from {
		if at < o.weight {
			return o
		}
		at -= o.weight
	}
	return from[len(from)-1]
}

// lifeCycle chooses how a group of nodes is rented.
func lifeCycle(chance float64) string {
	switch {
	case chance < 0.55:
		return "reserved"
	case chance < 0.88:
		return "on_demand"
	default:
		return "spot"
	}
}

// busAddresses are where the GPUs of a node sit on PCIe, as the providers' machines show them.
var busAddresses = map[string][8]string{
	"aws":   {"0000:53:00.0", "0000:64:00.0", "0000:75:00.0", "0000:86:00.0", "0000:97:00.0", "0000:a8:00.0", "0000:b9:00.0", "0000:ca:00.0"},
	"azure": {"0001:00:00.0", "0002:00:00.0", "0003:00:00.0", "0008:00:00.0", "0009:00:00.0", "000a:00:00.0", "000b:00:00.0", "000c:00:00.0"},
	"gcp":   {"0000:04:00.0", "0000:05:00.0", "0000:0a:00.0", "0000:0b:00.0", "0000:84:00.0", "0000:85:00.0", "0000:8a:00.0", "0000:8b:00.0"},
	"oci":   {"0000:0f:00.0", "0000:2d:00.0", "0000:44:00.0", "0000:5b:00.0", "0000:89:00.0", "0000:a8:00.0", "0000:c0:00.0", "0000:d8:00.0"},
}

// moduleIDs are the positions on an HGX board in the order of the bus addresses.
var moduleIDs = [8]int64{2, 4, 1, 3, 7, 5, 8, 6}

// nodeName is unique in a fleet: where, what, which.
func nodeName(p Place, m Model, number int) string {
	return fmt.Sprintf("%s-%s-%s-%04d", p.Provider, p.Region, modelNames[m], number)
}
