// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// secondRequest is about what is read of a GPU each second.
func secondRequest(r *rig) []gpu.FieldValue {
	names := []string{
		"DEV_MEMORY_TEMP", "DEV_POWER_INSTANT", "DEV_POWER_AVERAGE", "DEV_TOTAL_ENERGY_CONSUMPTION",
		"DEV_PERF_POLICY_POWER", "DEV_PERF_POLICY_THERMAL", "DEV_PERF_POLICY_SYNC_BOOST",
		"DEV_PERF_POLICY_BOARD_LIMIT", "DEV_PERF_POLICY_LOW_UTILIZATION", "DEV_PERF_POLICY_RELIABILITY",
		"DEV_PERF_POLICY_TOTAL_APP_CLOCKS", "DEV_PERF_POLICY_TOTAL_BASE_CLOCKS",
		"DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", "DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
		"DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", "DEV_PCIE_COUNT_TX_BYTES", "DEV_PCIE_COUNT_RX_BYTES",
		"DEV_NVLINK_THROUGHPUT_DATA_TX", "DEV_NVLINK_THROUGHPUT_DATA_RX",
		"DEV_NVLINK_THROUGHPUT_RAW_TX", "DEV_NVLINK_THROUGHPUT_RAW_RX",
	}
	var values []gpu.FieldValue
	for _, name := range names {
		id, _ := gpu.FieldID(name, r.numbering())
		values = append(values, gpu.FieldValue{FieldID: id, ScopeID: gpu.ScopeAll})
		if id < 138 || id > 141 {
			values[len(values)-1].ScopeID = 0
		}
	}
	return values
}

// sampler reads one GPU as the agent does each second: a batch of fields, six getters, profiling metrics and
// three rings.
type sampler struct {
	fields  []gpu.FieldValue
	metrics []gpu.ProfileValue
	samples []gpu.RingSample
	parts   gpu.Parts
}

func newSampler(r *rig) *sampler {
	s := &sampler{fields: secondRequest(r), metrics: make([]gpu.ProfileValue, 13), samples: make([]gpu.RingSample, 0, ringDepth)}
	for i := range s.metrics {
		s.metrics[i].MetricID = uint32(i + 1)
	}
	return s
}

func (s *sampler) tick(device gpu.Device, since *[8]uint64) {
	_ = device.Fields(s.fields)
	for _, getter := range []gpu.Getter{
		gpu.GetUtilizationRates, gpu.GetMemoryInfo, gpu.GetTemperature, gpu.GetMarginTemperature,
		gpu.GetClockSM, gpu.GetClocksEventReasons,
	} {
		_ = device.Get(getter, &s.parts)
	}
	_, _ = device.(gpu.Profiler).Profile(s.metrics)
	for _, kind := range []gpu.RingKind{gpu.RingTotalPower, gpu.RingGPUUtilization, gpu.RingProcessorClock} {
		s.samples, _ = device.(gpu.Ring).Samples(kind, since[kind], s.samples[:0])
		if len(s.samples) > 0 {
			since[kind] = s.samples[len(s.samples)-1].DriverTimeMicroseconds
		}
	}
}

// BenchmarkTick is one second of one GPU.
func BenchmarkTick(b *testing.B) {
	r := newRig(b, NodeConfig{Model: H100, Seed: 5})
	s := newSampler(r)
	var since [8]uint64
	b.ReportAllocs()
	for b.Loop() {
		r.pass(time.Second)
		s.tick(r.devices[0], &since)
	}
}

// BenchmarkFleetSecond is one second of 8,000 GPUs, one after the other. At 1 Hz, a thousand million ns per
// operation would be one whole core.
func BenchmarkFleetSecond(b *testing.B) {
	clock := newHandClock()
	fleet, err := NewFleet(FleetConfig{Nodes: 1000, Seed: 1, Clock: clock.time, FaultsPerGPUHour: 0.0001})
	if err != nil {
		b.Fatal(err)
	}
	var devices []gpu.Device
	for _, n := range fleet.Nodes() {
		driver := n.Driver()
		list, _ := driver.Devices()
		devices = append(devices, list...)
		b.Cleanup(func() { driver.Close() })
	}
	s := newSampler(newRig(b, NodeConfig{Model: H100}))
	since := make([][8]uint64, len(devices))
	b.ReportAllocs()
	for b.Loop() {
		clock.pass(time.Second)
		for i, device := range devices {
			s.tick(device, &since[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e9, "cores")
}
