// SPDX-License-Identifier: Apache-2.0

package schema

var activityMetrics = []Metric{
	{
		Name: "gpu_utilization_permille", Type: Uint16, Sketch: true, Unit: "‰", OTel: "hw.gpu.utilization",
		Meaning: "Share of the driver's last sampling period (1/6 s to 1 s) in which a kernel ran. Says nothing of how much of the GPU it used: see sm_active_permille.",
		Sources: from(scaled(ring(ringGPUUtilization, Last), 10, 1), scaled(getter("nvmlDeviceGetUtilizationRates", 0), 10, 1)),
	},
	{
		Name: "gpu_utilization_min_permille", Type: Uint16, Unit: "‰",
		Meaning: "Lowest driver sample of gpu_utilization_permille since the previous row.",
		Sources: from(scaled(ring(ringGPUUtilization, Min), 10, 1)),
	},
	{
		Name: "gpu_utilization_mean_permille", Type: Uint16, Unit: "‰",
		Meaning: "Mean of the driver's samples of gpu_utilization_permille since the previous row.",
		Sources: from(scaled(ring(ringGPUUtilization, Mean), 10, 1)),
	},
	{
		Name: "gpu_utilization_max_permille", Type: Uint16, Unit: "‰",
		Meaning: "Highest driver sample of gpu_utilization_permille since the previous row.",
		Sources: from(scaled(ring(ringGPUUtilization, Max), 10, 1)),
	},
	{
		Name: "memory_busy_permille", Type: Uint16, Unit: "‰",
		Meaning: "Share of the driver's last sampling period in which device memory was read or written. Not how full it is: see memory_used_bytes. Read each 30 s of a GPU that has dram_active_permille.",
		Sources: from(scaled(ring(ringMemoryUtilization, Last), 10, 1), scaled(getter("nvmlDeviceGetUtilizationRates", 1), 10, 1)),
	},
	{
		Name: "memory_busy_min_permille", Type: Uint16, Unit: "‰",
		Meaning: "Lowest driver sample of memory_busy_permille since the previous row.",
		Sources: from(scaled(ring(ringMemoryUtilization, Min), 10, 1)),
	},
	{
		Name: "memory_busy_mean_permille", Type: Uint16, Unit: "‰",
		Meaning: "Mean of the driver's samples of memory_busy_permille since the previous row.",
		Sources: from(scaled(ring(ringMemoryUtilization, Mean), 10, 1)),
	},
	{
		Name: "memory_busy_max_permille", Type: Uint16, Unit: "‰",
		Meaning: "Highest driver sample of memory_busy_permille since the previous row.",
		Sources: from(scaled(ring(ringMemoryUtilization, Max), 10, 1)),
	},
	{
		Name: "memory_used_bytes", Type: Uint64, Sketch: true, Unit: "By", OTel: "hw.gpu.memory.usage",
		Meaning: "Device memory in use, without what the driver reserves.",
		Sources: from(getter("nvmlDeviceGetMemoryInfo_v2", 3)),
	},
	{
		Name: "gpu_temperature_celsius", Type: Int16, Sketch: true, Unit: "Cel", OTel: "hw.temperature",
		Meaning: "Temperature of the GPU die.",
		Sources: from(getter("nvmlDeviceGetTemperature", 0)),
	},
	{
		Name: "memory_temperature_celsius", Type: Int16, Unit: "Cel", OTel: "hw.temperature",
		Meaning: "Temperature of the HBM stacks.",
		Sources: from(field("DEV_MEMORY_TEMP")),
	},
	{
		Name: "temperature_margin_celsius", Type: Int16, Unit: "Cel", Requires: hopper,
		Meaning: "Degrees left until the GPU slows down. The best predictor of thermal throttling; comparable between GPU models.",
		Sources: from(getter("nvmlDeviceGetMarginTemperature", 0)),
	},
	{
		Name: "sm_clock_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Clock of the streaming multiprocessors.",
		Sources: from(ring(ringProcessorClock, Last), clock("SM")),
	},
	{
		Name: "sm_clock_min_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Lowest driver sample of sm_clock_megahertz since the previous row.",
		Sources: from(ring(ringProcessorClock, Min)),
	},
	{
		Name: "sm_clock_mean_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Mean of the driver's samples of sm_clock_megahertz since the previous row.",
		Sources: from(ring(ringProcessorClock, Mean)),
	},
	{
		Name: "sm_clock_max_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Highest driver sample of sm_clock_megahertz since the previous row.",
		Sources: from(ring(ringProcessorClock, Max)),
	},
	{
		Name: "memory_clock_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Clock of the device memory. Read each 30 s: it hardly ever changes.",
		Sources: from(ring(ringMemoryClock, Last), clock("Memory")),
	},
	{
		Name: "memory_clock_min_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Lowest driver sample of memory_clock_megahertz since the previous row.",
		Sources: from(ring(ringMemoryClock, Min)),
	},
	{
		Name: "memory_clock_mean_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Mean of the driver's samples of memory_clock_megahertz since the previous row.",
		Sources: from(ring(ringMemoryClock, Mean)),
	},
	{
		Name: "memory_clock_max_megahertz", Type: Uint16, Unit: "MHz",
		Meaning: "Highest driver sample of memory_clock_megahertz since the previous row.",
		Sources: from(ring(ringMemoryClock, Max)),
	},
	{
		Name: "clocks_event_reasons", Type: Uint64, Kind: State, Unit: "1",
		Meaning: "Why the clocks are where they are, as a bit mask: idle 0x1, application clocks 0x2, software power cap 0x4, hardware slowdown 0x8, sync boost 0x10, software thermal 0x20, hardware thermal 0x40, hardware power brake 0x80, display 0x100. A poll misses short ones: see throttle_*.",
		Sources: from(getter("nvmlDeviceGetCurrentClocksEventReasons", 0)),
	},
}

