// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/gpufleet/gpufleet/agent/gpu"

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

// profile fills in the metrics over the window that t covers.
func (t totals) profile(values []gpu.ProfileValue) {
	percent := 100 / float64(t.quanta)
	mebibytesPerSecond := 1 / (mebibyte * float64(t.quanta) * secondsPerQuanta)
	for i := range values {
		v := &values[i]
		switch id := v.MetricID; {
		case id >= uint32(len(metrics)) || metrics[id] == nil:
			v.Return = gpu.NotSupported
		case id >= metricPCIeSent:
			v.Return, v.Value = gpu.Success, metrics[id](t)*mebibytesPerSecond
		default:
			v.Return, v.Value = gpu.Success, max(0, metrics[id](t)*percent)
		}
	}
}

// metrics are the quanta in which a unit was in use, and from metricPCIeSent on the bytes that were moved. The
// pipes share the multiprocessors' time in fixed proportions; no work here uses 64-bit floats.
var metrics = [...]func(t totals) float64{
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
}
