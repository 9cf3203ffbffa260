// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/gpu/gputest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	machines := []struct {
		name, driver string
		server       func() *server.Server
		splits       bool
	}{
		{"A100", "", dgxa100.New, false},
		{"H100", "535.230.02", dgxh100.New, false},
		{"H200, fields before the renumbering", "580.95.05", dgxh200.New, false},
		{"H200, fields after the renumbering", "590.48.01", dgxh200.New, false},
		{"H200, split", "590.48.01", dgxh200.New, true},
		{"A100, split", "", dgxa100.New, true},
		{"B200", "595.12", dgxb200.New, false},
	}
	for _, c := range machines {
		t.Run(c.name, func(t *testing.T) {
			gputest.Conformance(t, func(t *testing.T) gpu.Driver {
				t.Helper()
				m := newMachine(c.server(), c.driver)
				t.Cleanup(func() {
					if n := m.leaks(); n > 0 {
						t.Errorf("%d samples or event sets were not freed", n)
					}
				})
				if c.splits {
					m.gpus[1].split()
				}
				m.events <- nvml.EventData{Device: m.Devices[1], EventType: nvml.EventTypeXidCriticalError, EventData: 79}
				return m.open(t)
			})
		})
	}
}

// TestConformanceOnHardware runs where there is a driver and a GPU.
func TestConformanceOnHardware(t *testing.T) {
	open := func(t *testing.T) gpu.Driver {
		t.Helper()
		driver, err := Open(Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		if errors.Is(err, ErrNoDriver) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return driver
	}
	driver := open(t)
	driver.Close()
	gputest.ConformanceOnHardware(t, open)
}

func TestSystem(t *testing.T) {
	driver := newMachine(dgxh200.New(), "580.95.05").open(t)
	defer driver.Close()
	want := gpu.System{DriverVersion: "580.95.05", NVMLVersion: "12.550.54.15", CUDAVersion: "12.4"}
	if got, ret := driver.System(); !ret.OK() || got != want {
		t.Errorf("%+v, %v; want %+v", got, ret, want)
	}
}

func TestStartExplainsWhyNot(t *testing.T) {
	cases := []struct {
		ret      nvml.Return
		want     string
		noDriver bool
	}{
		{nvml.ERROR_DRIVER_NOT_LOADED, "driver not loaded", true},
		{nvml.ERROR_LIB_RM_VERSION_MISMATCH, "restart", false},
		{nvml.ERROR_NO_PERMISSION, "/dev/nvidiactl", false},
		{nvml.ERROR_UNKNOWN, "unknown error", false},
	}
	for _, c := range cases {
		m := newMachine(dgxh200.New(), "")
		m.InitFunc = func() nvml.Return { return c.ret }
		_, err := start(m, m.handle, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrNoDriver) != c.noDriver {
			t.Errorf("%d: %v", c.ret, err)
		}
	}
}

func TestLostGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		driver := m.open(t)
		defer driver.Close()
		before, _ := driver.Devices()
		third := before[3].(*device)
		profile := []gpu.ProfileValue{{MetricID: 2}}
		_, _ = third.Profile(profile)
		<-time.After(time.Second)

		m.gpus[3].lost.Store(true)
		var parts gpu.Parts
		_, identity := third.Identity()
		_, profiled := third.Profile(profile)
		_, sampled := third.Samples(gpu.RingTotalPower, 0, nil)
		for call, ret := range map[string]gpu.Return{
			"Fields": third.Fields([]gpu.FieldValue{{FieldID: 83}}), "Get": third.Get(gpu.GetTemperature, &parts),
			"Identity": identity, "Profile": profiled, "Samples": sampled,
		} {
			if ret != gpu.GPUIsLost {
				t.Errorf("%s on a lost GPU: %v", call, ret)
			}
		}
		after, ret := driver.Devices()
		if !ret.OK() || len(after) != len(before)-1 || after[3] != before[4] {
			t.Errorf("the lost GPU is still listed, or others changed: %v, %v", after, ret)
		}

		m.gpus[3].lost.Store(false)
		if again, _ := driver.Devices(); len(again) != len(before) || again[3] != before[3] {
			t.Error("the GPU that came back is not listed as the same Device")
		}
		if _, ret := third.Profile(profile); ret != gpu.NotReady {
			t.Errorf("counters from before the loss were used: %v", ret)
		}
	})
}

func TestIdentityOfAGPULostOnTheWay(t *testing.T) {
	m := newMachine(dgxh200.New(), "")
	driver := m.open(t)
	defer driver.Close()
	devices, _ := driver.Devices()
	m.gpus[0].GetSerialFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
	if identity, ret := devices[0].Identity(); ret != gpu.GPUIsLost || identity.UUID != "" {
		t.Errorf("half an identity: %+v, %v", identity, ret)
	}
}

func TestClose(t *testing.T) {
	m := newMachine(dgxh200.New(), "")
	shutdowns := 0
	m.ShutdownFunc = func() nvml.Return { shutdowns++; return nvml.SUCCESS }
	driver := m.open(t)
	devices, _ := driver.Devices()
	_, _ = devices[0].(gpu.Profiler).Profile(nil)
	_, _ = driver.NextEvent(0)
	if m.leaks() == 0 {
		t.Fatal("nothing was allocated that could be released")
	}
	if ret := driver.Close(); !ret.OK() || m.leaks() != 0 || shutdowns != 1 {
		t.Errorf("%v, %d leaks, %d shutdowns", ret, m.leaks(), shutdowns)
	}

	var parts gpu.Parts
	_, system := driver.System()
	_, listed := driver.Devices()
	_, event := driver.NextEvent(time.Hour)
	_, identity := devices[0].Identity()
	_, profiled := devices[0].(gpu.Profiler).Profile(nil)
	_, sampled := devices[0].(gpu.Ring).Samples(gpu.RingTotalPower, 0, nil)
	for call, ret := range map[string]gpu.Return{
		"Close": driver.Close(), "System": system, "Devices": listed, "NextEvent": event, "Identity": identity,
		"Fields": devices[0].Fields(nil), "Get": devices[0].Get(gpu.GetTemperature, &parts), "Profile": profiled, "Samples": sampled,
	} {
		if ret != gpu.Uninitialized {
			t.Errorf("%s after Close: %v", call, ret)
		}
	}
	if shutdowns != 1 {
		t.Errorf("%d shutdowns", shutdowns)
	}
}

// TestCloseDuringACall has a GPU that hangs: what its call uses must not be freed.
func TestCloseDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		driver := m.open(t)
		devices, _ := driver.Devices()
		_, _ = devices[0].(gpu.Profiler).Profile(nil)
		hang := make(chan struct{})
		m.gpus[0].GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			<-hang
			return nvml.Utilization{}, nvml.SUCCESS
		}
		go func() { _ = devices[0].Get(gpu.GetUtilizationRates, new(gpu.Parts)) }()
		synctest.Wait()
		if ret := driver.Close(); ret != errInUse || m.leaks() != 2 {
			t.Errorf("Close while a call is under way: %v, %d samples kept", ret, m.leaks())
		}
		close(hang)
		synctest.Wait()
		if ret := driver.Close(); !ret.OK() || m.leaks() != 0 {
			t.Errorf("Close once the call is over: %v, %d leaks", ret, m.leaks())
		}
	})
}
