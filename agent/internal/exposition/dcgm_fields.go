// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

var dcgmClocks = []field{
	{name: "DCGM_FI_DEV_SM_CLOCK", kind: gauge, unit: "MHz", from: []string{"sm_clock_megahertz"}, help: "Clock of the multiprocessors, in MHz."},
	{name: "DCGM_FI_DEV_MEM_CLOCK", kind: gauge, unit: "MHz", from: []string{"memory_clock_megahertz"}, help: "Clock of the memory, in MHz."},
	{name: "DCGM_FI_DEV_MEMORY_TEMP", kind: gauge, unit: "°C", from: []string{"memory_temperature_celsius"}, help: "Temperature of the memory, in degrees Celsius."},
	{name: "DCGM_FI_DEV_GPU_TEMP", kind: gauge, unit: "°C", from: []string{"gpu_temperature_celsius"}, help: "Temperature of the GPU, in degrees Celsius."},
	{name: "DCGM_FI_DEV_GPU_TEMP_LIMIT", kind: gauge, unit: "°C", from: []string{"temperature_margin_celsius"}, help: "Degrees Celsius left until the GPU slows down."},
	{name: "DCGM_FI_DEV_POWER_USAGE", kind: gauge, unit: "W", from: []string{"power_average_watts", "power_instant_watts"}, help: "Power drawn, in W: over a second, where the GPU has that, else at this instant."},
	{name: "DCGM_FI_DEV_POWER_USAGE_INSTANT", kind: gauge, unit: "W", from: []string{"power_instant_watts"}, help: "Power drawn at this instant, in W."},
	{name: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", kind: counter, unit: "mJ", from: []string{"energy_millijoules"}, help: "Energy drawn, in mJ."},
	{name: "DCGM_FI_DEV_POWER_MGMT_LIMIT", kind: gauge, unit: "W", from: []string{"power_limit_requested_watts"}, help: "Power limit that was asked for, in W."},
	{name: "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF", kind: gauge, unit: "W", from: []string{"power_limit_default_watts"}, help: "Power limit after a reset, in W."},
	{name: "DCGM_FI_DEV_ENFORCED_POWER_LIMIT", kind: gauge, unit: "W", from: []string{"power_limit_watts"}, help: "Power limit in force, in W."},
	{name: "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", kind: gauge, unit: "bits", from: []string{"clocks_event_reasons"}, help: "Why the clocks are where they are, as a bit mask."},
	{name: "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", kind: gauge, unit: "bits", from: []string{"clocks_event_reasons"}, help: "The older name of DCGM_FI_DEV_CLOCKS_EVENT_REASONS."},
	{name: "DCGM_FI_DEV_PSTATE", kind: gauge, unit: "0 to 15", from: []string{"performance_state"}, help: "P-state: 0 is the fastest."},
}

var dcgmUse = []field{
	{name: "DCGM_FI_DEV_GPU_UTIL", kind: gauge, unit: "%", from: []string{"gpu_utilization_permille"}, divide: 10, whole: true, help: "Share of time in which a kernel ran, in percent."},
	{name: "DCGM_FI_DEV_MEM_COPY_UTIL", kind: gauge, unit: "%", from: []string{"memory_busy_permille"}, divide: 10, whole: true, help: "Share of time in which memory was read or written, in percent."},
	{name: "DCGM_FI_DEV_ENC_UTIL", kind: gauge, unit: "%", from: []string{"encoder_utilization_permille"}, divide: 10, whole: true, help: "Use of the video encoder, in percent."},
	{name: "DCGM_FI_DEV_DEC_UTIL", kind: gauge, unit: "%", from: []string{"decoder_utilization_permille"}, divide: 10, whole: true, help: "Use of the video decoder, in percent."},
}

const mebibyte = 1 << 20

// dcgmMemory is in MiB, cut off, as DCGM does it. NVML's free memory is what is neither reserved nor used.
func dcgmMemory() []field {
	free := func(_ *view, v []float64) (float64, bool) { return v[0] - v[1] - v[2], v[0] >= v[1]+v[2] }
	share := func(_ *view, v []float64) (float64, bool) { return v[2] / (v[0] - v[1]), v[0] > v[1] }
	parts := []string{"memory_total_bytes", "memory_reserved_bytes", "memory_used_bytes"}
	return []field{
		{name: "DCGM_FI_DEV_FB_TOTAL", kind: gauge, unit: "MiB", from: parts[:1], divide: mebibyte, whole: true, help: "Memory in all, in MiB."},
		{name: "DCGM_FI_DEV_FB_RESERVED", kind: gauge, unit: "MiB", from: parts[1:2], divide: mebibyte, whole: true, help: "Memory that the driver keeps for itself, in MiB."},
		{name: "DCGM_FI_DEV_FB_USED", kind: gauge, unit: "MiB", from: parts[2:], divide: mebibyte, whole: true, help: "Memory in use, in MiB."},
		{name: "DCGM_FI_DEV_FB_FREE", kind: gauge, unit: "MiB", from: parts, compute: free, divide: mebibyte, whole: true, help: "Memory that is free, in MiB."},
		{name: "DCGM_FI_DEV_FB_USED_PERCENT", kind: gauge, unit: "0 to 1", from: parts, compute: share, help: "Memory in use as a share of what is not reserved, from 0 to 1."},
		{name: "DCGM_FI_DEV_BAR1_USED", kind: gauge, unit: "MiB", from: []string{"bar1_used_bytes"}, divide: mebibyte, whole: true, help: "BAR1 address space in use, in MiB."},
	}
}

var dcgmFaults = []field{
	{name: "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", kind: counter, unit: "count", from: []string{"pcie_replays"}, help: "PCIe replays."},
	{name: "DCGM_FI_DEV_RETIRED_SBE", kind: counter, unit: "pages", from: []string{"retired_pages_corrected"}, help: "Memory pages retired after corrected errors."},
	{name: "DCGM_FI_DEV_RETIRED_DBE", kind: counter, unit: "pages", from: []string{"retired_pages_uncorrected"}, help: "Memory pages retired after uncorrected errors."},
	{name: "DCGM_FI_DEV_RETIRED_PENDING", kind: counter, unit: "0 or 1", from: []string{"retired_pages_pending"}, help: "1 if a page will be retired at the next reset."},
	{name: "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", kind: counter, unit: "rows", from: []string{"remapped_rows_uncorrected"}, help: "Memory rows remapped after uncorrected errors."},
	{name: "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", kind: counter, unit: "rows", from: []string{"remapped_rows_corrected"}, help: "Memory rows remapped after corrected errors."},
	{name: "DCGM_FI_DEV_ROW_REMAP_FAILURE", kind: gauge, unit: "0 or 1", from: []string{"row_remap_failure"}, help: "1 if a row could not be remapped."},
	{name: "DCGM_FI_DEV_ROW_REMAP_PENDING", kind: gauge, unit: "0 or 1", from: []string{"row_remap_pending"}, help: "1 if a row will be remapped at the next reset."},
	{name: "DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION", kind: gauge, unit: "code", from: []string{"recovery_action"}, help: "What the driver asks for, as NVML numbers it."},
}

// dcgmThrottles are in nanoseconds; they are kept in microseconds.
var dcgmThrottles = []field{
	{name: "DCGM_FI_DEV_POWER_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_power_microseconds"}, multiply: 1000, help: "Time that the power cap held clocks down, in ns."},
	{name: "DCGM_FI_DEV_THERMAL_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_thermal_microseconds"}, multiply: 1000, help: "Time that heat held clocks down, in ns."},
	{name: "DCGM_FI_DEV_SYNC_BOOST_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_sync_boost_microseconds"}, multiply: 1000, help: "Time that a sync boost group held clocks down, in ns."},
	{name: "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_board_limit_microseconds"}, multiply: 1000, help: "Time that limits of the board held clocks down, in ns."},
	{name: "DCGM_FI_DEV_LOW_UTIL_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_low_utilization_microseconds"}, multiply: 1000, help: "Time that clocks were down because there was little to do, in ns."},
	{name: "DCGM_FI_DEV_RELIABILITY_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_reliability_microseconds"}, multiply: 1000, help: "Time that the reliability limit held clocks down, in ns."},
	{name: "DCGM_FI_DEV_TOTAL_APP_CLOCKS_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_application_clocks_microseconds"}, multiply: 1000, help: "Time below the application clocks, in ns."},
	{name: "DCGM_FI_DEV_TOTAL_BASE_CLOCKS_VIOLATION", kind: counter, unit: "ns", from: []string{"throttle_base_clocks_microseconds"}, multiply: 1000, help: "Time below the base clocks, in ns."},
}

