// SPDX-License-Identifier: Apache-2.0

package mapping

import "strings"

// Names is the table, in the order of the documentation. Of several rows of one metric the first that matches counts.
func Names() []Name {
	var all []Name
	for _, group := range [][]Name{semantic, semanticLike, dcgmDevice, dcgmMemory, dcgmCounters, dcgmLinks, dcgmProfile, dcgmECC(), dcgmNotKept} {
		all = append(all, group...)
	}
	return all
}

var onGPU = Attribute{"hw.type", "gpu"}

func task(name string) []Attribute { return []Attribute{{"hw.gpu.task", name}} }

func direction(name string) []Attribute { return []Attribute{{"network.io.direction", name}} }

func errorType(name string) []Attribute { return []Attribute{onGPU, {"error.type", name}} }

func sensor(name string) []Attribute { return []Attribute{onGPU, {"hw.sensor_location", name}} }

// semantic are OpenTelemetry's own names, as of semantic conventions 1.38.
var semantic = []Name{
	{Metric: "hw.gpu.utilization", Unit: "1", Where: task(""), Column: "gpu_utilization_permille", Multiply: 1000},
	{Metric: "hw.gpu.utilization", Unit: "1", Where: task("general"), Column: "gpu_utilization_permille", Multiply: 1000},
	{Metric: "hw.gpu.utilization", Unit: "1", Where: task("encoder"), Column: "encoder_utilization_permille", Multiply: 1000},
	{Metric: "hw.gpu.utilization", Unit: "1", Where: task("decoder"), Column: "decoder_utilization_permille", Multiply: 1000},
	{Metric: "hw.gpu.memory.usage", Unit: "By", Column: "memory_used_bytes"},
	{Metric: "hw.gpu.memory.limit", Unit: "By", Column: "memory_total_bytes"},
	{Metric: "hw.gpu.memory.utilization", Unit: "1", Note: "follows from usage and limit"},
	{Metric: "hw.gpu.io", Unit: "By", Where: direction("transmit"), Column: "pcie_tx_bytes"},
	{Metric: "hw.gpu.io", Unit: "By", Where: direction("receive"), Column: "pcie_rx_bytes"},
	{Metric: "hw.power", Unit: "W", Where: []Attribute{onGPU}, Column: "power_instant_watts"},
	{Metric: "hw.energy", Unit: "J", Where: []Attribute{onGPU}, Column: "energy_millijoules", Multiply: 1000},
	{Metric: "hw.temperature", Unit: "Cel", Where: sensor("memory"), Column: "memory_temperature_celsius"},
	{Metric: "hw.temperature", Unit: "Cel", Where: sensor("gpu"), Column: "gpu_temperature_celsius"},
	{Metric: "hw.temperature", Unit: "Cel", Where: sensor(""), Column: "gpu_temperature_celsius"},
	{Metric: "hw.errors", Unit: "{error}", Where: errorType("corrected"), Column: "ecc_volatile_corrected_errors"},
	{Metric: "hw.errors", Unit: "{error}", Where: errorType("uncorrected"), Column: "ecc_volatile_uncorrected_errors"},
	{Metric: "hw.status", Unit: "1", Where: []Attribute{onGPU}, Note: "faults come from agents alone"},
}

// semanticLike are names that exporters gave before the conventions had one.
var semanticLike = []Name{
	{Metric: "hw.gpu.temperature", Unit: "Cel", Where: []Attribute{{"hw.sensor_location", "memory"}}, Column: "memory_temperature_celsius"},
	{Metric: "hw.gpu.temperature", Unit: "Cel", Column: "gpu_temperature_celsius"},
	{Metric: "hw.gpu.power.draw", Unit: "W", Column: "power_instant_watts"},
	{Metric: "hw.gpu.power.limit", Unit: "W", Column: "power_limit_watts"},
	{Metric: "hw.gpu.energy.consumed", Unit: "J", Column: "energy_millijoules", Multiply: 1000},
	{Metric: "hw.gpu.clock.graphics", Unit: "MHz", Column: "sm_clock_megahertz"},
	{Metric: "hw.gpu.clock.memory", Unit: "MHz", Column: "memory_clock_megahertz"},
}

const mebibyte = 1 << 20

