// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// getters make the call of each gpu.Getter. A call that does not succeed leaves the parts alone.
var getters = [len(gpu.Getters)]func(*device, *gpu.Parts) gpu.Return{
	gpu.GetUtilizationRates:    (*device).utilization,
	gpu.GetMemoryInfo:          (*device).memory,
	gpu.GetTemperature:         (*device).temperature,
	gpu.GetMarginTemperature:   (*device).margin,
	gpu.GetClockSM:             func(d *device, p *gpu.Parts) gpu.Return { return d.clock(nvml.CLOCK_SM, p) },
	gpu.GetClockMemory:         func(d *device, p *gpu.Parts) gpu.Return { return d.clock(nvml.CLOCK_MEM, p) },
	gpu.GetClocksEventReasons:  (*device).clocksEventReasons,
	gpu.GetPerformanceState:    (*device).performanceState,
	gpu.GetPCIeLink:            (*device).pcieLink,
	gpu.GetEncoderUtilization:  (*device).encoder,
	gpu.GetDecoderUtilization:  (*device).decoder,
	gpu.GetJPGUtilization:      (*device).jpeg,
	gpu.GetOFAUtilization:      (*device).opticalFlow,
	gpu.GetSRAMECC:             (*device).sramECC,
	gpu.GetFabricInfo:          (*device).fabric,
	gpu.GetBAR1Memory:          (*device).bar1,
	gpu.GetRetiredPagesPending: (*device).retiredPagesPending,
	gpu.GetEnforcedPowerLimit:  (*device).enforcedPowerLimit,
	gpu.GetRowRemapHistogram:   (*device).rowRemapHistogram,
	gpu.GetClockGraphics:       func(d *device, p *gpu.Parts) gpu.Return { return d.clock(nvml.CLOCK_GRAPHICS, p) },
	gpu.GetClockVideo:          func(d *device, p *gpu.Parts) gpu.Return { return d.clock(nvml.CLOCK_VIDEO, p) },
}

// Get makes one call that has no field id; two for the PCIe link.
func (d *device) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	if int(getter) >= len(getters) {
		return gpu.InvalidArgument
	}
	if !d.driver.life.enter() {
		return gpu.Uninitialized
	}
	defer d.driver.life.leave()
	return getters[getter](d, parts)
}

// put stores the results of a call that succeeded, in order. A number that does not fit is one that
// the driver uses for "not available".
func put[T int | int32 | uint8 | uint32 | uint64](ret gpu.Return, parts *gpu.Parts, values ...T) gpu.Return {
	if !ret.OK() {
		return ret
	}
	for _, value := range values {
		if uint64(value) > math.MaxInt64 && value > 0 {
			return gpu.NoData
		}
	}
	for i, value := range values {
		parts[i] = int64(value)
	}
	return gpu.Success
}

func (d *device) utilization(parts *gpu.Parts) gpu.Return {
	rates, ret := ask(d.driver.symbols, "GetUtilizationRates", d.handle.GetUtilizationRates)
	return put(ret, parts, rates.Gpu, rates.Memory)
}

// memory has no fallback to the first version of the call: that one counts what the driver reserves
// as used.
func (d *device) memory(parts *gpu.Parts) gpu.Return {
	memory, ret := ask(d.driver.symbols, "GetMemoryInfo_v2", d.handle.GetMemoryInfo_v2)
	return put(ret, parts, memory.Total, memory.Reserved, memory.Free, memory.Used)
}

func (d *device) temperature(parts *gpu.Parts) gpu.Return {
	reading, ret := ask(d.driver.symbols, "temperatureV1", d.handle.temperatureV1)
	if ret.OK() || !ret.Unsupported() {
		return put(ret, parts, reading.Temperature)
	}
	celsius, ret := askOf(d.driver.symbols, "GetTemperature", nvml.TEMPERATURE_GPU, d.handle.GetTemperature)
	return put(ret, parts, celsius)
}

func (d *device) margin(parts *gpu.Parts) gpu.Return {
	margin, ret := ask(d.driver.symbols, "GetMarginTemperature", d.handle.GetMarginTemperature)
	return put(ret, parts, margin.MarginTemperature)
}

func (d *device) clock(domain nvml.ClockType, parts *gpu.Parts) gpu.Return {
	megahertz, ret := askOf(d.driver.symbols, "GetClockInfo", domain, d.handle.GetClockInfo)
	return put(ret, parts, megahertz)
}

// clocksEventReasons goes by the older name where the driver does not know the newer one; the bits
// are the same.
func (d *device) clocksEventReasons(parts *gpu.Parts) gpu.Return {
	if !d.driver.symbols.has("GetCurrentClocksEventReasons") {
		reasons, ret := ask(d.driver.symbols, "GetCurrentClocksThrottleReasons", d.handle.GetCurrentClocksThrottleReasons)
		return put(ret, parts, reasons)
	}
	reasons, ret := ask(d.driver.symbols, "GetCurrentClocksEventReasons", d.handle.GetCurrentClocksEventReasons)
	return put(ret, parts, reasons)
}

