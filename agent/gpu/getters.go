// SPDX-License-Identifier: Apache-2.0

package gpu

// Getter is a driver call that has no field id. Its value indexes Getters.
type Getter uint8

// The getters, with the parts that each fills in, in order.
const (
	GetUtilizationRates    Getter = iota // GPU percent, memory percent
	GetMemoryInfo                        // total, reserved, free, used; bytes
	GetTemperature                       // GPU, °C
	GetMarginTemperature                 // °C to the first limit
	GetClockSM                           // MHz
	GetClockMemory                       // MHz
	GetClocksEventReasons                // bit mask
	GetPerformanceState                  // 0 (fastest) to 15
	GetPCIeLink                          // current generation, current width
	GetEncoderUtilization                // percent
	GetDecoderUtilization                // percent
	GetJPGUtilization                    // percent
	GetOFAUtilization                    // percent
	GetSRAMECC                           // aggregate parity, aggregate SEC-DED, aggregate corrected, volatile parity, volatile SEC-DED, volatile corrected, bucket L2, SM, PCIe, MCU, other, threshold exceeded (0 or 1)
	GetFabricInfo                        // state, status, clique id, health mask, health summary
	GetBAR1Memory                        // total, free, used; bytes
	GetRetiredPagesPending               // 0 or 1
	GetEnforcedPowerLimit                // mW
	GetRowRemapHistogram                 // banks with the most spare rows, many, some, few, none
	GetClockGraphics                     // MHz
	GetClockVideo                        // MHz
	getterCount            = iota
)

// GetterInfo tells the library symbol behind a Getter and how many parts it fills in.
type GetterInfo struct {
	Symbol string // exported by libnvidia-ml; calling it when it is missing would end the process
	Parts  int
}

// Getters describes each Getter, indexed by it.
var Getters = [getterCount]GetterInfo{
	GetUtilizationRates:    {"nvmlDeviceGetUtilizationRates", 2},
	GetMemoryInfo:          {"nvmlDeviceGetMemoryInfo_v2", 4},
	GetTemperature:         {"nvmlDeviceGetTemperature", 1},
	GetMarginTemperature:   {"nvmlDeviceGetMarginTemperature", 1},
	GetClockSM:             {clockSymbol, 1},
	GetClockMemory:         {clockSymbol, 1},
	GetClocksEventReasons:  {"nvmlDeviceGetCurrentClocksEventReasons", 1},
	GetPerformanceState:    {"nvmlDeviceGetPerformanceState", 1},
	GetPCIeLink:            {"nvmlDeviceGetCurrPcieLinkGeneration", 2},
	GetEncoderUtilization:  {"nvmlDeviceGetEncoderUtilization", 1},
	GetDecoderUtilization:  {"nvmlDeviceGetDecoderUtilization", 1},
	GetJPGUtilization:      {"nvmlDeviceGetJpgUtilization", 1},
	GetOFAUtilization:      {"nvmlDeviceGetOfaUtilization", 1},
	GetSRAMECC:             {"nvmlDeviceGetSramEccErrorStatus", 12},
	GetFabricInfo:          {"nvmlDeviceGetGpuFabricInfoV", 5},
	GetBAR1Memory:          {"nvmlDeviceGetBAR1MemoryInfo", 3},
	GetRetiredPagesPending: {"nvmlDeviceGetRetiredPagesPendingStatus", 1},
	GetEnforcedPowerLimit:  {"nvmlDeviceGetEnforcedPowerLimit", 1},
	GetRowRemapHistogram:   {"nvmlDeviceGetRowRemapperHistogram", 5},
	GetClockGraphics:       {clockSymbol, 1},
	GetClockVideo:          {clockSymbol, 1},
}

// clockSymbol serves a getter for each clock domain.
const clockSymbol = "nvmlDeviceGetClockInfo"

// clockDomains are the arguments that tell them apart.
var clockDomains = map[string]Getter{"SM": GetClockSM, "Memory": GetClockMemory, "Graphics": GetClockGraphics, "Video": GetClockVideo}

// GetterByName finds the Getter for a library symbol and, where one symbol serves several getters, for
// the argument that tells them apart ("SM", "Memory", "Graphics", "Video").
func GetterByName(symbol, argument string) (Getter, bool) {
	if symbol == clockSymbol {
		getter, ok := clockDomains[argument]
		return getter, ok
	}
	for i, info := range Getters {
		if info.Symbol == symbol {
			return Getter(i), argument == ""
		}
	}
	return 0, false
}
