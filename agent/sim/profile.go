// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// Numbers of the performance monitoring metrics (nvml.h, NVML_GPM_METRIC_*).
const (
	metricGraphics   = 1
	metricSM         = 2
	metricOccupancy  = 3
	metricInteger    = 4
	metricTensor     = 5
	metricTensorDFMA = 6
	metricTensorHMMA = 7
	metricTensorDMMA = 8
	metricTensorIMMA = 9
	metricDRAM       = 10
	metricFP64       = 11
	metricFP32       = 12
	metricFP16       = 13
	metricPCIeSent   = 20
	metricPCIeGot    = 21
	metricNVLinkGot  = 60
	metricNVLinkSent = 61
	metricC2CSent    = 100
	metricC2CGot     = 101
	metricC2CDataOut = 102
	metricC2CDataIn  = 103
	metricCycles     = 248
	mebibytesPerByte = 1.0 / mebibyte
)

// minus is what happened between two totals.
func (t totals) minus(earlier totals) totals {
	return totals{
		quanta:     t.quanta - earlier.quanta,
		busy:       t.busy - earlier.busy,
		sm:         t.sm - earlier.sm,
		tensor:     t.tensor - earlier.tensor,
		integer:    t.integer - earlier.integer,
		dram:       t.dram - earlier.dram,
		pcieSent:   t.pcieSent - earlier.pcieSent,
		pcieGot:    t.pcieGot - earlier.pcieGot,
		nvlinkSent: t.nvlinkSent - earlier.nvlinkSent,
		nvlinkGot:  t.nvlinkGot - earlier.nvlinkGot,
	}
}

// profiled tells that a profiler holds the GPU's performance monitoring. The board is locked.
func (b *board) profiled() bool { return b.quantum < b.fault.profiledUntil }

// performance is what performance monitoring knows: what happened in a window, and since the boot.
type performance struct {
	window, total totals
	grace, cycles bool // there are NVLink-C2C rates; the driver has the counters of cycles
	instance      bool // of a MIG instance: there is no NVLink
}

// profile fills in the metrics.
func (p *performance) profile(values []gpu.ProfileValue) {
	percent := 100 / float64(p.window.quanta)
	mebibytesPerSecond := 1 / (mebibyte * float64(p.window.quanta) * secondsPerQuanta)
	for i := range values {
		v := &values[i]
		metric, ok := metrics[v.MetricID]
		isC2C, isCounter := v.MetricID >= metricC2CSent && v.MetricID < metricCycles, v.MetricID >= metricCycles
		isNVLink := v.MetricID == metricNVLinkGot || v.MetricID == metricNVLinkSent
		switch {
		case !ok || isNVLink && p.instance || isC2C && !p.grace || isCounter && !p.cycles:
			v.Return = gpu.NotSupported
		case isCounter:
			v.Return, v.Value = gpu.Success, math.Floor(metric(p.total))
		case v.MetricID >= metricPCIeSent:
			v.Return, v.Value = gpu.Success, metric(p.window)*mebibytesPerSecond
		default:
			v.Return, v.Value = gpu.Success, max(0, metric(p.window)*percent)
		}
	}
}

// c2cShare is the traffic between GPU and Grace by what other GPUs move over PCIe: there it takes that way.
const c2cShare = 8

// metrics are the quanta in which a unit was in use, from metricPCIeSent on the bytes that were moved, and from
// metricCycles on the cycles of all multiprocessors (255 and 256 are PCIe bytes, which nobody reads). The pipes share the multiprocessors' time in fixed proportions; no work here uses 64-bit floats.
var metrics = map[uint32]func(t totals) float64{
	metricGraphics:   func(t totals) float64 { return t.busy },
	metricSM:         func(t totals) float64 { return t.sm },
	metricOccupancy:  func(t totals) float64 { return 0.38 * t.sm },
	metricInteger:    func(t totals) float64 { return 0.24 * t.sm },
	metricTensor:     func(t totals) float64 { return t.tensor },
	metricTensorDFMA: func(totals) float64 { return 0 },
	metricTensorHMMA: func(t totals) float64 { return t.tensor - t.integer },
	metricTensorDMMA: func(totals) float64 { return 0 },
	metricTensorIMMA: func(t totals) float64 { return t.integer },
	metricDRAM:       func(t totals) float64 { return t.dram },
	metricFP64:       func(totals) float64 { return 0 },
	metricFP32:       func(t totals) float64 { return 0.10*t.sm + 0.08*t.tensor },
	metricFP16:       func(t totals) float64 { return 0.05 * t.sm },
	metricPCIeSent:   func(t totals) float64 { return t.pcieSent },
	metricPCIeGot:    func(t totals) float64 { return t.pcieGot },
	metricNVLinkGot:  func(t totals) float64 { return t.nvlinkGot },
	metricNVLinkSent: func(t totals) float64 { return t.nvlinkSent },
	metricC2CSent:    func(t totals) float64 { return 1.06 * c2cShare * t.pcieSent },
	metricC2CGot:     func(t totals) float64 { return 1.06 * c2cShare * t.pcieGot },
	metricC2CDataOut: func(t totals) float64 { return c2cShare * t.pcieSent },
	metricC2CDataIn:  func(t totals) float64 { return c2cShare * t.pcieGot },

	metricCycles:      func(t totals) float64 { return t.cycles },
	metricCycles + 1:  func(t totals) float64 { return t.smCycles },
	metricCycles + 2:  func(t totals) float64 { return t.tensorCycles },
	metricCycles + 3:  func(totals) float64 { return 0 }, // DMMA
	metricCycles + 4:  func(t totals) float64 { return t.tensorCycles - t.integerCycles },
	metricCycles + 5:  func(t totals) float64 { return t.integerCycles },
	metricCycles + 6:  func(totals) float64 { return 0 }, // DFMA
	metricCycles + 9:  func(t totals) float64 { return 0.24 * t.smCycles },
	metricCycles + 10: func(totals) float64 { return 0 }, // FP64
	metricCycles + 11: func(t totals) float64 { return 0.10*t.smCycles + 0.08*t.tensorCycles },
	metricCycles + 12: func(t totals) float64 { return 0.05 * t.smCycles },
}
