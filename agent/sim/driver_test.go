// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// The captures show these as N/A, deprecated or absent.
func TestWhatTheCapturesLackIsNotAnswered(t *testing.T) {
	everywhere := []string{"DEV_RETIRED_SBE", "DEV_RETIRED_DBE", "DEV_RETIRED_PENDING"}
	for _, location := range []string{"L1", "L2", "REG", "TEX"} {
		everywhere = append(everywhere, "DEV_ECC_SBE_VOL_"+location, "DEV_ECC_DBE_AGG_"+location)
	}
	links5 := []string{"DEV_NVLINK_COUNT_XMIT_BYTES", "DEV_NVLINK_COUNT_SYMBOL_BER", "DEV_NVLINK_COUNT_FEC_HISTORY_0"}
	links4 := []string{"DEV_NVLINK_THROUGHPUT_DATA_TX", "DEV_NVLINK_ERROR_DL_CRC"}
	grace := []string{"DEV_C2C_LINK_COUNT", "DEV_C2C_LINK_POWER_STATE"}
	tests := []struct {
		model  Model
		driver string
		lacks  []string
	}{
		{A100, "570.148.08", slices.Concat(links5, grace, []string{"DEV_POWER_AVERAGE", "DEV_TEMPERATURE_SHUTDOWN_TLIMIT"})},
		{H100, "590.48.01", slices.Concat(links5, grace, []string{"PWR_SMOOTHING_ENABLED"})},
		{H200, "580.65.06", slices.Concat(links5, grace, []string{"PWR_SMOOTHING_ENABLED"})},
		{B200, "580.65.06", slices.Concat(links4, grace)},
		{GB200, "590.48.01", links4},
	}
	for _, test := range tests {
		r := newRig(t, NodeConfig{Model: test.model, Driver: test.driver})
		for _, name := range slices.Concat(everywhere, test.lacks) {
			if v := r.ask(0, name, 0); v.Return != gpu.NotSupported {
				t.Errorf("%v on %s, %s: %v", test.model, test.driver, name, v.Return)
			}
		}
		if v := r.ask(0, "DEV_RESET_STATUS", 0); v.Return != returnDeprecated {
			t.Errorf("%v on %s, reset status: %v", test.model, test.driver, v.Return)
		}
	}
}

func TestGettersByModel(t *testing.T) {
	tests := []struct {
		model  Model
		driver string
		getter gpu.Getter
		want   gpu.Return
	}{
		{A100, "550.163.01", gpu.GetMarginTemperature, gpu.FunctionNotFound},
		{A100, "570.148.08", gpu.GetMarginTemperature, gpu.NotSupported},
		{A100, "", gpu.GetFabricInfo, gpu.NotSupported},
		{A100, "", gpu.GetSRAMECC, gpu.Success},
		{H100, "", gpu.GetMarginTemperature, gpu.Success},
		{H100, "", gpu.GetRetiredPagesPending, gpu.NotSupported},
		{GB200, "", gpu.GetFabricInfo, gpu.Success},
	}
	for _, test := range tests {
		r := newRig(t, NodeConfig{Model: test.model, Driver: test.driver})
		var parts gpu.Parts
		if ret := r.devices[0].Get(test.getter, &parts); ret != test.want {
			t.Errorf("%v on %q, %s: %v, want %v", test.model, test.driver, gpu.Getters[test.getter].Symbol, ret, test.want)
		}
	}
}

// The number 251 is a slowdown time up to 580.65 and the state of power smoothing later.
func TestBothNumberingsOccur(t *testing.T) {
	ask := func(model Model, driver string) gpu.FieldValue {
		r := newRig(t, NodeConfig{Model: model, Driver: driver, Workload: Burn, Seed: 3})
		r.inject(Fault{Kind: Overheat, Celsius: 40})
		r.pass(time.Minute)
		values := []gpu.FieldValue{{FieldID: 251}}
		if ret := r.devices[0].Fields(values); !ret.OK() {
			t.Errorf("%v: %v", model, ret)
		}
		return values[0]
	}
	if v := ask(B200, "580.65.06"); !v.Return.OK() || v.Type != gpu.TypeUint64 {
		t.Errorf("field 251 on R580: %+v", v)
	} else if slowed, _ := v.Int(); slowed == 0 {
		t.Error("field 251 on R580: no slowdown time")
	}
	if v := ask(GB200, "590.48.01"); !v.Return.OK() || v.Type != gpu.TypeUint32 {
		t.Errorf("field 251 on R590: %+v", v)
	}
	if v := ask(A100, "550.163.01"); v.Return != gpu.InvalidArgument {
		t.Errorf("field 251 on R550, which does not know it: %v", v.Return)
	}
}

