// SPDX-License-Identifier: Apache-2.0

package mapping

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	table := New()
	gpu := map[string]string{"hw.type": "gpu"}
	for name, c := range map[string]struct {
		metric, unit string
		attributes   map[string]string
		value        Value
		column       string
		stored       int64
		verdict      Verdict
	}{
		"percent to per mille":                {"DCGM_FI_DEV_GPU_UTIL", "", nil, Float(97), "gpu_utilization_permille", 970, Kept},
		"ratio to per mille":                  {"hw.gpu.utilization", "1", nil, Float(0.9345), "gpu_utilization_permille", 935, Kept},
		"ratio that is told in percent":       {"hw.gpu.utilization", "%", nil, Float(93.5), "gpu_utilization_permille", 935, Kept},
		"use of the encoder":                  {"hw.gpu.utilization", "1", map[string]string{"hw.gpu.task": "encoder"}, Float(1), "encoder_utilization_permille", 1000, Kept},
		"use of what we do not know":          {"hw.gpu.utilization", "1", map[string]string{"hw.gpu.task": "ray_tracing"}, Float(1), "", 0, Unknown},
		"MiB to bytes":                        {"DCGM_FI_DEV_FB_USED", "", nil, Float(81_559), "memory_used_bytes", 81_559 << 20, Kept},
		"bytes":                               {"hw.gpu.memory.usage", "By", nil, Int(1<<62 + 1), "memory_used_bytes", 1<<62 + 1, Kept},
		"bytes told in GiB":                   {"hw.gpu.memory.usage", "GiBy", nil, Int(80), "memory_used_bytes", 80 << 30, Kept},
		"joules to millijoules":               {"hw.energy", "J", gpu, Float(1234.5678), "energy_millijoules", 1_234_568, Kept},
		"kilowatt hours":                      {"hw.energy", "kWh", gpu, Int(2), "energy_millijoules", 7_200_000_000, Kept},
		"millijoules stay exact":              {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", nil, Int(9_007_199_254_740_993), "energy_millijoules", 9_007_199_254_740_993, Kept},
		"nanoseconds to microseconds":         {"DCGM_FI_DEV_POWER_VIOLATION", "", nil, Int(1_500), "throttle_power_microseconds", 2, Kept},
		"bytes per second to MiB":             {"DCGM_FI_PROF_PCIE_RX_BYTES", "", nil, Float(3 << 20), "pcie_rx_mebibytes_per_second", 3, Kept},
		"watts are whole":                     {"DCGM_FI_DEV_POWER_USAGE", "", nil, Float(699.5), "power_average_watts", 700, Kept},
		"below zero":                          {"DCGM_FI_DEV_GPU_TEMP_LIMIT", "", nil, Float(-3), "temperature_margin_celsius", -3, Kept},
		"of the processor":                    {"hw.power", "W", map[string]string{"hw.type": "cpu"}, Float(100), "", 0, Unknown},
		"of the memory":                       {"hw.temperature", "Cel", map[string]string{"hw.type": "gpu", "hw.sensor_location": "memory"}, Float(61), "memory_temperature_celsius", 61, Kept},
		"a unit of another kind":              {"hw.power", "Cel", gpu, Float(61), "", 0, UnknownUnit},
		"annotation for a count":              {"hw.errors", "{errors}", map[string]string{"hw.type": "gpu", "error.type": "corrected"}, Int(3), "ecc_volatile_corrected_errors", 3, Kept},
		"no number":                           {"DCGM_FI_DEV_GPU_TEMP", "", nil, Float(math.NaN()), "", 0, Absent},
		"more than there can be":              {"DCGM_FI_DEV_GPU_TEMP", "", nil, Float(1e9), "", 0, Unfit},
		"negative counter":                    {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "", nil, Int(-1), "", 0, Unfit},
		"a percentage that is called a ratio": {"hw.gpu.utilization", "", nil, Float(50), "", 0, Unfit},
		"too large when scaled":               {"DCGM_FI_DEV_FB_USED", "", nil, Int(1 << 50), "", 0, Unfit},
		"infinite, of hw.energy":              {"hw.energy", "J", gpu, Float(math.Inf(-1)), "", 0, Absent},
		"infinite":                            {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", nil, Float(math.Inf(1)), "", 0, Absent},
		"DCGM's blank of 64 bits":             {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", nil, Float(9223372036854775794), "", 0, Absent},
		"the same as a whole number":          {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", nil, Int(9223372036854775794), "", 0, Absent},
		"DCGM's blank of 32 bits":             {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "", nil, Int(2147483634), "", 0, Absent},
		"DCGM's blank of doubles":             {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", nil, Float(140737488355330), "", 0, Absent},
		"known and not kept":                  {"DCGM_FI_DEV_FB_FREE", "", nil, Float(1), "", 0, NotKept},
		"of one NVLink":                       {"DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "", map[string]string{"nvlink": "3"}, Float(1), "", 0, NotKept},
		"of the scrape itself":                {"scrape_duration_seconds", "", nil, Float(1), "", 0, NotKept},
		"unknown":                             {"node_load1", "", nil, Float(1), "", 0, Unknown},
	} {
		target, stored, verdict := table.Find(c.metric, c.unit, func(key string) string { return c.attributes[key] }, c.value)
		column := ""
		if target != nil {
			column = target.Metric.Name
		}
		if column != c.column || stored != c.stored || verdict != c.verdict {
			t.Errorf("%s: %s %d verdict %d, want %s %d verdict %d", name, column, stored, verdict, c.column, c.stored, c.verdict)
		}
	}
}

func TestScaledIsExact(t *testing.T) {
	for _, c := range []struct {
		v    Value
		by   ratio
		want int64
		ok   bool
	}{
		{Int(5), ratio{1, 10}, 1, true}, // halves away from zero
		{Int(-5), ratio{1, 10}, -1, true},
		{Int(4), ratio{1, 10}, 0, true},
		{Int(math.MaxInt64), ratio{1000, 1000}, math.MaxInt64, true},
		{Int(math.MinInt64 + 1), ratio{1, 1}, math.MinInt64 + 1, true},
		{Int(math.MaxInt64), ratio{2, 1}, 0, false},
		{Float(0.1), ratio{1000, 1}, 100, true},
		{Float(1 << 53), ratio{1, 1}, 1 << 53, true},
		{Float(math.MaxFloat64), ratio{1, 1}, 0, false},
	} {
		if got, ok := c.v.scaled(c.by); got != c.want || ok != c.ok {
			t.Errorf("%+v × %+v: %d %v, want %d %v", c.v, c.by, got, ok, c.want, c.ok)
		}
	}
}

// TestEveryNameOfTheAgentIsKnown: what the agent shows under DCGM's names comes in again, or is left out on purpose.
func TestEveryNameOfTheAgentIsKnown(t *testing.T) {
	page, err := os.ReadFile("../../../../agent/internal/exposition/testdata/dcgm.prom")
	if err != nil {
		t.Fatal(err)
	}
	table, names := New(), 0
	for lines := bufio.NewScanner(bytes.NewReader(page)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 4 && fields[1] == "TYPE" {
			names++
			if family, ok := table.Family(fields[2]); !ok || family != DCGM {
				t.Errorf("%s is not known", fields[2])
			}
		}
	}
	if names < 50 {
		t.Errorf("%d names on the page", names)
	}
}

// TestNamesAreDistinct: a row that another one hides is never used.
func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range Names() {
		key := fmt.Sprint(n.Metric, n.Where)
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if n.Column == "" && n.Note == "" {
			t.Errorf("%s is not kept, and nobody says why", n.Metric)
		}
	}
}

func FuzzFloat(f *testing.F) {
	f.Add(0.5, int64(1000), int64(1))
	f.Add(9223372036854775794.0, int64(1), int64(1000))
	f.Fuzz(func(t *testing.T, value float64, multiply, divide int64) {
		if multiply < 1 || divide < 1 || multiply > 1<<30 || divide > 1<<30 {
			return
		}
		got, ok := Float(value).scaled(ratio{multiply, divide})
		if !ok {
			return
		}
		// no further off than the rounding, and what a float cannot tell apart
		if exact := value * float64(multiply) / float64(divide); math.Abs(float64(got)-exact) > 0.5+math.Abs(exact)*1e-14 {
			t.Errorf("%v × %d ÷ %d: %d", value, multiply, divide, got)
		}
	})
}