func (d *device) performanceState(parts *gpu.Parts) gpu.Return {
	state, ret := ask(d.driver.symbols, "GetPerformanceState", d.handle.GetPerformanceState)
	if ret.OK() && (state < nvml.PSTATE_0 || state > nvml.PSTATE_15) {
		return gpu.NoData
	}
	return put(ret, parts, int32(state))
}

func (d *device) pcieLink(parts *gpu.Parts) gpu.Return {
	generation, ret := ask(d.driver.symbols, "GetCurrPcieLinkGeneration", d.handle.GetCurrPcieLinkGeneration)
	if !ret.OK() {
		return ret
	}
	width, ret := ask(d.driver.symbols, "GetCurrPcieLinkWidth", d.handle.GetCurrPcieLinkWidth)
	return put(ret, parts, generation, width)
}

// The second result of these four is the length of the driver's sampling period.

func (d *device) encoder(parts *gpu.Parts) gpu.Return {
	percent, _, ret := askPair(d.driver.symbols, "GetEncoderUtilization", d.handle.GetEncoderUtilization)
	return put(ret, parts, percent)
}

func (d *device) decoder(parts *gpu.Parts) gpu.Return {
	percent, _, ret := askPair(d.driver.symbols, "GetDecoderUtilization", d.handle.GetDecoderUtilization)
	return put(ret, parts, percent)
}

func (d *device) jpeg(parts *gpu.Parts) gpu.Return {
	percent, _, ret := askPair(d.driver.symbols, "GetJpgUtilization", d.handle.GetJpgUtilization)
	return put(ret, parts, percent)
}

func (d *device) opticalFlow(parts *gpu.Parts) gpu.Return {
	percent, _, ret := askPair(d.driver.symbols, "GetOfaUtilization", d.handle.GetOfaUtilization)
	return put(ret, parts, percent)
}

func (d *device) sramECC(parts *gpu.Parts) gpu.Return {
	status, ret := ask(d.driver.symbols, "GetSramEccErrorStatus", d.handle.GetSramEccErrorStatus)
	return put(ret, parts,
		status.AggregateUncParity, status.AggregateUncSecDed, status.AggregateCor,
		status.VolatileUncParity, status.VolatileUncSecDed, status.VolatileCor,
		status.AggregateUncBucketL2, status.AggregateUncBucketSm, status.AggregateUncBucketPcie,
		status.AggregateUncBucketMcu, status.AggregateUncBucketOther, uint64(status.BThresholdExceeded))
}

func (d *device) fabric(parts *gpu.Parts) gpu.Return {
	info, ret := d.fabricInfo()
	return put(ret, parts, uint32(info.State), info.Status, info.CliqueId, info.HealthMask, uint32(info.HealthSummary))
}

// fabricInfo takes the second version of the struct where the driver does not know the third, which
// added the summary. Without it the summary is 0, which is its code for "not supported".
func (d *device) fabricInfo() (nvml.GpuFabricInfo_v3, gpu.Return) {
	info, ret := ask(d.driver.symbols, "fabricInfoV3", d.handle.fabricInfoV3)
	if ret != gpu.DeprecatedVersion && ret != gpu.InvalidArgument {
		return info, ret
	}
	older, ret := ask(d.driver.symbols, "fabricInfoV2", d.handle.fabricInfoV2)
	return nvml.GpuFabricInfo_v3{
		ClusterUuid: older.ClusterUuid, Status: older.Status, CliqueId: older.CliqueId,
		State: older.State, HealthMask: older.HealthMask,
	}, ret
}

func (d *device) bar1(parts *gpu.Parts) gpu.Return {
	memory, ret := ask(d.driver.symbols, "GetBAR1MemoryInfo", d.handle.GetBAR1MemoryInfo)
	return put(ret, parts, memory.Bar1Total, memory.Bar1Free, memory.Bar1Used)
}

func (d *device) retiredPagesPending(parts *gpu.Parts) gpu.Return {
	pending, ret := ask(d.driver.symbols, "GetRetiredPagesPendingStatus", d.handle.GetRetiredPagesPendingStatus)
	return put(ret, parts, int32(pending))
}

func (d *device) enforcedPowerLimit(parts *gpu.Parts) gpu.Return {
	milliwatts, ret := ask(d.driver.symbols, "GetEnforcedPowerLimit", d.handle.GetEnforcedPowerLimit)
	return put(ret, parts, milliwatts)
}

func (d *device) rowRemapHistogram(parts *gpu.Parts) gpu.Return {
	banks, ret := ask(d.driver.symbols, "GetRowRemapperHistogram", d.handle.GetRowRemapperHistogram)
	return put(ret, parts, banks.Max, banks.High, banks.Partial, banks.Low, banks.None)
}