var dcgmLinks = []field{
	{
		name: "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", kind: counter, unit: "thousands of KiB/s", from: []string{"nvlink_tx_bytes", "nvlink_rx_bytes"}, compute: nvlinkBandwidth, whole: true,
		help: "NVLink traffic of all links, both ways, in thousands of KiB per second: a rate, although dcgm-exporter calls it a counter.",
	},
	{name: "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", kind: counter, unit: "count", from: []string{"nvlink_crc_errors"}, help: "NVLink flow control CRC errors, all links."},
	{name: "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", kind: counter, unit: "count", from: []string{"nvlink_crc_data_errors"}, help: "NVLink data CRC errors, all links."},
	{name: "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", kind: counter, unit: "count", from: []string{"nvlink_replay_errors"}, help: "NVLink replays, all links."},
	{name: "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", kind: counter, unit: "count", from: []string{"nvlink_recovery_errors"}, help: "NVLink recoveries, all links."},
	{name: "DCGM_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL", kind: counter, unit: "count", from: []string{"nvlink_ecc_data_errors"}, help: "NVLink data ECC errors, all links."},
	{name: "DCGM_FI_DEV_PCIE_LINK_GEN", kind: gauge, unit: "generation", from: []string{"pcie_link_generation"}, help: "PCIe generation of the link."},
	{name: "DCGM_FI_DEV_PCIE_LINK_WIDTH", kind: gauge, unit: "lanes", from: []string{"pcie_link_width"}, help: "PCIe lanes in use."},
}

