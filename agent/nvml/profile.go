// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"math"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// metricsPerCall is how many metrics one GPM call asks for: the length of the array in the first
// header that had GPM, so that no driver finds it too long.
const metricsPerCall = 98

// profile is the GPM state of one device: two samples of the driver's counters, which take turns at
// being the older one, and the request that compares them.
type profile struct {
	support gpu.Return // the driver's answer, once it is known
	known   bool
	samples [2]nvml.GpmSample // nil until allocated
	newest  int               // index of the newer sample
	taken   time.Time         // when the newer sample was taken; zero if there is none
	request *nvml.GpmMetricsGetType
}

// Profile takes a sample and compares it with the previous one. All metrics come out of one driver
// call. go-nvml copies the request (about 19 kB) on the way in and out.
func (d *device) Profile(values []gpu.ProfileValue) (window time.Duration, ret gpu.Return) {
	if !d.driver.life.enter() {
		return 0, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	if !d.driver.symbols.has("GpmSampleGet") {
		return 0, gpu.FunctionNotFound
	}
	return d.profile.read(d, values, d.handle.GpmSampleGet)
}

// read takes a sample of a device, or of a part of it, and compares it with the one before.
func (p *profile) read(d *device, values []gpu.ProfileValue, take func(nvml.GpmSample) nvml.Return) (window time.Duration, ret gpu.Return) {
	if ret := p.supported(d); !ret.OK() {
		return 0, ret
	}
	now := time.Now()
	window = now.Sub(p.taken)
	if !p.taken.IsZero() && window <= gpu.MinProfileWindow {
		return 0, gpu.NotReady
	}
	older := p.newest
	p.newest = 1 - p.newest
	if ret := gpu.Return(take(p.samples[p.newest])); !ret.OK() {
		// After a failure the counters may start anew: what was sampled before is no use.
		p.taken = time.Time{}
		return 0, ret
	}
	first := p.taken.IsZero()
	p.taken = now
	if first {
		return 0, gpu.NotReady
	}
	return window, p.compare(d.driver, p.samples[older], p.samples[p.newest], values)
}

// supported probes the GPU once and allocates what Profile needs. An error that may pass, as of
// a lost GPU, is not remembered.
func (p *profile) supported(d *device) gpu.Return {
	if p.known {
		return p.support
	}
	support, ret := ask(d.driver.symbols, "GpmQueryDeviceSupport", d.handle.GpmQueryDeviceSupport)
	if ret.OK() && support.IsSupportedDevice == 0 {
		ret = gpu.NotSupported
	}
	if ret.OK() {
		ret = p.allocate(d.driver)
	}
	p.support, p.known = ret, ret.OK() || ret.Unsupported()
	return ret
}

func (p *profile) allocate(driver *Driver) gpu.Return {
	if !driver.symbols.has("GpmSampleAlloc") {
		return gpu.FunctionNotFound
	}
	if p.request == nil {
		p.request = new(nvml.GpmMetricsGetType)
		driver.keep(p)
	}
	for i := range p.samples {
		if p.samples[i] != nil {
			continue
		}
		sample, ret := driver.library.GpmSampleAlloc()
		if ret != nvml.SUCCESS {
			return gpu.Return(ret)
		}
		p.samples[i] = sample
	}
	return gpu.Success
}

// release frees the samples. No call may be under way.
func (p *profile) release(driver *Driver) {
	for i, sample := range p.samples {
		if sample != nil && driver.symbols.has("GpmSampleFree") {
			_ = driver.library.GpmSampleFree(sample)
		}
		p.samples[i] = nil
	}
}

// compare asks for the metrics between two samples, and fills in the values that it gets.
func (p *profile) compare(driver *Driver, older, newer nvml.GpmSample, values []gpu.ProfileValue) gpu.Return {
	if !driver.symbols.has("GpmMetricsGet") {
		return gpu.FunctionNotFound
	}
	request := p.request
	for len(values) > 0 {
		chunk := values[:min(len(values), metricsPerCall)]
		values = values[len(chunk):]
		request.NumMetrics = uint32(len(chunk))
		request.Sample1, request.Sample2 = older, newer
		for i := range chunk {
			request.Metrics[i] = nvml.GpmMetric{MetricId: chunk[i].MetricID, NvmlReturn: uint32(nvml.ERROR_UNKNOWN)}
		}
		if ret := gpu.Return(driver.library.GpmMetricsGet(request)); !ret.OK() {
			return ret
		}
		for i := range chunk {
			chunk[i].Return, chunk[i].Value = metricValue(&request.Metrics[i])
		}
	}
	return gpu.Success
}

// metricValue is one answer. The driver reports success with NaN where it has nothing.
func metricValue(metric *nvml.GpmMetric) (gpu.Return, float64) {
	ret := gpu.Return(metric.NvmlReturn)
	if ret.OK() && (math.IsNaN(metric.Value) || math.IsInf(metric.Value, 0)) {
		ret = gpu.NoData
	}
	if !ret.OK() {
		return ret, 0
	}
	return ret, metric.Value
}