var dcgmDevice = []Name{
	{Metric: "DCGM_FI_DEV_SM_CLOCK", Family: DCGM, Unit: "MHz", Column: "sm_clock_megahertz"},
	{Metric: "DCGM_FI_DEV_MEM_CLOCK", Family: DCGM, Unit: "MHz", Column: "memory_clock_megahertz"},
	{Metric: "DCGM_FI_DEV_MEMORY_TEMP", Family: DCGM, Unit: "Cel", Column: "memory_temperature_celsius"},
	{Metric: "DCGM_FI_DEV_GPU_TEMP", Family: DCGM, Unit: "Cel", Column: "gpu_temperature_celsius"},
	{Metric: "DCGM_FI_DEV_GPU_TEMP_LIMIT", Family: DCGM, Unit: "Cel", Column: "temperature_margin_celsius"},
	{Metric: "DCGM_FI_DEV_POWER_USAGE", Family: DCGM, Unit: "W", Column: "power_average_watts"},
	{Metric: "DCGM_FI_DEV_POWER_USAGE_INSTANT", Family: DCGM, Unit: "W", Column: "power_instant_watts"},
	{Metric: "DCGM_FI_DEV_POWER_MGMT_LIMIT", Family: DCGM, Unit: "W", Column: "power_limit_requested_watts"},
	{Metric: "DCGM_FI_DEV_POWER_MGMT_LIMIT_DEF", Family: DCGM, Unit: "W", Column: "power_limit_default_watts"},
	{Metric: "DCGM_FI_DEV_ENFORCED_POWER_LIMIT", Family: DCGM, Unit: "W", Column: "power_limit_watts"},
	{Metric: "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", Family: DCGM, Unit: "1", Column: "clocks_event_reasons"},
	{Metric: "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", Family: DCGM, Unit: "1", Column: "clocks_event_reasons"},
	{Metric: "DCGM_FI_DEV_PSTATE", Family: DCGM, Unit: "1", Column: "performance_state"},
	{Metric: "DCGM_FI_DEV_GPU_UTIL", Family: DCGM, Unit: "%", Column: "gpu_utilization_permille", Multiply: 10},
	{Metric: "DCGM_FI_DEV_MEM_COPY_UTIL", Family: DCGM, Unit: "%", Column: "memory_busy_permille", Multiply: 10},
	{Metric: "DCGM_FI_DEV_ENC_UTIL", Family: DCGM, Unit: "%", Column: "encoder_utilization_permille", Multiply: 10},
	{Metric: "DCGM_FI_DEV_DEC_UTIL", Family: DCGM, Unit: "%", Column: "decoder_utilization_permille", Multiply: 10},
	{Metric: "DCGM_FI_DEV_GET_GPU_RECOVERY_ACTION", Family: DCGM, Unit: "1", Column: "recovery_action"},
}

var dcgmMemory = []Name{
	{Metric: "DCGM_FI_DEV_FB_TOTAL", Family: DCGM, Unit: "MiBy", Column: "memory_total_bytes", Multiply: mebibyte},
	{Metric: "DCGM_FI_DEV_FB_RESERVED", Family: DCGM, Unit: "MiBy", Column: "memory_reserved_bytes", Multiply: mebibyte},
	{Metric: "DCGM_FI_DEV_FB_USED", Family: DCGM, Unit: "MiBy", Column: "memory_used_bytes", Multiply: mebibyte},
	{Metric: "DCGM_FI_DEV_BAR1_USED", Family: DCGM, Unit: "MiBy", Column: "bar1_used_bytes", Multiply: mebibyte},
}

