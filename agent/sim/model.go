// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/gpufleet/gpufleet/agent/gpu"

// Model is a kind of GPU that can be simulated.
type Model uint8

// The models. A node has eight of them, GB200 four.
const (
	A100 Model = iota
	H100
	H200
	B200
	GB200
	modelCount = iota
)

// String is the short name that people use, such as "H100".
func (m Model) String() string {
	if int(m) < len(modelNames) {
		return modelNames[m]
	}
	return "unknown model"
}

var modelNames = [modelCount]string{A100: "A100", H100: "H100", H200: "H200", B200: "B200", GB200: "GB200"}

// spec holds what tells one model from another.
type spec struct {
	name, architecture, computeCapability string
	board, inforom, vbios                 string
	gpus                                  int // per node
	multiprocessors                       int

	gpm     bool // answers performance monitoring, margins and fabric (Hopper and later)
	nvlink5 bool // counts NVLink per link with the fields of NVLink 5
	grace   bool // shares a module with a Grace CPU

	memoryMebibytes, reservedMebibytes  int64
	bar1Mebibytes, bar1IdleMebibytes    int64
	idleWatts, limitWatts, minimumWatts float64
	idleMegahertz, maxMegahertz         float64
	baseMegahertz, stepMegahertz        float64
	memoryMegahertz                     uint32

	idleCelsius, memoryIdleCelsius       float64 // at idleWatts
	celsiusPerWatt, memoryCelsiusPerWatt float64
	limitCelsius                         float64 // hottest spot at which the margin is used up
	slowdownCelsius, shutdownCelsius     int64   // as the driver states them: margins from Hopper on
	gpuMaxCelsius, memoryMaxCelsius      int64

	links               int // NVLinks
	linkMegabytes       uint32
	pcieGeneration      int64
	pcieMaxGeneration   int64
	fabricHealthMask    int64
	fabricHealthSummary int64
	remapBanks          int64      // with spare rows
	smoothing           gpu.Return // what the power smoothing fields answer

	software []software // versions in the field; a node has one of them
}

// software is one driver release.
type software struct {
	driver, nvml, cuda string
	numbering          gpu.Numbering // of its fields
	fieldLimit         uint32        // fields from here on are unknown to it
	unknownFields      []uint32      // and so are these
	recoveryEvents     bool          // reports XID 154 (R565 and later)
	marginSymbol       bool          // exports nvmlDeviceGetMarginTemperature
	inactiveRows       bool          // answers the remapped rows that are not in force yet
	cycleCounters      bool          // counts what performance monitoring gives shares of (CUDA 13.2 and later)
}

// Releases and the number of fields that their nvml.h knows: CUDA 12.4 ends at 200, 12.8 to 13.0 at 273
// (go-nvml v0.13.0-1), 13.3 at 307 (go-nvml v0.13.4-1). 590.48.01 is CUDA 13.1; its nvidia-smi shows the
// power smoothing floors (275-288) and none of what came after. Within R580 the numbering changed: 580.65.06 has the
// older one, and a GPU of 580.159.04 answered as listed here (testdata/recordings).
var (
	driver550      = software{driver: "550.163.01", nvml: "12.550.163.01", cuda: "12.4", numbering: gpu.OlderNumbering, fieldLimit: 201}
	driver570      = software{driver: "570.148.08", nvml: "12.570.148.08", cuda: "12.8", numbering: gpu.OlderNumbering, fieldLimit: 274, recoveryEvents: true, marginSymbol: true}
	driver580      = software{driver: "580.65.06", nvml: "13.580.65.06", cuda: "13.0", numbering: gpu.OlderNumbering, fieldLimit: 274, recoveryEvents: true, marginSymbol: true}
	driver580Newer = software{
		driver: "580.159.04", nvml: "13.580.159.04", cuda: "13.0", numbering: gpu.NewerNumbering, fieldLimit: 303,
		unknownFields:  []uint32{274, 289, 290, 291, 292, 293, 296, 297, 298, 299, 300},
		recoveryEvents: true, marginSymbol: true, inactiveRows: true,
	}
	driver590 = software{driver: "590.48.01", nvml: "13.590.48.01", cuda: "13.1", numbering: gpu.NewerNumbering, fieldLimit: 289, recoveryEvents: true, marginSymbol: true}
	driver610 = software{driver: "610.43.02", nvml: "13.610.43.02", cuda: "13.3", numbering: gpu.NewerNumbering, fieldLimit: 308, recoveryEvents: true, marginSymbol: true, inactiveRows: true, cycleCounters: true}
)