func TestScopesOfLinks(t *testing.T) {
	tests := []struct {
		model Model
		name  string
		scope uint32
		want  gpu.Return
	}{
		{H100, "DEV_NVLINK_GET_STATE", 17, gpu.Success},
		{H100, "DEV_NVLINK_GET_STATE", 18, gpu.InvalidArgument},
		{A100, "DEV_NVLINK_GET_STATE", 12, gpu.NotSupported},
		{H100, "DEV_NVLINK_THROUGHPUT_DATA_TX", gpu.ScopeAll, gpu.Success},
		{B200, "DEV_NVLINK_COUNT_XMIT_BYTES", gpu.ScopeAll, gpu.InvalidArgument},
		{GB200, "DEV_POWER_INSTANT", 1, gpu.Success},
		{H100, "DEV_POWER_INSTANT", 1, gpu.NotSupported},
		{GB200, "DEV_C2C_LINK_GET_STATUS", 9, gpu.Success},
		{GB200, "DEV_C2C_LINK_GET_STATUS", 10, gpu.NotSupported},
	}
	for _, test := range tests {
		r := newRig(t, NodeConfig{Model: test.model})
		if v := r.ask(0, test.name, test.scope); v.Return != test.want {
			t.Errorf("%v, %s, scope %d: %v, want %v", test.model, test.name, test.scope, v.Return, test.want)
		}
	}
}

func TestProfileWindow(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100})
	values := []gpu.ProfileValue{{MetricID: metricSM, Value: -1}}
	profiler := r.devices[0].(gpu.Profiler)
	for _, test := range []struct {
		wait   time.Duration
		window time.Duration
		want   gpu.Return
	}{
		{0, 0, gpu.NotReady},
		{60 * time.Millisecond, 0, gpu.NotReady},
		{60 * time.Millisecond, 120 * time.Millisecond, gpu.Success},
		{99 * time.Millisecond, 0, gpu.NotReady},
		{time.Millisecond, 100 * time.Millisecond, gpu.Success},
		{time.Second, time.Second, gpu.Success},
	} {
		r.pass(test.wait)
		if window, ret := profiler.Profile(values); ret != test.want || window != test.window {
			t.Errorf("after %v: %v, %v; want %v, %v", test.wait, window, ret, test.window, test.want)
		}
	}
	a100 := newRig(t, NodeConfig{Model: A100})
	if _, ret := a100.devices[0].(gpu.Profiler).Profile(values); ret != gpu.NotSupported {
		t.Errorf("A100: %v", ret)
	}
}

// ringShape is what a ring holds when it is full, and the µs between two samples.
type ringShape struct {
	samples int
	spacing uint64
}

func TestRingsKeepTheirOwnTime(t *testing.T) {
	described := map[gpu.RingKind]ringShape{
		gpu.RingTotalPower: {ringDepth, 50_000}, gpu.RingProcessorClock: {ringDepth, 50_000}, gpu.RingMemoryClock: {ringDepth, 50_000},
		gpu.RingGPUUtilization: {ringDepth, 166_667}, gpu.RingMemoryUtilization: {ringDepth, 166_667},
	}
	measured := map[gpu.RingKind]ringShape{
		gpu.RingTotalPower: {119, 20_000}, gpu.RingProcessorClock: {}, gpu.RingMemoryClock: {},
		gpu.RingGPUUtilization: {71, 200_000}, gpu.RingMemoryUtilization: {71, 200_000},
	}
	for model, shapes := range map[Model]map[gpu.RingKind]ringShape{A100: described, H200: measured} {
		r := newRig(t, NodeConfig{Model: model, Seed: 1, Workload: Burn})
		r.pass(30 * time.Second)
		for kind, want := range shapes {
			samples, ret := r.ring(0, kind, 0)
			if len(samples) != want.samples || ret.OK() != (want.samples > 0) {
				t.Fatalf("%v, ring %d: %d samples, %v", model, kind, len(samples), ret)
			}
			for i := 1; i < len(samples); i++ {
				step := samples[i].DriverTimeMicroseconds - samples[i-1].DriverTimeMicroseconds
				if step < want.spacing-20 || step > want.spacing+20 {
					t.Fatalf("%v, ring %d: %d µs between two samples, want %d", model, kind, step, want.spacing)
				}
			}
		}
	}
}

