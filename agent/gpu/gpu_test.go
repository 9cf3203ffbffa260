// SPDX-License-Identifier: Apache-2.0

package gpu_test

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// TestSchemaSources resolves every source of every metric: a name that no driver knows would read as
// "not supported" on all GPUs for ever.
func TestSchemaSources(t *testing.T) {
	for _, metric := range schema.Metrics() {
		if len(metric.Sources) == 0 {
			t.Errorf("%s has no source", metric.Name)
		}
		for _, source := range metric.Sources {
			switch source.Kind {
			case schema.FromField, schema.FromFieldPerLink:
				_, before := gpu.FieldID(source.Name, gpu.OlderNumbering)
				_, after := gpu.FieldID(source.Name, gpu.NewerNumbering)
				if !before && !after {
					t.Errorf("%s: no driver has the field %s", metric.Name, source.Name)
				}
			case schema.FromGetter:
				getter, ok := gpu.GetterByName(source.Name, source.Argument)
				if !ok || source.Part >= gpu.Getters[getter].Parts {
					t.Errorf("%s: no getter %s(%s) with part %d", metric.Name, source.Name, source.Argument, source.Part)
				}
			case schema.FromProfile:
				if source.ID == 0 || source.ID > 476 { // NVML_GPM_METRIC_MAX in go-nvml v0.13.4-1
					t.Errorf("%s: no GPM metric %d", metric.Name, source.ID)
				}
			case schema.FromRing:
				switch gpu.RingKind(source.ID) {
				case gpu.RingTotalPower, gpu.RingGPUUtilization, gpu.RingMemoryUtilization, gpu.RingProcessorClock, gpu.RingMemoryClock,
					gpu.RingModulePower:
				default:
					t.Errorf("%s: no ring %d", metric.Name, source.ID)
				}
			default:
				t.Errorf("%s: source of unknown kind %d", metric.Name, source.Kind)
			}
		}
	}
}

func TestGetterByName(t *testing.T) {
	cases := []struct {
		symbol, argument string
		want             gpu.Getter
		ok               bool
	}{
		{"nvmlDeviceGetUtilizationRates", "", gpu.GetUtilizationRates, true},
		{"nvmlDeviceGetUtilizationRates", "SM", gpu.GetUtilizationRates, false},
		{"nvmlDeviceGetClockInfo", "SM", gpu.GetClockSM, true},
		{"nvmlDeviceGetClockInfo", "Memory", gpu.GetClockMemory, true},
		{"nvmlDeviceGetClockInfo", "Graphics", gpu.GetClockGraphics, true},
		{"nvmlDeviceGetClockInfo", "", 0, false},
		{"nvmlDeviceGetRetiredPagesPendingStatus", "", gpu.GetRetiredPagesPending, true},
		{"nvmlDeviceGetNothing", "", 0, false},
	}
	for _, c := range cases {
		if got, ok := gpu.GetterByName(c.symbol, c.argument); got != c.want || ok != c.ok {
			t.Errorf("%s(%s): %d, %v; want %d, %v", c.symbol, c.argument, got, ok, c.want, c.ok)
		}
	}
}

func TestGettersFitIntoParts(t *testing.T) {
	var parts gpu.Parts
	for getter, info := range gpu.Getters {
		if info.Symbol == "" || info.Parts < 1 || info.Parts > len(parts) {
			t.Errorf("getter %d: %+v", getter, info)
		}
	}
}

func TestReturn(t *testing.T) {
	cases := []struct {
		ret                   gpu.Return
		name                  string
		ok, unsupported, lost bool
	}{
		{gpu.Success, "success", true, false, false},
		{gpu.NotSupported, "not supported", false, true, false},
		{gpu.FunctionNotFound, "function not found", false, true, false},
		{gpu.NoPermission, "no permission", false, true, false},
		{gpu.NotFound, "not found", false, false, false},
		{gpu.NotReady, "not ready", false, false, false},
		{gpu.GPUIsLost, "GPU is lost", false, false, true},
		{gpu.ResetRequired, "GPU requires reset", false, false, true},
		{gpu.Unknown, "unknown error", false, false, false},
		{gpu.InUse, "in use", false, false, false},
		{gpu.Return(22), "NVML return 22", false, false, false},
	}
	for _, c := range cases {
		if c.ret.String() != c.name || c.ret.Error() != c.name {
			t.Errorf("%d is called %q and %q, want %q", c.ret, c.ret.String(), c.ret.Error(), c.name)
		}
		if c.ret.OK() != c.ok || c.ret.Unsupported() != c.unsupported || c.ret.Lost() != c.lost {
			t.Errorf("%v: ok %v, unsupported %v, lost %v", c.ret, c.ret.OK(), c.ret.Unsupported(), c.ret.Lost())
		}
	}
}

func TestReturnsOfADriverThatIsGone(t *testing.T) {
	for ret, want := range map[gpu.Return]bool{gpu.DriverNotLoaded: true, gpu.Uninitialized: true, gpu.GPUIsLost: false, gpu.Success: false} {
		if ret.Gone() != want {
			t.Errorf("%v: gone %t, want %t", ret, !want, want)
		}
	}
}
