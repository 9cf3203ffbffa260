// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpufleet/gpufleet/internal/docpage"
)

// conversions has every field of DCGM that is shown, with readings of ours and the value that DCGM would
// have, worked out by hand. Increments of 1 s lie two ticks back and one.
var conversions = []struct {
	field  string
	sample map[string]int64
	health map[string]int64 // totals are those of the GPU's first row
	want   string
}{
	{"SM_CLOCK", map[string]int64{"sm_clock_megahertz": 1980}, nil, "1980"},
	{"MEM_CLOCK", map[string]int64{"memory_clock_megahertz": 2619}, nil, "2619"},
	{"MEMORY_TEMP", map[string]int64{"memory_temperature_celsius": 71}, nil, "71"},
	{"GPU_TEMP", map[string]int64{"gpu_temperature_celsius": -3}, nil, "-3"},
	{"GPU_TEMP_LIMIT", map[string]int64{"temperature_margin_celsius": 26}, nil, "26"},
	{"POWER_USAGE", map[string]int64{"power_average_watts": 653, "power_instant_watts": 701}, nil, "653"},
	{"POWER_USAGE", map[string]int64{"power_instant_watts": 401}, nil, "401"}, // A100
	{"POWER_USAGE_INSTANT", map[string]int64{"power_instant_watts": 701}, nil, "701"},
	{"TOTAL_ENERGY_CONSUMPTION", map[string]int64{"energy_millijoules_delta": 700_123}, map[string]int64{"energy_millijoules_total": 8_000_000}, "9.400246e+06"},
	{"POWER_MGMT_LIMIT", nil, map[string]int64{"power_limit_requested_watts": 600}, "600"},
	{"POWER_MGMT_LIMIT_DEF", nil, map[string]int64{"power_limit_default_watts": 700}, "700"},
	{"ENFORCED_POWER_LIMIT", nil, map[string]int64{"power_limit_watts": 650}, "650"},
	{"CLOCKS_EVENT_REASONS", map[string]int64{"clocks_event_reasons": 0x24}, nil, "36"},
	{"CLOCK_THROTTLE_REASONS", map[string]int64{"clocks_event_reasons": 0x24}, nil, "36"},
	{"PSTATE", nil, map[string]int64{"performance_state": 2}, "2"},

	{"GPU_UTIL", map[string]int64{"gpu_utilization_permille": 989}, nil, "98"},
	{"MEM_COPY_UTIL", map[string]int64{"memory_busy_permille": 505}, nil, "50"},
	{"ENC_UTIL", nil, map[string]int64{"encoder_utilization_permille": 70}, "7"},
	{"DEC_UTIL", nil, map[string]int64{"decoder_utilization_permille": 120}, "12"},

	// An H100 of 80 GB: 85,520,809,984 bytes are 81,559 MiB; 655,360,000 are 625; 43,000,000,000 are 41,007.99.
	{"FB_TOTAL", nil, map[string]int64{"memory_total_bytes": 85_520_809_984}, "81559"},
	{"FB_RESERVED", nil, map[string]int64{"memory_reserved_bytes": 655_360_000}, "625"},
	{"FB_USED", map[string]int64{"memory_used_bytes": 43_000_000_000}, nil, "41007"},
	{"FB_FREE", map[string]int64{"memory_used_bytes": 43_000_000_000}, map[string]int64{"memory_total_bytes": 85_520_809_984, "memory_reserved_bytes": 655_360_000}, "39926"},
	{"FB_USED_PERCENT", map[string]int64{"memory_used_bytes": 300}, map[string]int64{"memory_total_bytes": 1000, "memory_reserved_bytes": 200}, "0.375"},
	{"BAR1_USED", nil, map[string]int64{"bar1_used_bytes": 2_621_440}, "2"},

	{"PCIE_REPLAY_COUNTER", nil, map[string]int64{"pcie_replays_total": 3}, "3"},
	{"RETIRED_SBE", nil, map[string]int64{"retired_pages_corrected_total": 4}, "4"},
	{"RETIRED_DBE", nil, map[string]int64{"retired_pages_uncorrected_total": 5}, "5"},
	{"RETIRED_PENDING", nil, map[string]int64{"retired_pages_pending": 1}, "1"},
	{"UNCORRECTABLE_REMAPPED_ROWS", nil, map[string]int64{"remapped_rows_uncorrected_total": 6}, "6"},
	{"CORRECTABLE_REMAPPED_ROWS", nil, map[string]int64{"remapped_rows_corrected_total": 7}, "7"},
	{"ROW_REMAP_FAILURE", nil, map[string]int64{"row_remap_failure": 1}, "1"},
	{"ROW_REMAP_PENDING", nil, map[string]int64{"row_remap_pending": 1}, "1"},
	{"GET_GPU_RECOVERY_ACTION", nil, map[string]int64{"recovery_action": 2}, "2"},

	// 5 µs stood there, 20 came twice: 45 µs are 45,000 ns.
	{"POWER_VIOLATION", gained("throttle_power_microseconds"), stood("throttle_power_microseconds"), "45000"},
	{"THERMAL_VIOLATION", gained("throttle_thermal_microseconds"), stood("throttle_thermal_microseconds"), "45000"},
	{"SYNC_BOOST_VIOLATION", gained("throttle_sync_boost_microseconds"), stood("throttle_sync_boost_microseconds"), "45000"},
	{"BOARD_LIMIT_VIOLATION", gained("throttle_board_limit_microseconds"), stood("throttle_board_limit_microseconds"), "45000"},
	{"LOW_UTIL_VIOLATION", gained("throttle_low_utilization_microseconds"), stood("throttle_low_utilization_microseconds"), "45000"},
	{"RELIABILITY_VIOLATION", gained("throttle_reliability_microseconds"), stood("throttle_reliability_microseconds"), "45000"},
	{"TOTAL_APP_CLOCKS_VIOLATION", gained("throttle_application_clocks_microseconds"), stood("throttle_application_clocks_microseconds"), "45000"},
	{"TOTAL_BASE_CLOCKS_VIOLATION", gained("throttle_base_clocks_microseconds"), stood("throttle_base_clocks_microseconds"), "45000"},

	// 450 GB each way in a second: 900e9 / 1024 / 1000 = 878,906.25.
	{
		"NVLINK_BANDWIDTH_TOTAL",
		map[string]int64{"nvlink_tx_bytes_delta": 450_000_000_000, "nvlink_rx_bytes_delta": 450_000_000_000},
		map[string]int64{"nvlink_tx_bytes_total": 1, "nvlink_rx_bytes_total": 1},
		"878906",
	},
	{"NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", nil, map[string]int64{"nvlink_crc_errors_total": 8}, "8"},
	{"NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", nil, map[string]int64{"nvlink_crc_data_errors_total": 9}, "9"},
	{"NVLINK_REPLAY_ERROR_COUNT_TOTAL", nil, map[string]int64{"nvlink_replay_errors_total": 10}, "10"},
	{"NVLINK_RECOVERY_ERROR_COUNT_TOTAL", nil, map[string]int64{"nvlink_recovery_errors_total": 11}, "11"},
	{"NVLINK_ECC_DATA_ERROR_COUNT_TOTAL", nil, map[string]int64{"nvlink_ecc_data_errors_total": 12}, "12"},
	{"PCIE_LINK_GEN", nil, map[string]int64{"pcie_link_generation": 5}, "5"},
	{"PCIE_LINK_WIDTH", nil, map[string]int64{"pcie_link_width": 16}, "16"},

	{"PROF_GR_ENGINE_ACTIVE", map[string]int64{"graphics_active_permille": 999}, nil, "0.999"},
	{"PROF_SM_ACTIVE", map[string]int64{"sm_active_permille": 500}, nil, "0.5"},
	{"PROF_SM_OCCUPANCY", map[string]int64{"sm_occupancy_permille": 250}, nil, "0.25"},
	{"PROF_PIPE_TENSOR_ACTIVE", map[string]int64{"tensor_active_permille": 612}, nil, "0.612"},
	{"PROF_PIPE_TENSOR_IMMA_ACTIVE", map[string]int64{"tensor_imma_active_permille": 1}, nil, "0.001"},
	{"PROF_PIPE_TENSOR_HMMA_ACTIVE", map[string]int64{"tensor_hmma_active_permille": 611}, nil, "0.611"},
	{"PROF_PIPE_TENSOR_DFMA_ACTIVE", map[string]int64{"tensor_dfma_active_permille": 2}, nil, "0.002"},
	{"PROF_DRAM_ACTIVE", map[string]int64{"dram_active_permille": 733}, nil, "0.733"},
	{"PROF_PIPE_FP64_ACTIVE", map[string]int64{"fp64_active_permille": 3}, nil, "0.003"},
	{"PROF_PIPE_FP32_ACTIVE", map[string]int64{"fp32_active_permille": 40}, nil, "0.04"},
	{"PROF_PIPE_FP16_ACTIVE", map[string]int64{"fp16_active_permille": 5}, nil, "0.005"},
	{"PROF_PIPE_INT_ACTIVE", map[string]int64{"integer_active_permille": 60}, nil, "0.06"},
	{"PROF_PCIE_TX_BYTES", map[string]int64{"pcie_tx_mebibytes_per_second": 2}, nil, "2.097152e+06"},
	{"PROF_PCIE_RX_BYTES", map[string]int64{"pcie_rx_mebibytes_per_second": 3}, nil, "3.145728e+06"},
	{"PROF_NVLINK_TX_BYTES", map[string]int64{"nvlink_tx_mebibytes_per_second": 4}, nil, "4.194304e+06"},
	{"PROF_NVLINK_RX_BYTES", map[string]int64{"nvlink_rx_mebibytes_per_second": 5}, nil, "5.24288e+06"},

	{"ECC_SBE_VOL_TOTAL", nil, map[string]int64{"ecc_volatile_corrected_errors_total": 1}, "1"},
	{"ECC_SBE_VOL_L1", nil, map[string]int64{"ecc_volatile_l1_corrected_errors_total": 2}, "2"},
	{"ECC_SBE_VOL_L2", nil, map[string]int64{"ecc_volatile_l2_corrected_errors_total": 3}, "3"},
	{"ECC_SBE_VOL_DEV", nil, map[string]int64{"ecc_volatile_dram_corrected_errors_total": 4}, "4"},
	{"ECC_SBE_VOL_REG", nil, map[string]int64{"ecc_volatile_register_file_corrected_errors_total": 5}, "5"},
	{"ECC_SBE_VOL_TEX", nil, map[string]int64{"ecc_volatile_texture_corrected_errors_total": 6}, "6"},
	{"ECC_DBE_VOL_TOTAL", nil, map[string]int64{"ecc_volatile_uncorrected_errors_total": 7}, "7"},
	{"ECC_DBE_VOL_L1", nil, map[string]int64{"ecc_volatile_l1_uncorrected_errors_total": 8}, "8"},
	{"ECC_DBE_VOL_L2", nil, map[string]int64{"ecc_volatile_l2_uncorrected_errors_total": 9}, "9"},
	{"ECC_DBE_VOL_DEV", nil, map[string]int64{"ecc_volatile_dram_uncorrected_errors_total": 10}, "10"},
	{"ECC_DBE_VOL_REG", nil, map[string]int64{"ecc_volatile_register_file_uncorrected_errors_total": 11}, "11"},
	{"ECC_DBE_VOL_TEX", nil, map[string]int64{"ecc_volatile_texture_uncorrected_errors_total": 12}, "12"},
	{"ECC_SBE_AGG_TOTAL", nil, map[string]int64{"ecc_lifetime_corrected_errors_total": 13}, "13"},
	{"ECC_SBE_AGG_L1", nil, map[string]int64{"ecc_lifetime_l1_corrected_errors_total": 14}, "14"},
	{"ECC_SBE_AGG_L2", nil, map[string]int64{"ecc_lifetime_l2_corrected_errors_total": 15}, "15"},
	{"ECC_SBE_AGG_DEV", nil, map[string]int64{"ecc_lifetime_dram_corrected_errors_total": 16}, "16"},
	{"ECC_SBE_AGG_REG", nil, map[string]int64{"ecc_lifetime_register_file_corrected_errors_total": 17}, "17"},
	{"ECC_SBE_AGG_TEX", nil, map[string]int64{"ecc_lifetime_texture_corrected_errors_total": 18}, "18"},
	{"ECC_DBE_AGG_TOTAL", nil, map[string]int64{"ecc_lifetime_uncorrected_errors_total": 19}, "19"},
	{"ECC_DBE_AGG_L1", nil, map[string]int64{"ecc_lifetime_l1_uncorrected_errors_total": 20}, "20"},
	{"ECC_DBE_AGG_L2", nil, map[string]int64{"ecc_lifetime_l2_uncorrected_errors_total": 21}, "21"},
	{"ECC_DBE_AGG_DEV", nil, map[string]int64{"ecc_lifetime_dram_uncorrected_errors_total": 22}, "22"},
	{"ECC_DBE_AGG_REG", nil, map[string]int64{"ecc_lifetime_register_file_uncorrected_errors_total": 23}, "23"},
	{"ECC_DBE_AGG_TEX", nil, map[string]int64{"ecc_lifetime_texture_uncorrected_errors_total": 24}, "24"},
}

