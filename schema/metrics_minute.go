// SPDX-License-Identifier: Apache-2.0

package schema

var stateMetrics = []Metric{
	{
		Name: "performance_state", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "P-state: 0 is the fastest, 15 the slowest.",
		Sources: from(getter("nvmlDeviceGetPerformanceState", 0)),
	},
	{
		Name: "recovery_action", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", OTel: "hw.status",
		Meaning: "What the driver asks for: 0 none, 1 reset the GPU, 2 reboot the node, 3 drain peer-to-peer, 4 drain and reset, 5 recover the IMEX domain, 6 reset the bus, 7 reboot the system.",
		Sources: from(field("DEV_GET_GPU_RECOVERY_ACTION")),
	},
	{
		Name: "reset_status", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a GPU reset is required.",
		Sources: from(field("DEV_RESET_STATUS")),
	},
	{
		Name: "drain_and_reset_status", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if draining and a reset are recommended.",
		Sources: from(field("DEV_DRAIN_AND_RESET_STATUS")),
	},
	{
		Name: "encoder_utilization_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", OTel: "hw.gpu.utilization",
		Meaning: "Share of time in which the video encoder was busy.",
		Sources: from(scaled(getter("nvmlDeviceGetEncoderUtilization", 0), 10, 1)),
	},
	{
		Name: "decoder_utilization_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", OTel: "hw.gpu.utilization",
		Meaning: "Share of time in which the video decoder was busy.",
		Sources: from(scaled(getter("nvmlDeviceGetDecoderUtilization", 0), 10, 1)),
	},
	{
		Name: "jpeg_utilization_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", OTel: "hw.gpu.utilization",
		Meaning: "Share of time in which the JPEG decoder was busy.",
		Sources: from(scaled(getter("nvmlDeviceGetJpgUtilization", 0), 10, 1)),
	},
	{
		Name: "optical_flow_utilization_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", OTel: "hw.gpu.utilization",
		Meaning: "Share of time in which the optical flow engine was busy.",
		Sources: from(scaled(getter("nvmlDeviceGetOfaUtilization", 0), 10, 1)),
	},
	{
		Name: "mma_stall_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", Requires: blackwell,
		Meaning: "Share of time in which matrix instructions stalled; newest drivers only.",
		Sources: from(scaled(field("DEV_MMA_STALL_PERCENT"), 10, 1)),
	},
	{
		Name: "bar1_used_bytes", Type: Uint64, Tier: TierMinute, Unit: "By",
		Meaning: "BAR1 address space in use.",
		Sources: from(getter("nvmlDeviceGetBAR1MemoryInfo", 2)),
	},
}

var limitMetrics = []Metric{
	{
		Name: "memory_total_bytes", Type: Uint64, Tier: TierMinute, Unit: "By", OTel: "hw.gpu.memory.limit",
		Meaning: "Device memory in all.",
		Sources: from(getter("nvmlDeviceGetMemoryInfo_v2", 0)),
	},
	{
		Name: "memory_reserved_bytes", Type: Uint64, Tier: TierMinute, Unit: "By",
		Meaning: "Device memory that the driver keeps for itself.",
		Sources: from(getter("nvmlDeviceGetMemoryInfo_v2", 1)),
	},
	{
		Name: "power_limit_watts", Type: Uint16, Tier: TierMinute, Unit: "W",
		Meaning: "Power limit in force.",
		Sources: from(scaled(field("DEV_POWER_CURRENT_LIMIT"), 1, 1000)),
	},
	{
		Name: "power_limit_requested_watts", Type: Uint16, Tier: TierMinute, Unit: "W",
		Meaning: "Power limit that was asked for.",
		Sources: from(scaled(field("DEV_POWER_REQUESTED_LIMIT"), 1, 1000)),
	},
	{
		Name: "power_limit_default_watts", Type: Uint16, Tier: TierMinute, Unit: "W",
		Meaning: "Power limit after a reset.",
		Sources: from(scaled(field("DEV_POWER_DEFAULT_LIMIT"), 1, 1000)),
	},
	{
		Name: "power_sync_balancing_frequency", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: grace,
		Meaning: "Power sync balancing frequency, as the driver gives it.",
		Sources: from(field("DEV_POWER_SYNC_BALANCING_FREQ")),
	},
	{
		Name: "power_sync_balancing_factor", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: grace,
		Meaning: "Power sync balancing algorithm factor, as the driver gives it.",
		Sources: from(field("DEV_POWER_SYNC_BALANCING_AF")),
	},
}

