// SPDX-License-Identifier: Apache-2.0

package schema

var profileMetrics = []Metric{
	{
		Name: "graphics_active_permille", Type: Uint16, Slow: true, Unit: "‰", Requires: hopper,
		Meaning: "Share of the window in which a graphics or compute engine was active.",
		Sources: from(profile(1, "GRAPHICS_UTIL")),
	},
	{
		Name: "sm_active_permille", Type: Uint16, Sketch: true, Unit: "‰", Requires: hopper,
		Meaning: "Share of the multiprocessors' cycles in which at least one warp was resident: the honest utilisation.",
		Sources: from(profile(2, "SM_UTIL")),
	},
	{
		Name: "sm_occupancy_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Resident warps as a share of the most that fit.",
		Sources: from(profile(3, "SM_OCCUPANCY")),
	},
	{
		Name: "integer_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the integer pipe was active.",
		Sources: from(profile(4, "INTEGER_UTIL")),
	},
	{
		Name: "tensor_active_permille", Type: Uint16, Sketch: true, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which any tensor pipe was active.",
		Sources: from(profile(5, "ANY_TENSOR_UTIL")),
	},
	{
		Name: "tensor_dfma_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the FP64 tensor pipe (DFMA) was active.",
		Sources: from(profile(6, "DFMA_TENSOR_UTIL")),
	},
	{
		Name: "tensor_hmma_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the half precision tensor pipe (HMMA) was active.",
		Sources: from(profile(7, "HMMA_TENSOR_UTIL")),
	},
	{
		Name: "tensor_dmma_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the FP64 tensor pipe (DMMA) was active.",
		Sources: from(profile(8, "DMMA_TENSOR_UTIL")),
	},
	{
		Name: "tensor_imma_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the integer tensor pipe (IMMA) was active.",
		Sources: from(profile(9, "IMMA_TENSOR_UTIL")),
	},
	{
		Name: "dram_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Device memory traffic as a share of the most that is possible.",
		Sources: from(profile(10, "DRAM_BW_UTIL")),
	},
	{
		Name: "fp64_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the FP64 pipe was active.",
		Sources: from(profile(11, "FP64_UTIL")),
	},
	{
		Name: "fp32_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the FP32 pipe was active.",
		Sources: from(profile(12, "FP32_UTIL")),
	},
	{
		Name: "fp16_active_permille", Type: Uint16, Unit: "‰", Requires: hopper,
		Meaning: "Share of cycles in which the FP16 pipe was active.",
		Sources: from(profile(13, "FP16_UTIL")),
	},
	{
		Name: "pcie_tx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: hopper,
		Meaning: "PCIe traffic sent by the GPU, over the GPM window.",
		Sources: from(profileRate(20, "PCIE_TX_PER_SEC")),
	},
	{
		Name: "pcie_rx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: hopper,
		Meaning: "PCIe traffic received by the GPU, over the GPM window.",
		Sources: from(profileRate(21, "PCIE_RX_PER_SEC")),
	},
	{
		Name: "nvlink_rx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: hopper,
		Meaning: "NVLink traffic received, all links, over the GPM window.",
		Sources: from(profileRate(60, "NVLINK_TOTAL_RX_PER_SEC")),
	},
	{
		Name: "nvlink_tx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: hopper,
		Meaning: "NVLink traffic sent, all links, over the GPM window.",
		Sources: from(profileRate(61, "NVLINK_TOTAL_TX_PER_SEC")),
	},
	{
		Name: "c2c_tx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: grace,
		Meaning: "NVLink-C2C traffic sent to the Grace CPU with protocol overhead, over the GPM window.",
		Sources: from(profileRate(100, "C2C_TOTAL_TX_PER_SEC")),
	},
	{
		Name: "c2c_rx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: grace,
		Meaning: "NVLink-C2C traffic received from the Grace CPU with protocol overhead, over the GPM window.",
		Sources: from(profileRate(101, "C2C_TOTAL_RX_PER_SEC")),
	},
	{
		Name: "c2c_data_tx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: grace,
		Meaning: "NVLink-C2C payload sent to the Grace CPU, over the GPM window.",
		Sources: from(profileRate(102, "C2C_DATA_TX_PER_SEC")),
	},
	{
		Name: "c2c_data_rx_mebibytes_per_second", Type: Uint32, Unit: "MiBy/s", Requires: grace,
		Meaning: "NVLink-C2C payload received from the Grace CPU, over the GPM window.",
		Sources: from(profileRate(103, "C2C_DATA_RX_PER_SEC")),
	},
}

// Drivers from CUDA 13.2 on also count what the ratios above are made of. Increments have no window and no
// aliasing: a ratio over any time is the sum of one by the sum of sm_elapsed_cycles.
var profileCounterMetrics = []Metric{
	{
		Name: "sm_elapsed_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles that the multiprocessors had, all multiprocessors together.",
		Sources: from(profileCounter(248, "SM_CYCLES_ELAPSED")),
	},
	{
		Name: "sm_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which a multiprocessor had at least one warp, all multiprocessors together.",
		Sources: from(profileCounter(249, "SM_CYCLES_ACTIVE")),
	},
	{
		Name: "tensor_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which any tensor pipe was active, all multiprocessors together.",
		Sources: from(profileCounter(250, "MMA_CYCLES_ACTIVE")),
	},
	{
		Name: "tensor_dmma_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the FP64 tensor pipe (DMMA) was active, all multiprocessors together.",
		Sources: from(profileCounter(251, "DMMA_CYCLES_ACTIVE")),
	},
	{
		Name: "tensor_hmma_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the half precision tensor pipe (HMMA) was active, all multiprocessors together.",
		Sources: from(profileCounter(252, "HMMA_CYCLES_ACTIVE")),
	},
	{
		Name: "tensor_imma_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the integer tensor pipe (IMMA) was active, all multiprocessors together.",
		Sources: from(profileCounter(253, "IMMA_CYCLES_ACTIVE")),
	},
	{
		Name: "tensor_dfma_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the FP64 tensor pipe (DFMA) was active, all multiprocessors together.",
		Sources: from(profileCounter(254, "DFMA_CYCLES_ACTIVE")),
	},
	{
		Name: "integer_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the integer pipe was active, all multiprocessors together.",
		Sources: from(profileCounter(257, "INTEGER_CYCLES_ACTIVE")),
	},
	{
		Name: "fp64_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the FP64 pipe was active, all multiprocessors together.",
		Sources: from(profileCounter(258, "FP64_CYCLES_ACTIVE")),
	},
	{
		Name: "fp32_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the FP32 pipe was active, all multiprocessors together.",
		Sources: from(profileCounter(259, "FP32_CYCLES_ACTIVE")),
	},
	{
		Name: "fp16_active_cycles", Type: Uint64, Kind: Counter, Unit: "{cycle}", Requires: hopper + ", newest drivers",
		Meaning: "Cycles in which the FP16 pipe was active, all multiprocessors together.",
		Sources: from(profileCounter(260, "FP16_CYCLES_ACTIVE")),
	},
}