func gained(metric string) map[string]int64 { return map[string]int64{metric + "_delta": 20} }
func stood(metric string) map[string]int64  { return map[string]int64{metric + "_total": 5} }

func fullName(field string) string {
	if strings.HasPrefix(field, "PROF_") {
		return "DCGM_FI_" + field
	}
	return "DCGM_FI_DEV_" + field
}

func TestDCGMConversions(t *testing.T) {
	tested := map[string]bool{}
	for _, tt := range conversions {
		t.Run(tt.field, func(t *testing.T) {
			n := newNode(t, Options{DCGM: true})
			n.identify(uuid, nil, nil)
			n.sample(0, nil)
			n.health(0, tt.health)
			for range 2 {
				n.now = n.now.Add(time.Second)
				n.sample(time.Second, tt.sample)
			}
			if got := n.value(fullName(tt.field)); got != tt.want {
				t.Errorf("%s is %q, want %q", fullName(tt.field), got, tt.want)
			}
		})
		tested[fullName(tt.field)] = true
	}
	for _, f := range dcgmFields() {
		if !tested[f.name] {
			t.Errorf("no conversion to %s is tested", f.name)
		}
		delete(tested, f.name)
	}
	for name := range tested {
		t.Errorf("%s is tested, and not shown", name)
	}
}