var powerMetrics = []Metric{
	{
		Name: "power_instant_watts", Type: Uint16, Sketch: true, Unit: "W", OTel: "hw.power",
		Meaning: "Power drawn by the GPU at this instant (25 ms window).",
		Sources: from(scaled(field("DEV_POWER_INSTANT"), 1, 1000)),
	},
	{
		Name: "power_average_watts", Type: Uint16, Unit: "W", Requires: "all but A100",
		Meaning: "Power drawn by the GPU, averaged by the driver over 1 s.",
		Sources: from(scaled(field("DEV_POWER_AVERAGE"), 1, 1000)),
	},
	{
		Name: "power_min_watts", Type: Uint16, Unit: "W",
		Meaning: "Lowest driver sample of the power since the previous row.",
		Sources: from(scaled(ring(ringPower, Min), 1, 1000)),
	},
	{
		Name: "power_mean_watts", Type: Uint16, Unit: "W",
		Meaning: "Mean of the driver's samples of the power since the previous row.",
		Sources: from(scaled(ring(ringPower, Mean), 1, 1000)),
	},
	{
		Name: "power_max_watts", Type: Uint16, Unit: "W",
		Meaning: "Highest driver sample of the power since the previous row.",
		Sources: from(scaled(ring(ringPower, Max), 1, 1000)),
	},
	{
		Name: "module_power_watts", Type: Uint16, Unit: "W", Requires: grace,
		Meaning: "Power drawn by the module: GPU and Grace CPU together.",
		Sources: from(scaled(scoped(field("DEV_POWER_INSTANT"), scopeModule), 1, 1000)),
	},
	{
		Name: "module_power_min_watts", Type: Uint16, Unit: "W", Requires: grace,
		Meaning: "Lowest driver sample of the module's power since the previous row.",
		Sources: from(scaled(ring(ringModulePower, Min), 1, 1000)),
	},
	{
		Name: "module_power_mean_watts", Type: Uint16, Unit: "W", Requires: grace,
		Meaning: "Mean of the driver's samples of the module's power since the previous row.",
		Sources: from(scaled(ring(ringModulePower, Mean), 1, 1000)),
	},
	{
		Name: "module_power_max_watts", Type: Uint16, Unit: "W", Requires: grace,
		Meaning: "Highest driver sample of the module's power since the previous row.",
		Sources: from(scaled(ring(ringModulePower, Max), 1, 1000)),
	},
	{
		Name: "memory_power_watts", Type: Uint16, Unit: "W", Requires: "where the driver tells it apart",
		Meaning: "Power drawn by the device memory at this instant.",
		Sources: from(scaled(scoped(field("DEV_POWER_INSTANT"), scopeMemory), 1, 1000)),
	},
	{
		Name: "energy_millijoules", Type: Uint64, Kind: Counter, Slow: true, Unit: "mJ", OTel: "hw.energy",
		Meaning: "Energy drawn since the driver was loaded. Use it, not the power, for whatever is summed or billed.",
		Sources: from(field("DEV_TOTAL_ENERGY_CONSUMPTION"), field("DEV_ENERGY")),
	},
}

