// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema/hardware"
)

func TestReadAzure(t *testing.T) {
	const pages = `{"Items":[
		{"currencyCode":"USD","tierMinimumUnits":0.0,"retailPrice":98.32,"armRegionName":"eastus","effectiveStartDate":"2023-08-01T00:00:00Z","skuName":"ND96isr H100 v5","meterName":"ND96isr H100 v5","productName":"Virtual Machines NDsr H100 v5 Series","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_ND96isr_H100_v5"},
		{"currencyCode":"USD","tierMinimumUnits":0.0,"retailPrice":39.3,"armRegionName":"eastus","effectiveStartDate":"2023-08-01T00:00:00Z","skuName":"ND96isr H100 v5 Spot","meterName":"ND96isr H100 v5 Spot","productName":"Virtual Machines NDsr H100 v5 Series","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_ND96isr_H100_v5"},
		{"currencyCode":"USD","retailPrice":39.3,"armRegionName":"eastus","skuName":"ND96isr H100 v5 Low Priority","meterName":"x","productName":"p","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_ND96isr_H100_v5"},
		{"currencyCode":"USD","retailPrice":140,"armRegionName":"eastus","skuName":"x","meterName":"x","productName":"Virtual Machines NDsr H100 v5 Series Windows","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_ND96isr_H100_v5"},
		{"currencyCode":"USD","retailPrice":500000,"armRegionName":"eastus","skuName":"x","meterName":"x","productName":"p","unitOfMeasure":"1 Hour","type":"Reservation","reservationTerm":"1 Year","armSkuName":"Standard_ND96isr_H100_v5"}
	],"NextPageLink":"https://next.example/2"}
	{"Items":[{"currencyCode":"USD","retailPrice":0.0,"armRegionName":"westus","skuName":"x","meterName":"x","productName":"p","unitOfMeasure":"1 Hour","type":"Consumption","armSkuName":"Standard_NC24ads_A100_v4"}],"NextPageLink":""}`
	quotes, err := ReadAzure(strings.NewReader(pages), "azure.json")
	if err != nil || len(quotes) != 3 {
		t.Fatalf("%d quotes, %v", len(quotes), err)
	}
	r := Check(quotes, readAt)
	if len(r.Prices) != 2 || r.Prices[0].LifeCycle != OnDemand || r.Prices[1].LifeCycle != Spot || r.Prices[0].PerGPU.String() != "12.29" {
		t.Errorf("prices %+v", r.Prices)
	}
	if got := outcome(r); got != "Standard_NC24ads_A100_v4 zero_price" {
		t.Errorf("quarantined %q", got)
	}
	if _, err := ReadAzure(strings.NewReader(`{"Items":[`), "cut.json"); err == nil || !strings.Contains(err.Error(), "cut.json") {
		t.Errorf("got %v", err)
	}
}

func TestReadOracle(t *testing.T) {
	const list = `{"items":[
		{"partNumber":"B98415","metricName":"GPU Per Hour","currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":10}]}]},
		{"partNumber":"B95909","metricName":"GPU Per Hour","currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":2},{"model":"MONTHLY_COMMIT","value":1}]}]},
		{"partNumber":"B1","metricName":"GPU Per Hour","currencyCodeLocalizations":[{"currencyCode":"USD","prices":[{"model":"PAY_AS_YOU_GO","value":3}]}]},
		{"partNumber":"B2","metricName":"OCPU Per Hour","currencyCodeLocalizations":[]}]}`
	quotes, err := ReadOracle(strings.NewReader(list), "oci.json")
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := Check(quotes, readAt)
	if got := outcome(r); got != "part B1 unknown_instance" {
		t.Errorf("in quarantine %q", got)
	}
	hourly := map[string]string{}
	for _, p := range r.Prices {
		hourly[p.InstanceType] = p.Hourly.String()
	}
	want := map[string]string{"BM.GPU.H100.8": "80", "BM.GPU.A10.4": "8", "VM.GPU.A10.1": "2", "VM.GPU.A10.2": "4"}
	for shape, price := range want {
		if hourly[shape] != price {
			t.Errorf("%s costs %s, want %s", shape, hourly[shape], price)
		}
	}
	if len(hourly) != len(want) {
		t.Errorf("prices %v", hourly)
	}
}

func TestCSVErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "its header",
		"provider,region\n":             "no column instance_type",
		"instance_type,instance_type\n": "instance_type is there twice",
		"type,cost\n":                   "no column instance_type: the header is type,cost",
	} {
		if _, err := ReadCSV(strings.NewReader(text), "x.csv", Defaults{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	named := Defaults{Columns: map[string]string{"type": "instance_type", "cost": "price_per_hour", "x": "colour"}}
	if _, err := ReadCSV(strings.NewReader("type,cost\n"), "x.csv", named); err == nil || !strings.Contains(err.Error(), `"colour" is no column`) {
		t.Errorf("got %v", err)
	}
}

// TestRealFeeds reads what providers really answered, where it is at hand.
func TestRealFeeds(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("SKIPPED: there are no real price feeds beside this checkout")
	}
	onDemand := Defaults{LifeCycle: OnDemand, Basis: List, Currency: "USD", Columns: map[string]string{"usd_per_hour_ondemand_linux": "price_per_hour", "usd_per_hour_ondemand": "price_per_hour"}}
	for name, want := range map[string]struct {
		instance, perGPU string
		read, taken      int
		reasons          map[Reason]int
	}{
		"aws_ondemand_gpu_us-east-1_karpenter_2026-07-20.csv": {"p5.48xlarge", "6.88", 90, 63, map[Reason]int{NoGPU: 11, OtherMaker: 5, PartOfGPU: 5, UnknownInstance: 6}},
		"azure_ondemand_nseries_karpenter_2026-06-18.csv":     {"Standard_ND96isr_H100_v5", "12.29", 1421, 784, map[Reason]int{NoGPU: 30, OtherMaker: 189, PartOfGPU: 108, UnknownInstance: 310}},
		"oci_prices_usd_opencost_testdata.json":               {"BM.GPU.H100.8", "10", 12, 12, map[Reason]int{}},
	} {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var quotes []Quote
		if strings.HasSuffix(name, ".csv") {
			quotes, err = ReadCSV(file, name, onDemand)
		} else {
			quotes, err = ReadOracle(file, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		r := Check(quotes, readAt)
		reasons := map[Reason]int{}
		for _, q := range r.Quarantined {
			for _, f := range q.Reasons {
				reasons[f.Reason]++
			}
		}
		t.Logf("%s: %d read, %d taken, quarantined by reason %v", name, len(quotes), len(r.Prices), reasons)
		found := false
		for _, p := range r.Prices {
			found = found || p.InstanceType == want.instance && p.PerGPU.Equal(decimal.RequireFromString(want.perGPU))
			if i, ok := hardware.FindInstance(p.Provider, p.InstanceType); !ok || p.Model != i.Model {
				t.Errorf("%s has model %s", p.InstanceType, p.Model)
			}
		}
		if !found || len(quotes) != want.read || len(r.Prices) != want.taken || !maps.Equal(reasons, want.reasons) {
			t.Errorf("%s: %d quotes, %s found: %v", name, len(quotes), want.instance, found)
		}
	}
}

// TestSpellingsOfFeeds has every type of machine that AWS, Azure and Oracle priced in 2026 (testdata/types.csv), and what
// becomes of it: the GPUs that it has, or the reason that names why it has no price here.
func TestSpellingsOfFeeds(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "types.csv"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	count := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), ",")
		if strings.HasPrefix(line, "#") || cells[0] == "provider" {
			got.WriteString(line)
			continue
		}
		count++
		quote := Quote{Provider: cells[0], InstanceType: cells[1], LifeCycle: OnDemand, Basis: List, Currency: "USD", Hourly: decimal.NewFromInt(5), HasPrice: true}
		r := Check([]Quote{quote}, readAt)
		became := ""
		switch {
		case len(r.Prices) == 1:
			became = fmt.Sprintf("%d x %s", r.Prices[0].GPUs, r.Prices[0].Model)
		case len(r.Quarantined) == 1 && len(r.Quarantined[0].Reasons) == 1:
			became = string(r.Quarantined[0].Reasons[0].Reason)
		default:
			t.Errorf("%s: %+v", cells[1], r)
		}
		fmt.Fprintf(&got, "%s,%s,%s\n", cells[0], cells[1], became)
	}
	if diff := cmp.Diff(string(text), got.String()); diff != "" || count < 180 {
		t.Errorf("%d types (-file +what became of them):\n%s", count, diff)
	}
}

// FuzzCSV: whatever a file holds, each row becomes one quote, and each quote one price, one quarantined or one duplicate.
func FuzzCSV(f *testing.F) {
	f.Add("provider,region,instance_type,price_per_hour\naws,us-east-1,p5.48xlarge,55.04\n")
	f.Add("instance_type,price_per_hour,valid_from\n\"a\nb\",$1.5,2024-10-01 00:00:00\nc")
	f.Fuzz(func(t *testing.T, text string) {
		quotes, err := ReadCSV(strings.NewReader(text), "fuzz", Defaults{Provider: "aws", Basis: List, LifeCycle: OnDemand, Currency: "USD"})
		if err != nil {
			return
		}
		r := Check(quotes, readAt)
		if len(r.Prices)+len(r.Quarantined)+r.Duplicates != len(quotes) {
			t.Fatalf("%d quotes became %d, %d, %d", len(quotes), len(r.Prices), len(r.Quarantined), r.Duplicates)
		}
		for _, p := range r.Prices {
			if !p.PerGPU.IsPositive() || p.Model == "" {
				t.Fatalf("price %+v", p)
			}
		}
	})
}
