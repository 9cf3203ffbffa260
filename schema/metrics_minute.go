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
		Name: "graphics_clock_megahertz", Type: Uint16, Tier: TierMinute, Unit: "MHz",
		Meaning: "Clock of the graphics engine.",
		Sources: from(clock("Graphics")),
	},
	{
		Name: "video_clock_megahertz", Type: Uint16, Tier: TierMinute, Unit: "MHz",
		Meaning: "Clock of the video engines.",
		Sources: from(clock("Video")),
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
		Name: "power_limit_enforced_watts", Type: Uint16, Tier: TierMinute, Unit: "W",
		Meaning: "Power limit that is enforced: the lowest of all that were set, in band and out of band.",
		Sources: from(scaled(getter("nvmlDeviceGetEnforcedPowerLimit", 0), 1, 1000)),
	},
	{
		Name: "edpp_multiplier_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", Requires: blackwell,
		Meaning: "Multiplier of the electrical design point peak power, in nvml.h a percentage.",
		Sources: from(scaled(field("DEV_EDPP_MULTIPLIER"), 10, 1)),
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
		Name: "row_remap_banks_max", Type: Uint32, Tier: TierMinute, Unit: "{bank}",
		Meaning: "Memory banks all of whose spare rows are left.",
		Sources: from(getter("nvmlDeviceGetRowRemapperHistogram", 0)),
	},
	{
		Name: "row_remap_banks_high", Type: Uint32, Tier: TierMinute, Unit: "{bank}",
		Meaning: "Memory banks with many spare rows left.",
		Sources: from(getter("nvmlDeviceGetRowRemapperHistogram", 1)),
	},
	{
		Name: "row_remap_banks_partial", Type: Uint32, Tier: TierMinute, Unit: "{bank}",
		Meaning: "Memory banks with some spare rows left.",
		Sources: from(getter("nvmlDeviceGetRowRemapperHistogram", 2)),
	},
	{
		Name: "row_remap_banks_low", Type: Uint32, Tier: TierMinute, Unit: "{bank}",
		Meaning: "Memory banks with few spare rows left.",
		Sources: from(getter("nvmlDeviceGetRowRemapperHistogram", 3)),
	},
	{
		Name: "row_remap_banks_none", Type: Uint32, Tier: TierMinute, Unit: "{bank}",
		Meaning: "Memory banks without a spare row: the next error there cannot be mended.",
		Sources: from(getter("nvmlDeviceGetRowRemapperHistogram", 4)),
	},
	{
		Name: "bank_remaps_active", Type: Uint32, Tier: TierMinute, Unit: "{bank}", Requires: "newest GPUs and drivers",
		Meaning: "Memory banks that are remapped.",
		Sources: from(field("DEV_ACTIVE_BANK_REMAPPINGS")),
	},
	{
		Name: "bank_remaps_inactive", Type: Uint32, Tier: TierMinute, Unit: "{bank}", Requires: "newest GPUs and drivers",
		Meaning: "Memory banks whose remapping is not in force yet.",
		Sources: from(field("DEV_INACTIVE_BANK_REMAPPINGS")),
	},
	{
		Name: "bank_remap_groups_max", Type: Uint32, Tier: TierMinute, Unit: "{group}", Requires: "newest GPUs and drivers",
		Meaning: "Groups of memory banks all of whose spare banks are left.",
		Sources: from(field("DEV_BANK_REMAPPER_HISTOGRAM_MAX")),
	},
	{
		Name: "bank_remap_groups_none", Type: Uint32, Tier: TierMinute, Unit: "{group}", Requires: "newest GPUs and drivers",
		Meaning: "Groups of memory banks without a spare bank.",
		Sources: from(field("DEV_BANK_REMAPPER_HISTOGRAM_NONE")),
	},
	{
		Name: "bank_remap_pending", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: "newest GPUs and drivers",
		Meaning: "1 if a memory bank will be remapped at the next reset.",
		Sources: from(field("DEV_PENDING_BANK_REMAPPING")),
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
		Sources: from(field("DEV_RETIRED_PENDING"), getter("nvmlDeviceGetRetiredPagesPendingStatus", 0)),
	},
	{
		Name: "retired_pages_pending_corrected", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a page will be retired at the next reset after corrected errors (before A100).",
		Sources: from(field("DEV_RETIRED_PENDING_SBE")),
	},
	{
		Name: "retired_pages_pending_uncorrected", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if a page will be retired at the next reset after uncorrected errors (before A100).",
		Sources: from(field("DEV_RETIRED_PENDING_DBE")),
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
