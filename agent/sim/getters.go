// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"slices"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

const mebibyte = 1 << 20

// wholeAlone are the getters that a GPU with MIG instances does not answer (nvml.h).
var wholeAlone = []gpu.Getter{
	gpu.GetUtilizationRates, gpu.GetEncoderUtilization, gpu.GetDecoderUtilization, gpu.GetJPGUtilization, gpu.GetOFAUtilization, gpu.GetRowRemapHistogram,
}

// get answers a getter from the present state.
func (b *board) get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	s := b.spec
	if len(b.slices) > 0 && slices.Contains(wholeAlone, getter) {
		return gpu.NotSupported
	}
	switch getter {
	case gpu.GetUtilizationRates:
		parts[0], parts[1] = int64(b.rings.lastBusy), int64(b.rings.lastDRAM)
	case gpu.GetMemoryInfo:
		used := b.memoryUsed()
		parts[0], parts[1] = s.memoryMebibytes*mebibyte, s.reservedMebibytes*mebibyte
		parts[2], parts[3] = parts[0]-parts[1]-used, used
	case gpu.GetTemperature:
		parts[0] = int64(math.Round(b.die))
	case gpu.GetMarginTemperature:
		parts[0] = int64(math.Round(b.margin()))
	case gpu.GetClocksEventReasons:
		parts[0] = int64(b.reasons)
	case gpu.GetPerformanceState, gpu.GetEncoderUtilization, gpu.GetDecoderUtilization,
		gpu.GetJPGUtilization, gpu.GetOFAUtilization:
		parts[0] = 0 // P0 also when idle, and no video work: as in the captures
	case gpu.GetSRAMECC:
		clear(parts[:gpu.Getters[getter].Parts])
		parts[2], parts[5] = int64(b.correctedSRAMLifetime()), int64(b.correctedSRAM())
	case gpu.GetFabricInfo:
		b.fabric(parts)
	case gpu.GetBAR1Memory:
		used := s.bar1IdleMebibytes*mebibyte + b.memoryUsed()
		parts[0], parts[1], parts[2] = s.bar1Mebibytes*mebibyte, s.bar1Mebibytes*mebibyte-used, used
	case gpu.GetRowRemapHistogram:
		spent := min(int64(b.fault.remapped), s.remapBanks)
		parts[0], parts[1], parts[2], parts[3], parts[4] = s.remapBanks-spent, spent, 0, 0, 0
	default:
		return b.getPace(getter, parts)
	}
	return gpu.Success
}

// getPace answers the getters of clocks, of the power limit and of the PCIe link.
func (b *board) getPace(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	switch getter {
	case gpu.GetClockSM, gpu.GetClockGraphics:
		parts[0] = int64(b.clock)
	case gpu.GetClockMemory:
		parts[0] = int64(b.spec.memoryMegahertz)
	case gpu.GetClockVideo:
		parts[0] = b.videoMegahertz()
	case gpu.GetEnforcedPowerLimit:
		parts[0] = int64(b.spec.limitWatts * 1000)
	case gpu.GetPCIeLink:
		parts[0], parts[1] = b.spec.pcieGeneration, 16
	default:
		return gpu.NotSupported
	}
	return gpu.Success
}

// videoMegahertz is the clock of the video engines, which goes with the others: 765 MHz idle, 1545 MHz at full
// clocks (H100 capture).
func (b *board) videoMegahertz() int64 {
	share := (float64(b.clock) - b.spec.idleMegahertz) / (b.spec.maxMegahertz - b.spec.idleMegahertz)
	return int64(765 + 780*share)
}

// unanswered tells which getters a model on a driver release does not answer, and how it says so.
func unanswered(s *spec, sw *software, getter gpu.Getter) gpu.Return {
	switch {
	case int(getter) >= len(gpu.Getters):
		return gpu.InvalidArgument
	case getter == gpu.GetMarginTemperature && !sw.marginSymbol:
		return gpu.FunctionNotFound
	case (getter == gpu.GetMarginTemperature || getter == gpu.GetFabricInfo) && !s.gpm:
		return gpu.NotSupported
	default:
		return gpu.Success
	}
}

// memoryUsed is the device memory that the job holds, in bytes. It fills up while the job loads.
func (b *board) memoryUsed() int64 {
	if !b.demand.resident {
		return 0
	}
	share := b.job.memory
	if age := b.quantum - b.job.start; age < b.job.loading {
		share *= float64(age) / float64(b.job.loading)
	}
	return int64(share*float64(b.spec.memoryMebibytes-b.spec.reservedMebibytes)) * mebibyte
}

// fabric fills in what is known of the NVLink fabric: registered, in clique 0.
func (b *board) fabric(parts *gpu.Parts) {
	const completed = 3
	parts[0], parts[1], parts[2] = completed, 0, 0
	parts[3], parts[4] = b.spec.fabricHealthMask, b.spec.fabricHealthSummary
	if b.fault.linkDown != 0 && b.spec.fabricHealthSummary != 0 {
		const degradedBandwidth, limitedCapacity = 1, 3
		parts[3] = parts[3]&^3 | degradedBandwidth
		parts[4] = limitedCapacity
	}
}