var remapMetrics = []Metric{
	{
		Name: "remapped_rows_corrected", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{row}",
		Meaning: "Memory rows remapped after corrected errors.",
		Sources: from(field("DEV_REMAPPED_COR")),
	},
	{
		Name: "remapped_rows_uncorrected", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{row}",
		Meaning: "Memory rows remapped after uncorrected errors.",
		Sources: from(field("DEV_REMAPPED_UNC")),
	},
	{
		Name: "row_remap_pending", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a row will be remapped at the next reset.",
		Sources: from(field("DEV_REMAPPED_PENDING")),
	},
	{
		Name: "row_remap_failure", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a row could not be remapped: a reason to replace the GPU.",
		Sources: from(field("DEV_REMAPPED_FAILURE")),
	},
	{
		Name: "remapped_rows_corrected_inactive", Type: Uint32, Tier: TierMinute, Unit: "{row}",
		Meaning: "Rows remapped after corrected errors that are not in force yet.",
		Sources: from(field("DEV_REMAPPED_ROWS_COR_INACTIVE")),
	},
	{
		Name: "remapped_rows_uncorrected_inactive", Type: Uint32, Tier: TierMinute, Unit: "{row}",
		Meaning: "Rows remapped after uncorrected errors that are not in force yet.",
		Sources: from(field("DEV_REMAPPED_ROWS_UNC_INACTIVE")),
	},
	{
		Name: "retired_pages_corrected", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{page}",
		Meaning: "Memory pages retired after corrected errors (before A100).",
		Sources: from(field("DEV_RETIRED_SBE")),
	},
	{
		Name: "retired_pages_uncorrected", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{page}",
		Meaning: "Memory pages retired after uncorrected errors (before A100).",
		Sources: from(field("DEV_RETIRED_DBE")),
	},
	{
		Name: "retired_pages_pending", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a page will be retired at the next reset (before A100).",
		Sources: from(field("DEV_RETIRED_PENDING")),
	},
}

var fabricMetrics = []Metric{
	{
		Name: "fabric_state", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: hopper,
		Meaning: "Registration with the fabric: 0 not supported, 1 not started, 2 in progress, 3 completed.",
		Sources: from(getter("nvmlDeviceGetGpuFabricInfoV", 0)),
	},
	{
		Name: "fabric_status", Type: Uint32, Kind: State, Tier: TierMinute, Unit: "1", Requires: hopper,
		Meaning: "Return code of the registration with the fabric; 0 is success.",
		Sources: from(getter("nvmlDeviceGetGpuFabricInfoV", 1)),
	},
	{
		Name: "fabric_health_mask", Type: Uint32, Kind: State, Tier: TierMinute, Unit: "1", Requires: hopper,
		Meaning: "Health of the fabric as nvml.h's bit groups: degraded bandwidth, route recovery, route unhealthy, access timeout, misconfiguration.",
		Sources: from(getter("nvmlDeviceGetGpuFabricInfoV", 3)),
	},
	{
		Name: "fabric_health_summary", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: hopper,
		Meaning: "Health of the fabric in one code: 0 not supported, 1 healthy, 2 unhealthy, 3 limited capacity.",
		Sources: from(getter("nvmlDeviceGetGpuFabricInfoV", 4)),
	},
	{
		Name: "c2c_links", Type: Uint8, Tier: TierMinute, Unit: "{link}", Requires: grace,
		Meaning: "NVLink-C2C links to the Grace CPU.",
		Sources: from(field("DEV_C2C_LINK_COUNT")),
	},
	{
		Name: "c2c_active_links", Type: Uint8, Tier: TierMinute, Unit: "{link}", Requires: grace,
		Meaning: "NVLink-C2C links that are up.",
		Sources: from(perLink("DEV_C2C_LINK_GET_STATUS", Sum)),
	},
	{
		Name: "c2c_max_bandwidth_megabytes_per_second", Type: Uint32, Tier: TierMinute, Unit: "MBy/s", Requires: grace,
		Meaning: "Most that one NVLink-C2C link can carry.",
		Sources: from(field("DEV_C2C_LINK_GET_MAX_BW")),
	},
	{
		Name: "c2c_interrupt_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: grace, OTel: "hw.errors",
		Meaning: "NVLink-C2C errors that raised an interrupt.",
		Sources: from(field("DEV_C2C_LINK_ERROR_INTR")),
	},
	{
		Name: "c2c_replay_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: grace, OTel: "hw.errors",
		Meaning: "NVLink-C2C replays.",
		Sources: from(field("DEV_C2C_LINK_ERROR_REPLAY")),
	},
	{
		Name: "c2c_replay_back_to_back_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: grace, OTel: "hw.errors",
		Meaning: "NVLink-C2C replays, back to back.",
		Sources: from(field("DEV_C2C_LINK_ERROR_REPLAY_B2B")),
	},
	{
		Name: "c2c_power_state", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: grace,
		Meaning: "Power state of NVLink-C2C.",
		Sources: from(field("DEV_C2C_LINK_POWER_STATE")),
	},
}

var smoothingMetrics = []Metric{
	{
		Name: "power_smoothing_enabled", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "1 if power smoothing is on.",
		Sources: from(field("PWR_SMOOTHING_ENABLED")),
	},
	{
		Name: "power_smoothing_ceiling_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Power smoothing: total module power ceiling in force.",
		Sources: from(scaled(field("PWR_SMOOTHING_APPLIED_TMP_CEIL"), 1000, 1)),
	},
	{
		Name: "power_smoothing_floor_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Power smoothing: total module power floor in force.",
		Sources: from(scaled(field("PWR_SMOOTHING_APPLIED_TMP_FLOOR"), 1000, 1)),
	},
	{
		Name: "power_smoothing_lifetime_remaining_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", Requires: blackwell,
		Meaning: "Life left in the power smoothing circuit, in nvml.h a percentage in 16.16 fixed point.",
		Sources: from(scaled(field("PWR_SMOOTHING_HW_CIRCUITRY_PERCENT_LIFETIME_REMAINING"), 10, 65536)),
	},
	{
		Name: "power_smoothing_preset_profile", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Power smoothing preset profile in force.",
		Sources: from(field("PWR_SMOOTHING_ACTIVE_PRESET_PROFILE")),
	},
}
