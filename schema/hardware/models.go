// SPDX-License-Identifier: Apache-2.0

package hardware

// Where figures are from.
const (
	fromTables   = "third-party specification tables (hmc-tech.com, acecloud.ai), read 2026-11-22"
	fromNodes    = "nvidia-smi on rented nodes, as published by ec2instances.info, and " + fromTables
	fromMLPerf   = "MLPerf v6.1 system descriptions, and " + fromTables
	fromCapture  = "nvidia-smi captures of nvidia_gpu_exporter, driver 590.48.01, and " + fromTables
	fromKnowhow  = "general knowledge, not read anywhere"
	fromScaleway = "specification page of a provider (scaleway.com), and " + fromKnowhow
)

// models, each with what it is called elsewhere: by NVML, by labels of Kubernetes (after fold), by clouds and price
// feeds. A spelling may stand in several rows.
var models = []Model{
	{
		Name: "V100 SXM2 16GB", Architecture: "volta", MemoryGigabytes: 16, Source: fromKnowhow,
		spellings: []string{"Tesla V100-SXM2-16GB", "nvidia-tesla-v100", "V100"},
	},
	{
		Name: "V100 SXM2 32GB", Architecture: "volta", MemoryGigabytes: 32, Source: fromKnowhow,
		spellings: []string{"Tesla V100-SXM2-32GB", "V100", "V100-32GB"},
	},
	{
		Name: "T4", Architecture: "turing", MemoryGigabytes: 16, PowerWatts: 70, Source: fromKnowhow,
		spellings: []string{"Tesla T4", "nvidia-tesla-t4"},
	},
	{
		Name: "A10", Architecture: "ampere", MemoryGigabytes: 24, PowerWatts: 150, Source: fromKnowhow,
		spellings: []string{"NVIDIA A10"},
	},
	{
		Name: "A10G", Architecture: "ampere", MemoryGigabytes: 24, Source: fromKnowhow,
		spellings: []string{"NVIDIA A10G"},
	},
	{
		Name: "L4", Architecture: "ada", MemoryGigabytes: 24, PowerWatts: 72, Source: fromKnowhow,
		spellings: []string{"NVIDIA L4", "nvidia-l4"},
	},
	{
		Name: "L40S", Architecture: "ada", MemoryGigabytes: 48, PowerWatts: 350, SlowdownMarginCelsius: new(-2), Source: fromCapture,
		spellings: []string{"NVIDIA L40S"},
	},
	{
		Name: "A100 SXM 40GB", Architecture: "ampere", BF16TeraFLOPS: 312, MemoryGigabytes: 40, BandwidthTerabytesPerSecond: 1.555,
		PowerWatts: 400, Source: fromNodes,
		spellings: []string{"NVIDIA A100-SXM4-40GB", "nvidia-tesla-a100", "A100", "A100-40GB", "A100 SXM4"},
	},
	{
		Name: "A100 SXM 80GB", Architecture: "ampere", BF16TeraFLOPS: 312, MemoryGigabytes: 80, BandwidthTerabytesPerSecond: 2.039,
		PowerWatts: 400, Source: fromNodes,
		spellings: []string{"NVIDIA A100-SXM4-80GB", "nvidia-a100-80gb", "A100", "A100-80GB", "A100 SXM4"},
	},
	{
		Name: "A100 PCIe 40GB", Architecture: "ampere", BF16TeraFLOPS: 312, MemoryGigabytes: 40, PowerWatts: 250, Source: fromKnowhow,
		spellings: []string{"NVIDIA A100-PCIE-40GB", "A100", "A100-40GB"},
	},
	{
		Name: "A100 PCIe 80GB", Architecture: "ampere", BF16TeraFLOPS: 312, MemoryGigabytes: 80, PowerWatts: 300, Source: fromKnowhow,
		spellings: []string{"NVIDIA A100 80GB PCIe", "A100", "A100-80GB"},
	},
	{
		Name: "H100 PCIe 80GB", Architecture: "hopper", BF16TeraFLOPS: 756, FP8TeraFLOPS: 1513, MemoryGigabytes: 80,
		BandwidthTerabytesPerSecond: 2, PowerWatts: 350, SlowdownMarginCelsius: new(-2), Source: fromScaleway,
		spellings: []string{"NVIDIA H100 PCIe", "H100", "H100-PCIe"},
	},
	{
		Name: "H100 SXM 80GB", Architecture: "hopper", BF16TeraFLOPS: 989, FP8TeraFLOPS: 1979, MemoryGigabytes: 80,
		BandwidthTerabytesPerSecond: 3.35, PowerWatts: 700, SlowdownMarginCelsius: new(-2), Source: fromCapture,
		spellings: []string{"NVIDIA H100 80GB HBM3", "nvidia-h100-80gb", "nvidia-h100-mega-80gb", "H100", "H100-SXM", "H100-MEGA", "H100-80GB", "H100 SXM5"},
	},
	{
		Name: "H100 NVL 94GB", Architecture: "hopper", MemoryGigabytes: 94, SlowdownMarginCelsius: new(-2), Source: fromKnowhow,
		spellings: []string{"NVIDIA H100 NVL", "H100", "H100-NVL"},
	},
	{
		Name: "H200 SXM 141GB", Architecture: "hopper", BF16TeraFLOPS: 989, FP8TeraFLOPS: 1979, MemoryGigabytes: 141,
		BandwidthTerabytesPerSecond: 4.8, PowerWatts: 700, Source: fromCapture,
		spellings: []string{"NVIDIA H200", "nvidia-h200-141gb", "H200", "H200-SXM"},
	},
	{
		Name: "GH200 96GB", Architecture: "hopper", MemoryGigabytes: 96, Source: fromKnowhow,
		spellings: []string{"NVIDIA GH200 480GB", "GH200"},
	},
	{
		Name: "B200 SXM 180GB", Architecture: "blackwell", BF16TeraFLOPS: 2250, FP8TeraFLOPS: 4500, MemoryGigabytes: 180,
		BandwidthTerabytesPerSecond: 8, PowerWatts: 1000, SlowdownMarginCelsius: new(-3), Source: fromNodes,
		spellings: []string{"NVIDIA B200", "nvidia-b200", "B200", "B200-SXM"},
	},
	{
		Name: "GB200 186GB", Architecture: "blackwell", BF16TeraFLOPS: 2500, FP8TeraFLOPS: 5000, MemoryGigabytes: 186,
		BandwidthTerabytesPerSecond: 8, PowerWatts: 1200, SlowdownMarginCelsius: new(-2), Source: fromMLPerf,
		spellings: []string{"NVIDIA GB200", "nvidia-gb200", "GB200"},
	},
	{
		Name: "B300 SXM 288GB", Architecture: "blackwell", MemoryGigabytes: 288, Source: fromKnowhow,
		spellings: []string{"NVIDIA B300 SXM6 AC", "nvidia-b300", "B300"},
	},
	{
		Name: "GB300 288GB", Architecture: "blackwell", MemoryGigabytes: 288, SlowdownMarginCelsius: new(-2), Source: fromKnowhow,
		spellings: []string{"NVIDIA GB300", "nvidia-gb300", "GB300"},
	},
}