// nvlinkBandwidth is what both directions gained, over the time in which they did. DCGM takes NVML's KiB
// and divides by 1000.
func nvlinkBandwidth(v *view, _ []float64) (float64, bool) {
	var sum float64
	for _, column := range []string{"nvlink_tx_bytes_delta", "nvlink_rx_bytes_delta"} {
		i := samples().place(column)
		gained, ok := v.sample(i)
		if period := v.samples[i].period; ok && period > 0 {
			sum += float64(gained) / 1024 / (float64(period) / 1000)
			continue
		}
		return 0, false
	}
	return sum / 1000, true
}

var dcgmProfile = []field{
	{name: "DCGM_FI_PROF_GR_ENGINE_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"graphics_active_permille"}, divide: 1000, help: "Share of time in which a graphics or compute engine was active."},
	{name: "DCGM_FI_PROF_SM_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"sm_active_permille"}, divide: 1000, help: "Share of cycles in which a multiprocessor had a warp."},
	{name: "DCGM_FI_PROF_SM_OCCUPANCY", kind: gauge, unit: "0 to 1", from: []string{"sm_occupancy_permille"}, divide: 1000, help: "Resident warps as a share of the most that fit."},
	{name: "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"tensor_active_permille"}, divide: 1000, help: "Share of cycles in which a tensor pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_TENSOR_IMMA_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"tensor_imma_active_permille"}, divide: 1000, help: "Share of cycles in which the integer tensor pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_TENSOR_HMMA_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"tensor_hmma_active_permille"}, divide: 1000, help: "Share of cycles in which the half precision tensor pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_TENSOR_DFMA_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"tensor_dfma_active_permille"}, divide: 1000, help: "Share of cycles in which the FP64 tensor pipe was active."},
	{name: "DCGM_FI_PROF_DRAM_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"dram_active_permille"}, divide: 1000, help: "Memory traffic as a share of the most that is possible."},
	{name: "DCGM_FI_PROF_PIPE_FP64_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"fp64_active_permille"}, divide: 1000, help: "Share of cycles in which the FP64 pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_FP32_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"fp32_active_permille"}, divide: 1000, help: "Share of cycles in which the FP32 pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_FP16_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"fp16_active_permille"}, divide: 1000, help: "Share of cycles in which the FP16 pipe was active."},
	{name: "DCGM_FI_PROF_PIPE_INT_ACTIVE", kind: gauge, unit: "0 to 1", from: []string{"integer_active_permille"}, divide: 1000, help: "Share of cycles in which the integer pipe was active."},
	{name: "DCGM_FI_PROF_PCIE_TX_BYTES", kind: gauge, unit: "B/s", from: []string{"pcie_tx_mebibytes_per_second"}, multiply: mebibyte, help: "PCIe traffic sent by the GPU, in bytes per second."},
	{name: "DCGM_FI_PROF_PCIE_RX_BYTES", kind: gauge, unit: "B/s", from: []string{"pcie_rx_mebibytes_per_second"}, multiply: mebibyte, help: "PCIe traffic received by the GPU, in bytes per second."},
	{name: "DCGM_FI_PROF_NVLINK_TX_BYTES", kind: gauge, unit: "B/s", from: []string{"nvlink_tx_mebibytes_per_second"}, multiply: mebibyte, help: "NVLink traffic sent, in bytes per second."},
	{name: "DCGM_FI_PROF_NVLINK_RX_BYTES", kind: gauge, unit: "B/s", from: []string{"nvlink_rx_mebibytes_per_second"}, multiply: mebibyte, help: "NVLink traffic received, in bytes per second."},
}

// dcgmECC are the errors by location: single bit (SBE) are corrected, double bit (DBE) are not; VOL counts
// since the driver was loaded, AGG over the life of the GPU.
func dcgmECC() []field {
	var all []field
	for _, scope := range [][2]string{{"VOL", "volatile"}, {"AGG", "lifetime"}} {
		for _, bits := range [][2]string{{"SBE", "corrected"}, {"DBE", "uncorrected"}} {
			for _, place := range [][2]string{{"TOTAL", ""}, {"L1", "l1_"}, {"L2", "l2_"}, {"DEV", "dram_"}, {"REG", "register_file_"}, {"TEX", "texture_"}} {
				all = append(all, field{
					name: strings.Join([]string{"DCGM_FI_DEV_ECC", bits[0], scope[0], place[0]}, "_"), kind: counter, unit: "count",
					from: []string{"ecc_" + scope[1] + "_" + place[1] + bits[1] + "_errors"},
					help: "Memory errors: " + bits[1] + ", " + scope[1] + ", " + place[0] + ".",
				})
			}
		}
	}
	return all
}