// Sources of the figures below, and of which readings a model answers:
//
//	H100        nvidia-smi capture of an idle and a loaded H100 80GB HBM3, driver 590.48.01
//	H200        nvidia-smi capture of an idle H200, driver 580.173.02; both from
//	            utkuozdemir/nvidia_gpu_exporter, internal/captures (MIT)
//	A100        nvidia-smi -q -x of an idle A100-SXM4-40GB, driver 570.148.08, with the 80 GB card's
//	            memory, BAR1 and board number
//	B200, GB200 nvidia-smi -q -x of idle nodes, drivers 580.105.08 and 580.173.02; these three from
//	            NVIDIA/k8s-test-infra, tests/e2e/go/assertions/nvidiasmi/testdata/hardware (Apache-2.0)
//	NVLink      speeds of `nvidia-smi nvlink -s`, same captures and configurations
//
// Heating is calibrated on the H100 capture (41 °C at 70 W, 65 °C and rising after 25 s at 635 W); for the
// others it is chosen so that full power ends 15 to 25 °C below the limit.
var specs = [modelCount]spec{
	A100: {
		name: "NVIDIA A100-SXM4-80GB", architecture: "Ampere", computeCapability: "8.0", multiprocessors: 108, gpus: 8,
		board: "692-2G506-0210-003", inforom: "G506.0210.00.04", vbios: "92.00.45.00.03",
		memoryMebibytes: 81920, reservedMebibytes: 634, bar1Mebibytes: 131072, bar1IdleMebibytes: 1,
		idleWatts: 60, limitWatts: 400, minimumWatts: 100,
		idleMegahertz: 210, maxMegahertz: 1410, baseMegahertz: 1095, stepMegahertz: 15, memoryMegahertz: 1593,
		idleCelsius: 33, memoryIdleCelsius: 34, celsiusPerWatt: 0.095, memoryCelsiusPerWatt: 0.075,
		limitCelsius: 87, slowdownCelsius: 89, shutdownCelsius: 92, gpuMaxCelsius: 85, memoryMaxCelsius: 95,
		links: 12, linkMegabytes: 25781, pcieGeneration: 4, pcieMaxGeneration: 4,
		remapBanks: 640, smoothing: gpu.NotSupported, software: []software{driver550, driver570},
	},
	H100: {
		name: "NVIDIA H100 80GB HBM3", architecture: "Hopper", computeCapability: "9.0", multiprocessors: 132, gpus: 8, gpm: true,
		board: "692-2G520-0200-000", inforom: "G520.0200.00.05", vbios: "96.00.A5.00.01",
		memoryMebibytes: 81559, reservedMebibytes: 479, bar1Mebibytes: 131072, bar1IdleMebibytes: 1,
		idleWatts: 69.7, limitWatts: 700, minimumWatts: 200,
		idleMegahertz: 345, maxMegahertz: 1980, baseMegahertz: 1095, stepMegahertz: 15, memoryMegahertz: 2619,
		idleCelsius: 41, memoryIdleCelsius: 47.5, celsiusPerWatt: 0.0554, memoryCelsiusPerWatt: 0.0286,
		limitCelsius: 87, slowdownCelsius: -2, shutdownCelsius: -8,
		links: 18, linkMegabytes: 26562, pcieGeneration: 5, pcieMaxGeneration: 5,
		remapBanks: 2560, smoothing: gpu.NotSupported, software: []software{driver590},
	},
	H200: {
		name: "NVIDIA H200", architecture: "Hopper", computeCapability: "9.0", multiprocessors: 132, gpus: 8, gpm: true,
		board: "695-2G520-0280-001", inforom: "G520.0280.02.02", vbios: "96.00.A5.00.03",
		memoryMebibytes: 143771, reservedMebibytes: 616, bar1Mebibytes: 262144, bar1IdleMebibytes: 1,
		idleWatts: 85.1, limitWatts: 700, minimumWatts: 200,
		idleMegahertz: 345, maxMegahertz: 1980, baseMegahertz: 1095, stepMegahertz: 15, memoryMegahertz: 3201,
		idleCelsius: 37, memoryIdleCelsius: 38, celsiusPerWatt: 0.0554, memoryCelsiusPerWatt: 0.0330,
		limitCelsius: 87, slowdownCelsius: -2, shutdownCelsius: -8,
		links: 18, linkMegabytes: 26562, pcieGeneration: 5, pcieMaxGeneration: 5,
		remapBanks: 2560, smoothing: gpu.NotSupported, software: []software{driver580, driver580Newer, driver610},
	},
	B200: {
		name: "NVIDIA B200", architecture: "Blackwell", computeCapability: "10.0", multiprocessors: 148, gpus: 8, gpm: true, nvlink5: true,
		board: "692-2G525-0220-500", inforom: "G525.0220.00.03", vbios: "97.00.FA.00.09",
		memoryMebibytes: 183359, reservedMebibytes: 728, bar1Mebibytes: 262144, bar1IdleMebibytes: 1,
		idleWatts: 195.7, limitWatts: 1000, minimumWatts: 200,
		idleMegahertz: 120, maxMegahertz: 1965, baseMegahertz: 1095, stepMegahertz: 7.5, memoryMegahertz: 3996,
		idleCelsius: 39, memoryIdleCelsius: 39, celsiusPerWatt: 0.0386, memoryCelsiusPerWatt: 0.0300,
		limitCelsius: 88, slowdownCelsius: -3, shutdownCelsius: -5,
		links: 18, linkMegabytes: 53125, pcieGeneration: 5, pcieMaxGeneration: 5,
		fabricHealthMask: 2 << 6, fabricHealthSummary: 1, // healthy; only access timeout recovery is stated
		remapBanks: 2560, smoothing: gpu.NoPermission, software: []software{driver580, driver590, driver610},
	},
	GB200: {
		name: "NVIDIA GB200", architecture: "Blackwell", computeCapability: "10.0", multiprocessors: 152, gpus: 4, gpm: true, nvlink5: true, grace: true,
		board: "900-2G548-A801-000", inforom: "G548.0201.00.06", vbios: "97.00.B9.00.69",
		memoryMebibytes: 189471, reservedMebibytes: 742, bar1Mebibytes: 262144,
		idleWatts: 165.9, limitWatts: 1200, minimumWatts: 200,
		idleMegahertz: 120, maxMegahertz: 2062.5, baseMegahertz: 1095, stepMegahertz: 7.5, memoryMegahertz: 3996,
		idleCelsius: 27, memoryIdleCelsius: 27, celsiusPerWatt: 0.0310, memoryCelsiusPerWatt: 0.0260,
		limitCelsius: 87, slowdownCelsius: -2, shutdownCelsius: -5,
		links: 18, linkMegabytes: 53125, pcieGeneration: 5, pcieMaxGeneration: 6,
		fabricHealthMask: 2 | 2<<2 | 2<<4 | 2<<6, fabricHealthSummary: 1, // healthy, each part stated
		// The capture says "insufficient permissions"; here it answers, so that its columns have values.
		remapBanks: 2560, smoothing: gpu.Success, software: []software{driver590},
	},
}