var throttleMetrics = []Metric{
	{
		Name: "throttle_power_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were held down by the power cap. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_POWER"), 1, 1000)),
	},
	{
		Name: "throttle_thermal_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were held down by temperature. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_THERMAL"), 1, 1000)),
	},
	{
		Name: "throttle_sync_boost_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were held down by a sync boost group. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_SYNC_BOOST"), 1, 1000)),
	},
	{
		Name: "throttle_board_limit_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were held down by the board's voltage and current limits. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_BOARD_LIMIT"), 1, 1000)),
	},
	{
		Name: "throttle_low_utilization_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were down because there was little to do. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_LOW_UTILIZATION"), 1, 1000)),
	},
	{
		Name: "throttle_reliability_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time that clocks were held down by the reliability limit. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_RELIABILITY"), 1, 1000)),
	},
	{
		Name: "throttle_application_clocks_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time spent below the application clocks. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_TOTAL_APP_CLOCKS"), 1, 1000)),
	},
	{
		Name: "throttle_base_clocks_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time spent below the base clocks. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_PERF_POLICY_TOTAL_BASE_CLOCKS"), 1, 1000)),
	},
	{
		Name: "throttle_software_thermal_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time in software thermal slowdown. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN"), 1, 1000)),
	},
	{
		Name: "throttle_hardware_thermal_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time in hardware thermal slowdown. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN"), 1, 1000)),
	},
	{
		Name: "throttle_power_brake_microseconds", Type: Uint64, Kind: Counter, Slow: true, Unit: "us",
		Meaning: "Time in which the board or the rack pulled the power brake. A counter never misses a short one.",
		Sources: from(scaled(field("DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN"), 1, 1000)),
	},
}

var trafficMetrics = []Metric{
	{
		Name: "pcie_tx_bytes", Type: Uint64, Kind: Counter, Unit: "By", OTel: "hw.gpu.io",
		Meaning: "Bytes sent over PCIe.",
		Sources: from(wraps32(field("DEV_PCIE_COUNT_TX_BYTES"), "pcie_tx_mebibytes_per_second")),
	},
	{
		Name: "pcie_rx_bytes", Type: Uint64, Kind: Counter, Unit: "By", OTel: "hw.gpu.io",
		Meaning: "Bytes received over PCIe.",
		Sources: from(wraps32(field("DEV_PCIE_COUNT_RX_BYTES"), "pcie_rx_mebibytes_per_second")),
	},
	{
		Name: "nvlink_tx_bytes", Type: Uint64, Kind: Counter, Unit: "By", OTel: "hw.gpu.io",
		Meaning: "Payload bytes sent over all NVLinks.",
		Sources: from(perLink("DEV_NVLINK_COUNT_XMIT_BYTES", Sum), scaled(allLinks("DEV_NVLINK_THROUGHPUT_DATA_TX"), 1024, 1)),
	},
	{
		Name: "nvlink_rx_bytes", Type: Uint64, Kind: Counter, Unit: "By", OTel: "hw.gpu.io",
		Meaning: "Payload bytes received over all NVLinks.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RCV_BYTES", Sum), scaled(allLinks("DEV_NVLINK_THROUGHPUT_DATA_RX"), 1024, 1)),
	},
	{
		Name: "nvlink_raw_tx_bytes", Type: Uint64, Kind: Counter, Unit: "By", Requires: upToH200,
		Meaning: "Bytes sent over all NVLinks with protocol overhead.",
		Sources: from(scaled(allLinks("DEV_NVLINK_THROUGHPUT_RAW_TX"), 1024, 1)),
	},
	{
		Name: "nvlink_raw_rx_bytes", Type: Uint64, Kind: Counter, Unit: "By", Requires: upToH200,
		Meaning: "Bytes received over all NVLinks with protocol overhead.",
		Sources: from(scaled(allLinks("DEV_NVLINK_THROUGHPUT_RAW_RX"), 1024, 1)),
	},
}