// TestClocksOfRings: the measured one shows the wall clock, the other one drifts.
func TestClocksOfRings(t *testing.T) {
	r := newRig(t, NodeConfig{Model: A100, Seed: 1, Workload: Burn})
	r.pass(30 * time.Second)
	newest := func(r *rig) int64 {
		samples, _ := r.ring(0, gpu.RingTotalPower, 0)
		return int64(samples[len(samples)-1].DriverTimeMicroseconds)
	}
	first := newest(r)
	r.pass(24 * time.Hour)
	drift := newest(r) - first - (24 * time.Hour).Microseconds()
	if limit := int64(40 * 24 * 3600); drift == 0 || drift > limit || drift < -limit {
		t.Errorf("the driver's clock is off by %d µs after a day", drift)
	}
	measured := newRig(t, NodeConfig{Model: H200, Seed: 1, Workload: Burn})
	measured.pass(24 * time.Hour)
	if age := measured.node.now().UnixMicro() - newest(measured); age < 0 || age > 100_000 {
		t.Errorf("the newest sample is %d µs old by the wall clock", age)
	}
}

func TestRingOverrunsAndFallsAsleep(t *testing.T) {
	r := newRig(t, NodeConfig{Model: A100, Seed: 1, Workload: Burn})
	r.pass(10 * time.Second)
	samples, _ := r.ring(0, gpu.RingTotalPower, 0)
	since := samples[len(samples)-1].DriverTimeMicroseconds
	r.pass(time.Second)
	if samples, _ = r.ring(0, gpu.RingTotalPower, since); len(samples) != 20 {
		t.Errorf("%d samples after a second", len(samples))
	}
	r.pass(time.Minute)
	samples, _ = r.ring(0, gpu.RingTotalPower, since)
	if len(samples) != ringDepth || samples[0].DriverTimeMicroseconds <= since+20*50_000 {
		t.Errorf("%d samples after a minute, the first %d µs later", len(samples), samples[0].DriverTimeMicroseconds-since)
	}
	if again, ret := r.ring(0, gpu.RingTotalPower, samples[ringDepth-1].DriverTimeMicroseconds); !ret.OK() || len(again) != 0 {
		t.Errorf("%d samples right after, %v", len(again), ret)
	}

	idle := newRig(t, NodeConfig{Model: A100, Workload: Idle})
	idle.pass(time.Minute)
	for _, kind := range []gpu.RingKind{gpu.RingTotalPower, gpu.RingGPUUtilization, gpu.RingProcessorClock} {
		if _, ret := idle.ring(0, kind, 0); ret != gpu.NotFound {
			t.Errorf("ring %d of an idle GPU: %v", kind, ret)
		}
	}
	awake := newRig(t, NodeConfig{Model: H200, Workload: Idle})
	if samples, ret := awake.ring(0, gpu.RingTotalPower, 0); !ret.OK() || len(samples) != 119 {
		t.Errorf("the power of an idle H200: %d samples, %v", len(samples), ret)
	}
}

// A job that ends leaves its last samples in the ring for a while, then the ring is empty, and fills again from
// the next job on.
func TestRingFollowsTheJob(t *testing.T) {
	r := newRig(t, NodeConfig{Model: A100, Seed: 5})
	b := &r.node.boards[0]
	toEnd := time.Duration(b.job.end-b.job.ending-b.quantum) * quantum
	r.pass(toEnd + 2*time.Second)
	if samples, ret := r.ring(0, gpu.RingTotalPower, 0); !ret.OK() || len(samples) != ringDepth {
		t.Errorf("two seconds after the job: %d samples, %v", len(samples), ret)
	}
	r.pass(5 * time.Second)
	if _, ret := r.ring(0, gpu.RingTotalPower, 0); ret != gpu.NotFound {
		t.Errorf("seven seconds after the job: %v", ret)
	}
	next := b.plan.jobAt(b.job.end)
	for next.kind == Idle {
		next = b.plan.jobAt(next.end)
	}
	r.pass(time.Duration(next.start-b.quantum)*quantum + time.Second)
	if samples, ret := r.ring(0, gpu.RingTotalPower, 0); !ret.OK() || len(samples) < 19 || len(samples) > 22 {
		t.Errorf("one second into the next job: %d samples, %v", len(samples), ret)
	}
}