// TestDCGMShowsNothingUnknown: a GPU that answers nothing has its XID alone.
func TestDCGMShowsNothingUnknown(t *testing.T) {
	n := newNode(t, Options{DCGM: true})
	n.identify(uuid, nil, nil)
	n.sample(0, nil)
	n.health(0, nil)
	if text := n.text(); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, dcgmXID+"{") {
		t.Errorf("shown:\n%s", text)
	}
}

// TestFreeMemoryIsNeverNegative: the parts are not read at the same instant.
func TestFreeMemoryIsNeverNegative(t *testing.T) {
	n := newNode(t, Options{DCGM: true})
	n.identify(uuid, nil, nil)
	n.health(0, map[string]int64{"memory_total_bytes": 1 << 30, "memory_reserved_bytes": 1 << 29})
	n.sample(0, map[string]int64{"memory_used_bytes": 1 << 30})
	if got := n.value("DCGM_FI_DEV_FB_FREE"); got != "" {
		t.Errorf("free memory is %s", got)
	}
}

func TestDCGMBusID(t *testing.T) {
	for kernel, want := range map[string]string{
		"0000:0a:00.0": "00000000:0A:00.0", "00000000:0A:00.0": "00000000:0A:00.0", "10000:3b:00.0": "00010000:3B:00.0", "": "", "strange": "",
	} {
		if got := dcgmBusID(kernel); got != want {
			t.Errorf("%q becomes %q, want %q", kernel, got, want)
		}
	}
}

