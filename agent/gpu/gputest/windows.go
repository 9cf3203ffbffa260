// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// lastPercentID is the last of the GPM metrics that are percentages (NVML_GPM_METRIC_FP16_UTIL).
const lastPercentID = 13

// profileRequest asks for every GPM metric of the schema, and for one that does not exist.
func profileRequest() []gpu.ProfileValue {
	request := []gpu.ProfileValue{{MetricID: unknownID, Return: gpu.Unknown, Value: marker}}
	for _, metric := range schema.Metrics() {
		for _, source := range metric.Sources {
			if source.Kind == schema.FromProfile {
				request = append(request, gpu.ProfileValue{MetricID: source.ID, Return: gpu.Unknown, Value: marker})
			}
		}
	}
	return request
}

func checkProfile(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	request := profileRequest()
	for i, device := range devices(tb, driver) {
		profiler, ok := device.(gpu.Profiler)
		if !ok {
			continue
		}
		values := slices.Clone(request)
		first := profileWithout(tb, profiler, values)
		if first.Unsupported() {
			if again := profileWithout(tb, profiler, values); again != first {
				tb.Errorf("device %d: first %v, then %v", i, first, again)
			}
			continue
		}
		if first != gpu.NotReady {
			tb.Errorf("device %d: the first call returned %v", i, first)
		}
		if soon := profileWithout(tb, profiler, values); soon != gpu.NotReady {
			tb.Errorf("device %d: a call right after the first returned %v", i, soon)
		}
		<-time.After(5 * gpu.MinProfileWindow)
		window, ret := profiler.Profile(values)
		if !ret.OK() || window < gpu.MinProfileWindow {
			tb.Errorf("device %d: a window of %v, %v", i, window, ret)
			continue
		}
		checkProfileValues(tb, values, request)
	}
}

// profileWithout makes a call that may not bring values, and returns its code.
func profileWithout(tb testing.TB, profiler gpu.Profiler, values []gpu.ProfileValue) gpu.Return {
	tb.Helper()
	before := slices.Clone(values)
	_, ret := profiler.Profile(values)
	if !ret.OK() && !slices.Equal(before, values) {
		tb.Errorf("a call that returned %v wrote values", ret)
	}
	return ret
}

func checkProfileValues(tb testing.TB, values, request []gpu.ProfileValue) {
	tb.Helper()
	for k, value := range values {
		if value.MetricID != request[k].MetricID {
			tb.Errorf("metric %d came back as metric %d", request[k].MetricID, value.MetricID)
		}
		switch {
		case !value.Return.OK():
		case value.MetricID == unknownID:
			tb.Errorf("a metric that does not exist was answered with %v", value.Value)
		case math.IsNaN(value.Value) || math.IsInf(value.Value, 0) || value.Value < 0:
			tb.Errorf("metric %d is reported as read, but is %v", value.MetricID, value.Value)
		case value.MetricID <= lastPercentID && value.Value > 100.001:
			tb.Errorf("metric %d is %v percent", value.MetricID, value.Value)
		}
	}
}

var ringKinds = []gpu.RingKind{
	gpu.RingTotalPower, gpu.RingGPUUtilization, gpu.RingMemoryUtilization, gpu.RingProcessorClock, gpu.RingMemoryClock,
	gpu.RingModulePower,
}

func checkRings(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	for _, device := range devices(tb, driver) {
		ring, ok := device.(gpu.Ring)
		if !ok {
			continue
		}
		if _, ret := readRing(tb, ring, unknownID, 0); ret.OK() {
			tb.Error("a ring that does not exist was answered")
		}
		newest := make(map[gpu.RingKind]uint64)
		for _, kind := range ringKinds {
			if samples, ret := readRing(tb, ring, kind, 0); ret.OK() && len(samples) > 0 {
				newest[kind] = samples[len(samples)-1].DriverTimeMicroseconds
			}
		}
		<-time.After(time.Second)
		for kind, since := range newest {
			_, _ = readRing(tb, ring, kind, since)
		}
	}
}

// readRing reads a ring behind a sample that must stay, and judges what was appended to it.
func readRing(tb testing.TB, ring gpu.Ring, kind gpu.RingKind, since uint64) ([]gpu.RingSample, gpu.Return) {
	tb.Helper()
	kept := gpu.RingSample{DriverTimeMicroseconds: 42, Value: marker}
	all, ret := ring.Samples(kind, since, []gpu.RingSample{kept})
	if len(all) == 0 || all[0] != kept {
		tb.Fatalf("ring %d: what was there before is gone: %v", kind, all)
	}
	samples := all[1:]
	if !ret.OK() && len(samples) > 0 {
		tb.Errorf("ring %d: %d samples with %v", kind, len(samples), ret)
	}
	previous := since
	for i, sample := range samples {
		if sample.DriverTimeMicroseconds < previous || sample.DriverTimeMicroseconds <= since {
			tb.Errorf("ring %d, sample %d: at %d after %d, asked for newer than %d",
				kind, i, sample.DriverTimeMicroseconds, previous, since)
		}
		previous = sample.DriverTimeMicroseconds
		percent := kind == gpu.RingGPUUtilization || kind == gpu.RingMemoryUtilization
		if sample.Value < 0 || percent && sample.Value > 100 {
			tb.Errorf("ring %d, sample %d: %d", kind, i, sample.Value)
		}
	}
	return samples, ret
}