var dcgmCounters = []Name{
	{Metric: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Family: DCGM, Unit: "mJ", Column: "energy_millijoules"},
	{Metric: "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Family: DCGM, Unit: "1", Column: "pcie_replays"},
	{Metric: "DCGM_FI_DEV_RETIRED_SBE", Family: DCGM, Unit: "1", Column: "retired_pages_corrected"},
	{Metric: "DCGM_FI_DEV_RETIRED_DBE", Family: DCGM, Unit: "1", Column: "retired_pages_uncorrected"},
	{Metric: "DCGM_FI_DEV_RETIRED_PENDING", Family: DCGM, Unit: "1", Column: "retired_pages_pending"},
	{Metric: "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", Family: DCGM, Unit: "1", Column: "remapped_rows_uncorrected"},
	{Metric: "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", Family: DCGM, Unit: "1", Column: "remapped_rows_corrected"},
	{Metric: "DCGM_FI_DEV_ROW_REMAP_FAILURE", Family: DCGM, Unit: "1", Column: "row_remap_failure"},
	{Metric: "DCGM_FI_DEV_ROW_REMAP_PENDING", Family: DCGM, Unit: "1", Column: "row_remap_pending"},
	{Metric: "DCGM_FI_DEV_POWER_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_power_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_THERMAL_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_thermal_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_SYNC_BOOST_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_sync_boost_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_board_limit_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_LOW_UTIL_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_low_utilization_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_RELIABILITY_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_reliability_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_TOTAL_APP_CLOCKS_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_application_clocks_microseconds", Divide: 1000},
	{Metric: "DCGM_FI_DEV_TOTAL_BASE_CLOCKS_VIOLATION", Family: DCGM, Unit: "ns", Column: "throttle_base_clocks_microseconds", Divide: 1000},
}

var dcgmLinks = []Name{
	{Metric: "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", Family: DCGM, Unit: "1", Column: "nvlink_crc_errors"},
	{Metric: "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", Family: DCGM, Unit: "1", Column: "nvlink_crc_data_errors"},
	{Metric: "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", Family: DCGM, Unit: "1", Column: "nvlink_replay_errors"},
	{Metric: "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", Family: DCGM, Unit: "1", Column: "nvlink_recovery_errors"},
	{Metric: "DCGM_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL", Family: DCGM, Unit: "1", Column: "nvlink_ecc_data_errors"},
	{Metric: "DCGM_FI_DEV_PCIE_LINK_GEN", Family: DCGM, Unit: "1", Column: "pcie_link_generation"},
	{Metric: "DCGM_FI_DEV_PCIE_LINK_WIDTH", Family: DCGM, Unit: "1", Column: "pcie_link_width"},
}

// dcgmProfile are shares from 0 to 1, and rates in bytes.
var dcgmProfile = []Name{
	{Metric: "DCGM_FI_PROF_GR_ENGINE_ACTIVE", Family: DCGM, Unit: "1", Column: "graphics_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_SM_ACTIVE", Family: DCGM, Unit: "1", Column: "sm_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_SM_OCCUPANCY", Family: DCGM, Unit: "1", Column: "sm_occupancy_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", Family: DCGM, Unit: "1", Column: "tensor_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_TENSOR_IMMA_ACTIVE", Family: DCGM, Unit: "1", Column: "tensor_imma_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_TENSOR_HMMA_ACTIVE", Family: DCGM, Unit: "1", Column: "tensor_hmma_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_TENSOR_DFMA_ACTIVE", Family: DCGM, Unit: "1", Column: "tensor_dfma_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_DRAM_ACTIVE", Family: DCGM, Unit: "1", Column: "dram_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_FP64_ACTIVE", Family: DCGM, Unit: "1", Column: "fp64_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_FP32_ACTIVE", Family: DCGM, Unit: "1", Column: "fp32_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_FP16_ACTIVE", Family: DCGM, Unit: "1", Column: "fp16_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PIPE_INT_ACTIVE", Family: DCGM, Unit: "1", Column: "integer_active_permille", Multiply: 1000},
	{Metric: "DCGM_FI_PROF_PCIE_TX_BYTES", Family: DCGM, Unit: "By/s", Column: "pcie_tx_mebibytes_per_second", Divide: mebibyte},
	{Metric: "DCGM_FI_PROF_PCIE_RX_BYTES", Family: DCGM, Unit: "By/s", Column: "pcie_rx_mebibytes_per_second", Divide: mebibyte},
	{Metric: "DCGM_FI_PROF_NVLINK_TX_BYTES", Family: DCGM, Unit: "By/s", Column: "nvlink_tx_mebibytes_per_second", Divide: mebibyte},
	{Metric: "DCGM_FI_PROF_NVLINK_RX_BYTES", Family: DCGM, Unit: "By/s", Column: "nvlink_rx_mebibytes_per_second", Divide: mebibyte},
}

// dcgmECC are the errors by location: single bit (SBE) are corrected, double bit (DBE) are not; VOL counts since the
// driver was loaded, AGG over the life of the GPU.
func dcgmECC() []Name {
	var all []Name
	for _, scope := range [][2]string{{"VOL", "volatile"}, {"AGG", "lifetime"}} {
		for _, kind := range [][2]string{{"SBE", "corrected"}, {"DBE", "uncorrected"}} {
			for _, place := range [][2]string{{"TOTAL", ""}, {"L1", "l1_"}, {"L2", "l2_"}, {"DEV", "dram_"}, {"REG", "register_file_"}, {"TEX", "texture_"}} {
				all = append(all, Name{
					Metric: strings.Join([]string{"DCGM_FI_DEV_ECC", kind[0], scope[0], place[0]}, "_"), Family: DCGM, Unit: "1",
					Column: "ecc_" + scope[1] + "_" + place[1] + kind[1] + "_errors",
				})
			}
		}
	}
	return all
}

var dcgmNotKept = []Name{
	{Metric: "DCGM_FI_DEV_FB_FREE", Family: DCGM, Unit: "MiBy", Note: "follows from total, reserved and used"},
	{Metric: "DCGM_FI_DEV_FB_USED_PERCENT", Family: DCGM, Unit: "1", Note: "follows from total, reserved and used"},
	{Metric: "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", Family: DCGM, Note: "a rate that is called a counter"},
	{Metric: "DCGM_FI_DEV_VGPU_LICENSE_STATUS", Family: DCGM, Unit: "1", Note: "gpufleet does not read vGPU licences"},
	{Metric: "DCGM_FI_DEV_XID_ERRORS", Family: DCGM, Unit: "1", Note: "the last code alone, for ever: faults come from agents"},
}