// shownByDefault are the fields of dcgm-exporter 4.5's default-counters.csv, but for the vGPU licence, which we do
// not read, and the driver's version, which is a label.
var shownByDefault = strings.Fields(`SM_CLOCK MEM_CLOCK MEMORY_TEMP GPU_TEMP POWER_USAGE TOTAL_ENERGY_CONSUMPTION
	PCIE_REPLAY_COUNTER GPU_UTIL MEM_COPY_UTIL ENC_UTIL DEC_UTIL XID_ERRORS FB_FREE FB_USED FB_RESERVED
	NVLINK_BANDWIDTH_TOTAL UNCORRECTABLE_REMAPPED_ROWS CORRECTABLE_REMAPPED_ROWS ROW_REMAP_FAILURE
	PROF_GR_ENGINE_ACTIVE PROF_PIPE_TENSOR_ACTIVE PROF_DRAM_ACTIVE PROF_PCIE_TX_BYTES PROF_PCIE_RX_BYTES`)

func TestAllDefaultsAreShown(t *testing.T) {
	fields := dcgmFields()
	for _, name := range shownByDefault {
		name = fullName(name)
		if name != dcgmXID && !slices.ContainsFunc(fields, func(f field) bool { return f.name == name }) {
			t.Errorf("%s is not shown", name)
		}
	}
}

// TestDocumentHasTheTable compares the table of docs/neighbours.md with the fields.
func TestDocumentHasTheTable(t *testing.T) {
	const document = "../../../docs/neighbours.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want, err := docpage.WithTable(string(text), "table of agent/internal/exposition", fieldTable())
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if want != string(text) {
		t.Errorf("the table of %s is not that of the fields: cat %s > docs/neighbours.md", document, keep(t, "neighbours.md", []byte(want)))
	}
}

func fieldTable() string {
	var b strings.Builder
	b.WriteString("| field | unit | default | from |\n| --- | --- | --- | --- |\n")
	row := func(name, unit, from string) {
		byDefault := ""
		if slices.ContainsFunc(shownByDefault, func(s string) bool { return fullName(s) == name }) {
			byDefault = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, unit, byDefault, from)
	}
	for _, f := range dcgmFields() {
		unit := f.unit
		if f.kind == prometheus.CounterValue {
			unit += ", counter"
		}
		row(f.name, unit, "`"+strings.Join(f.from, "`, `")+"`")
	}
	row(dcgmXID, "code", "`xid` of `gpu_events`")
	return b.String()
}
