// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

var readAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// quotes reads rows of provider, region, zone, instance, life cycle, price, GPUs, GPU.
func quotes(t *testing.T, rows ...string) []Quote {
	t.Helper()
	text := "provider,region,zone_id,instance_type,life_cycle,price_per_hour,gpus,gpu,valid_from,valid_to,currency\n" + strings.Join(rows, "\n") + "\n"
	found, err := ReadCSV(strings.NewReader(text), "test.csv", Defaults{Basis: List, Currency: "USD"})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// outcome is what became of each quote: its line, and the reasons against it.
func outcome(r Result) string {
	var lines []string
	for _, q := range r.Quarantined {
		var reasons []string
		for _, f := range q.Reasons {
			reasons = append(reasons, string(f.Reason))
		}
		lines = append(lines, strings.Join(append([]string{q.Quote.InstanceType}, reasons...), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// TestQuirks has what was seen in real feeds (November 2026), row for row in our own writing, and what became of it.
func TestQuirks(t *testing.T) {
	tests := map[string]struct {
		rows  []string
		taken int
		want  string // instance types that are quarantined, with the reasons
	}{
		"1. no on-demand price, a spot price": {
			[]string{"aws,us-east-1,,p5e.48xlarge,on_demand,,,,,,", "aws,us-east-1,use1-az4,p5e.48xlarge,spot,17.2,,,,,"}, 1, "p5e.48xlarge no_price",
		},
		"1. spot at its ceiling": {
			[]string{"aws,us-east-1,,p5.48xlarge,on_demand,55.04,,,,,", "aws,us-east-1,use1-az6,p5.48xlarge,spot,55.04,,,,,"}, 2, "",
		},
		"2. on-demand below spot": {
			[]string{"gcp,us-central1,,a3-ultragpu-8g,on_demand,36.60,,,,,", "gcp,us-central1,,a3-ultragpu-8g,spot,38.74,,,,,"}, 1, "a3-ultragpu-8g on_demand_below_spot",
		},
		"3. far below its neighbours": {
			[]string{
				"gcp,us-central1,,a3-highgpu-8g,on_demand,33.61,,,,,", "gcp,us-east4,,a3-highgpu-8g,on_demand,78.37,,,,,",
				"gcp,europe-west4,,a3-highgpu-8g,on_demand,80.02,,,,,", "gcp,asia-east1,,a3-highgpu-8g,on_demand,84.9,,,,,",
			}, 3, "a3-highgpu-8g outlier",
		},
		"4. a list price of every region": {
			[]string{"oci,,,BM.GPU.H100.8,on_demand,80,,,,,"}, 1, "",
		},
		"5. a zone of a city": {
			[]string{"aws,us-east-1,use1-atl2-az1,p5.48xlarge,spot,30,,,,,"}, 1, "",
		},
		"6. another number of GPUs": {
			[]string{"aws,us-east-1,,p6e-gb200.36xlarge,capacity_block,200,36,GB200,,,"}, 0, "p6e-gb200.36xlarge wrong_gpu_count",
		},
		"7. the same row twice": {
			[]string{"gcp,us-east4,,a3-highgpu-8g,on_demand,78.37,,,,,", "gcp,us-east4,,a3-highgpu-8g,on_demand,78.370,,,,,"}, 1, "",
		},
		"7. two prices of one thing": {
			[]string{"gcp,us-east4,,a3-highgpu-8g,on_demand,78.37,,,,,", "gcp,us-east4,,a3-highgpu-8g,on_demand,88.37,,,,,"}, 0, "a3-highgpu-8g conflict; a3-highgpu-8g conflict",
		},
		"8. names of the GPU": {
			[]string{
				"aws,us-east-1,,p5.48xlarge,on_demand,55.04,8,H100,,,", "gcp,us-east4,,a3-megagpu-8g,on_demand,92,8,H100-MEGA,,,",
				"oci,,,BM.GPU.H100.8,on_demand,80,8,NVIDIA H100 80GB HBM3,,,", "nebius,eu-north1,,gpu-h100-sxm 8gpu,on_demand,23.6,8,H100-SXM,,,",
				"azure,eastus,,Standard_ND96isr_H100_v5,on_demand,98.32,8,A100-80GB,,,",
			}, 4, "Standard_ND96isr_H100_v5 wrong_gpu_model",
		},
		"9. twice as much in one region": {
			[]string{
				"azure,eastus,,Standard_ND96amsr_A100_v4,on_demand,32.77,,,,,", "azure,westus2,,Standard_ND96amsr_A100_v4,on_demand,32.77,,,,,",
				"azure,brazilsouth,,Standard_ND96amsr_A100_v4,on_demand,65.54,,,,,",
			}, 3, "",
		},
		"10. a price that changed": {
			[]string{"aws,us-east-1,,p4d.24xlarge,on_demand,32.7726,,,2024-01-01,2025-06-01,", "aws,us-east-1,,p4d.24xlarge,on_demand,21.957642,,,2025-06-01,,"}, 2, "",
		},
		"11. the word NULL, times without a zone": {
			[]string{"aws,us-east-1,NULL,p5.48xlarge,on_demand,55.04,NULL,NULL,2024-10-01 00:00:00,NULL,NULL"}, 1, "",
		},
		"zero, below zero, forty times too much, another currency": {
			[]string{
				"aws,us-east-1,,p4d.24xlarge,on_demand,0,,,,,", "aws,us-east-1,,p4de.24xlarge,on_demand,-3,,,,,",
				"aws,us-east-1,,p5.48xlarge,on_demand,2201.6,,,,,", "aws,eu-central-1,,p5.48xlarge,on_demand,50,,,,,euros",
				"aws,eu-west-1,,p5.48xlarge,on_demand,52,,,,,eur",
			}, 1, "p4d.24xlarge zero_price; p4de.24xlarge negative_price; p5.48xlarge absurd; p5.48xlarge unknown_currency",
		},
		"what nobody knows": {
			[]string{"aws,us-east-1,,p9.48xlarge,on_demand,10,,,,,", "aws,us-east-1,,p5.48xlarge,sometimes,10,,,,,", "aws,us-east-1,,p5.48xlarge,spot,1e3,,,,,", "aws,us-east-1,,p5.48xlarge,spot,10.0000000001,,,,,", "aws,us-east-1,,p5.48xlarge,spot,20,,,yesterday,,"},
			0, "p5.48xlarge bad_time; p5.48xlarge no_price; p5.48xlarge too_many_digits; p5.48xlarge unknown_life_cycle; p9.48xlarge unknown_instance",
		},
		"own racks, and providers that are not in the catalogue": {
			[]string{
				"own,eu,,rack-a,owned,17.5,8,NVIDIA H100 80GB HBM3,,,", "coreweave,us-east,,h200-8,on_demand,50.44,8,H200,,,",
				"own,eu,,rack-b,owned,17.5,8,A100,,,", "own,eu,,rack-c,owned,17.5,,H200,,,", "own,eu,,rack-d,owned,17.5,-8,H200,,,", "own,eu,,,owned,17.5,8,H200,,,",
			},
			2, " unknown_instance; rack-b unknown_instance; rack-c unknown_instance; rack-d unknown_instance",
		},
		"no whole GPU of NVIDIA": {
			[]string{"aws,us-east-1,,g6f.xlarge,on_demand,0.2,,,,,", "aws,us-east-1,,g4ad.xlarge,on_demand,0.37853,,,,,", "aws,us-east-1,,trn1.2xlarge,on_demand,1.34375,,,,,"},
			0, "g4ad.xlarge other_maker; g6f.xlarge part_of_gpu; trn1.2xlarge no_gpu",
		},
		"times that make no sense": {
			[]string{"aws,us-east-1,,p5.48xlarge,spot,20,,,2026-02-01,2026-01-01,", "aws,us-east-2,,p5.48xlarge,spot,20,,,2036-02-01,,"},
			0, "p5.48xlarge bad_interval; p5.48xlarge far_ahead",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := Check(quotes(t, tt.rows...), readAt)
			if got := outcome(r); got != tt.want || len(r.Prices) != tt.taken {
				t.Errorf("%d taken, quarantined %q; want %d and %q", len(r.Prices), got, tt.taken, tt.want)
			}
			if len(r.Prices)+len(r.Quarantined)+r.Duplicates != len(tt.rows) {
				t.Errorf("%d rows became %d prices, %d in quarantine, %d duplicates", len(tt.rows), len(r.Prices), len(r.Quarantined), r.Duplicates)
			}
		})
	}
}

func TestPricePerGPUIsExact(t *testing.T) {
	r := Check(quotes(t, "aws,us-east-1,,p4d.24xlarge,on_demand,21.957642,,,,,"), readAt)
	p := r.Prices[0]
	if want := decimal.RequireFromString("2.74470525"); !p.PerGPU.Equal(want) || p.Model != "A100 SXM 40GB" || p.GPUs != 8 || !p.ValidFrom.Equal(readAt) {
		t.Errorf("price %+v, %s for a GPU", p, p.PerGPU)
	}
	if !p.Undated {
		t.Error("a price without a time is dated")
	}
}
