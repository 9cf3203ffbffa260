// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

// gcpText is a SKU in one region; units and nanos are its price.
func gcpText(description, region, unit, units string, nanos int) string {
	return fmt.Sprintf(`{"name":"services/6F81-5844-456A/skus/X","skuId":"X","description":%q,"category":{"serviceDisplayName":"Compute Engine","resourceFamily":"Compute","usageType":"OnDemand"},`+
		`"serviceRegions":[%q],"pricingInfo":[{"effectiveTime":"2026-11-20T00:00:00Z","pricingExpression":{"usageUnit":%q,"displayQuantity":1,"tieredRates":[{"startUsageAmount":0,`+
		`"unitPrice":{"currencyCode":"USD","units":%q,"nanos":%d}}]}}]}`, description, region, unit, units, nanos)
}

func gcpPage(next string, skus ...string) string {
	return fmt.Sprintf(`{"skus":[%s],"nextPageToken":%q}`, strings.Join(skus, ","), next)
}

// a3 is what machines with H100 are made of, on demand and as spot.
func a3(region string) []string {
	return []string{
		gcpText("A3 Instance Core running in Americas", region, "h", "0", 29268000), gcpText("A3 Instance Ram running in Americas", region, "GiBy.h", "0", 2548000),
		gcpText("Nvidia H100 80GB GPU running in Americas", region, "h", "9", 796550569),
		gcpText("Spot Preemptible A3 Instance Core running in Americas", region, "h", "0", 9000000), gcpText("Spot Preemptible A3 Instance Ram running in Americas", region, "GiBy.h", "0", 1000000),
		gcpText("Nvidia H100 80GB GPU attached to Spot Preemptible VMs running in Americas", region, "h", "3", 0),
	}
}

func TestReadGCP(t *testing.T) {
	// Half the price, all of them: what is not the plain price must not be taken for it.
	others := []string{
		gcpText("Commitment v1: Nvidia H100 80GB GPU running in Americas for 1 Year", "us-central1", "h", "5", 0),
		gcpText("Nvidia H100 80GB GPU attached to DWS Defined Duration VMs running in Americas", "us-central1", "h", "4", 200761000),
		gcpText("Reserved Nvidia H100 80GB GPU in Americas in Calendar Mode", "us-central1", "h", "4", 0),
		gcpText("Nvidia H100 80GB GPU attached to Sole Tenancy VMs running in Americas", "us-central1", "h", "4", 0),
		gcpText("N2 Instance Core running in Americas", "us-central1", "h", "0", 31611000),
	}
	text := gcpPage("more", append(a3("us-central1"), others...)...) + gcpPage("",
		gcpText("A4 Nvidia B200 (1 gpu slice) running in Americas", "us-central1", "h", "16", 110000000),
		gcpText("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Americas", "us-central1", "h", "4", 954200000),
		gcpText("Nvidia Tesla A100 GPU running in Zurich", "europe-west6", "h", "2", 0))
	quotes, err := ReadGCP(strings.NewReader(text), "skus.json")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	r := Check(quotes, readAt)
	for _, p := range r.Prices {
		got[p.InstanceType+" "+p.LifeCycle] = p.Hourly.String()
		if p.Region != "us-central1" || p.Basis != List || !p.Undated {
			t.Errorf("%+v", p)
		}
	}
	// 208 × 0.029268 + 1872 × 0.002548 + 8 × 9.796550569; an eighth of it for one GPU.
	for machine, want := range map[string]string{
		"a3-highgpu-8g on_demand": "89.230004552", "a3-highgpu-1g on_demand": "11.153750569", "a3-highgpu-8g spot": "27.744",
		"a4-highgpu-8g on_demand": "128.88", "a4-highgpu-8g spot": "39.6336",
	} {
		if got[machine] != want {
			t.Errorf("%s costs %q, want %s", machine, got[machine], want)
		}
	}
	if len(got) != 12 { // A3 of 1, 2, 4, 8 and edge, twice; A4 twice
		t.Errorf("prices %v", got)
	}
	if want := strings.TrimSuffix(strings.Repeat("a2-highgpu-1g parts_missing parts_missing; ", 1), "; "); !strings.HasPrefix(outcome(r), want) || len(r.Quarantined) != 5 {
		t.Errorf("in quarantine %s", outcome(r))
	}
}

func TestGCPParts(t *testing.T) {
	const core, ram, gpu = "G2 Instance Core running in Americas", "G2 Instance Ram running in Americas", "Nvidia L4 GPU running in Americas"
	whole := func(changes ...string) string {
		text := gcpPage("", gcpText(core, "us-central1", "h", "0", 20000000), gcpText(ram, "us-central1", "GiBy.h", "0", 2000000), gcpText(gpu, "us-central1", "h", "0", 500000000))
		return strings.NewReplacer(changes...).Replace(text)
	}
	second := `,{"startUsageAmount":100,"unitPrice":{"currencyCode":"USD","units":"1","nanos":0}}]}}]}`
	for name, tt := range map[string]struct{ text, want string }{
		"as it is":            {whole(), "0.612"},
		"memory by 10⁹ bytes": {whole("GiBy.h", "GBy.h"), "0.614359738"}, // 16 × 0.002 × 1.073741824, rounded
		"another unit":        {whole("GiBy.h", "GiBy.mo"), "unknown_unit"},
		"steps":               {whole(`"nanos":500000000}}]}}]}`, `"nanos":500000000}}`+second), "tiered"},
		"no rate":             {whole(`"tieredRates":[{"startUsageAmount":0,"unitPrice":{"currencyCode":"USD","units":"0","nanos":500000000}}]`, `"tieredRates":[]`), "no_price"},
		"no number":           {whole(`"units":"0","nanos":20000000`, `"units":"none","nanos":0`), "error"},
		"two prices of a part": {
			whole() + gcpPage("", gcpText(gpu, "us-central1", "h", "0", 600000000)), "conflict",
		},
		"no memory": {gcpPage("", gcpText(core, "us-central1", "h", "0", 20000000), gcpText(gpu, "us-central1", "h", "0", 500000000)), "parts_missing"},
	} {
		quotes, err := ReadGCP(strings.NewReader(tt.text), "skus.json")
		r := Check(quotes, readAt)
		got := "error"
		switch {
		case err != nil:
		case len(r.Prices) > 0:
			got = r.Prices[0].Hourly.String()
		case len(r.Quarantined) > 0:
			got = string(r.Quarantined[0].Reasons[0].Reason)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s (%v)", name, got, tt.want, err)
		}
	}
	for _, text := range []string{"", "{}", "[]", `{"skus":7}`, `{"skus":[7]}`, whole()[:200]} {
		if _, err := ReadGCP(strings.NewReader(text), "skus.json"); err == nil || !strings.Contains(err.Error(), "skus.json") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// FuzzReadGCP: whatever a file holds, reading it ends, and every price comes with a machine of the catalogue.
func FuzzReadGCP(f *testing.F) {
	f.Add(gcpPage("x", a3("us-central1")...))
	f.Add(`{"skus":[{"description":"Nvidia L4 GPU running in x","serviceRegions":["r"],"pricingInfo":[{}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		quotes, err := ReadGCP(strings.NewReader(text), "fuzz")
		if err != nil {
			return
		}
		for _, p := range Check(quotes, readAt).Prices {
			if i, known := hardware.FindInstance(hardware.GCP, p.InstanceType); !known || p.GPUs != i.GPUs || !p.Hourly.IsPositive() {
				t.Fatalf("price %+v", p)
			}
		}
	})
}
