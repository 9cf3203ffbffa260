// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func TestProfileWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := one(t, newMachine(dgxh200.New(), ""))
		steps := []struct {
			wait, window time.Duration
			ret          gpu.Return
		}{
			{0, 0, gpu.NotReady},
			{50 * time.Millisecond, 0, gpu.NotReady},
			{50 * time.Millisecond, 0, gpu.NotReady}, // exactly 100 ms is not more than 100 ms
			{time.Millisecond, 101 * time.Millisecond, gpu.Success},
			{time.Second, time.Second, gpu.Success},
			{time.Millisecond, 0, gpu.NotReady},
			{999 * time.Millisecond, time.Second, gpu.Success},
		}
		for i, step := range steps {
			<-time.After(step.wait)
			values := []gpu.ProfileValue{{MetricID: 2}}
			window, ret := d.Profile(values)
			if window != step.window || ret != step.ret {
				t.Errorf("step %d: %v, %v; want %v, %v", i, window, ret, step.window, step.ret)
			}
			if want := 2 + float64(step.window.Milliseconds())/1e6; ret.OK() && values[0].Value != want {
				t.Errorf("step %d: %v, want %v", i, values[0].Value, want)
			}
		}
	})
}

func TestProfileCodesAndChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		d := one(t, m)
		values := make([]gpu.ProfileValue, 2*metricsPerCall+1)
		for i := range values {
			values[i].MetricID = uint32(i + 1)
		}
		values[0].MetricID = 1 << 20
		_, _ = d.Profile(values)
		<-time.After(time.Second)
		if _, ret := d.Profile(values); !ret.OK() {
			t.Fatal(ret)
		}
		for _, value := range values {
			switch ret := value.Return; {
			case value.MetricID == 1<<20 && ret != gpu.NotSupported,
				value.MetricID == uint32(nvml.GPM_METRIC_FP64_UTIL) && (ret != gpu.NoData || value.Value != 0),
				value.MetricID < 1<<20 && value.MetricID != uint32(nvml.GPM_METRIC_FP64_UTIL) && int(value.Value) != int(value.MetricID):
				t.Errorf("metric %d: %v, %v", value.MetricID, value.Value, ret)
			}
		}
		if calls := len(m.GpmMetricsGetCalls()); calls != 3 {
			t.Errorf("%d driver calls for %d metrics", calls, len(values))
		}
		if samples := len(m.GpmSampleAllocCalls()); samples != 2 {
			t.Errorf("%d samples allocated", samples)
		}
	})
}

func TestProfileSupport(t *testing.T) {
	d := one(t, newMachine(dgxa100.New(), ""))
	if _, ret := d.Profile(nil); ret != gpu.NotSupported {
		t.Errorf("on an A100: %v", ret)
	}

	m := newMachine(dgxh200.New(), "")
	d = one(t, m)
	supported := m.gpus[0].GpmQueryDeviceSupportFunc
	m.gpus[0].GpmQueryDeviceSupportFunc = func() (nvml.GpmSupport, nvml.Return) { return nvml.GpmSupport{}, nvml.ERROR_UNKNOWN }
	if _, ret := d.Profile(nil); ret != gpu.Unknown {
		t.Errorf("an error that may pass: %v", ret)
	}
	m.gpus[0].GpmQueryDeviceSupportFunc = supported
	if _, ret := d.Profile(nil); ret != gpu.NotReady {
		t.Errorf("once it has passed: %v", ret)
	}
}
