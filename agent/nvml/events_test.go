// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func TestEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		driver := m.open(t)
		defer driver.Close()
		start := time.Now()
		if _, ret := driver.NextEvent(time.Second); ret != gpu.Timeout || time.Since(start) != time.Second {
			t.Errorf("%v after %v", ret, time.Since(start))
		}
		for i, g := range m.gpus {
			calls := g.RegisterEventsCalls()
			if len(calls) != 1 || calls[0].V != uint64(wantedEvents&^gpu.EventPowerSource) {
				t.Errorf("GPU %d registered %+v", i, calls)
			}
		}

		m.events <- nvml.EventData{
			Device: m.Devices[5], EventType: nvml.EventTypeXidCriticalError, EventData: 94, GpuInstanceId: 3, ComputeInstanceId: 1,
		}
		want := gpu.Event{Time: time.Now(), UUID: m.gpus[5].UUID, Kind: gpu.EventXID, Data: 94, GI: 3, CI: 1}
		if got, ret := driver.NextEvent(time.Second); !ret.OK() || got != want {
			t.Errorf("%+v, %v; want %+v", got, ret, want)
		}
		m.events <- nvml.EventData{Device: m.Devices[0], EventType: nvml.EventTypeDramRetirementEvent}
		got, ret := driver.NextEvent(time.Second)
		if !ret.OK() || got.Kind != gpu.EventDRAMRetired || got.GI != gpu.NoInstance || got.CI != gpu.NoInstance {
			t.Errorf("%+v, %v", got, ret)
		}
	})
}

// TestEventOfALostGPU has the GPU fall off the bus, be missed, and report it only then.
func TestEventOfALostGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		driver := m.open(t)
		defer driver.Close()
		_, _ = driver.NextEvent(0)
		m.gpus[2].lost.Store(true)
		_, _ = driver.Devices()
		_, _ = driver.NextEvent(0)
		m.events <- nvml.EventData{Device: m.Devices[2], EventType: nvml.EventTypeGpuUnavailableError}
		if got, ret := driver.NextEvent(time.Second); !ret.OK() || got.UUID != m.gpus[2].UUID {
			t.Errorf("%+v, %v", got, ret)
		}

		m.gpus[2].lost.Store(false)
		_, _ = driver.Devices()
		_, _ = driver.NextEvent(0)
		if lost, other := len(m.gpus[2].RegisterEventsCalls()), len(m.gpus[1].RegisterEventsCalls()); lost != 2 || other != 1 {
			t.Errorf("the GPU that came back was registered %d times, another %d times", lost, other)
		}
		if sets := len(m.EventSetCreateCalls()); sets != 1 {
			t.Errorf("%d event sets", sets)
		}
	})
}

func TestEventsAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		driver := m.open(t)
		defer driver.Close()
		m.setWaitReturn(nvml.ERROR_GPU_IS_LOST)
		for pause := firstPause; pause < 2*lastPause; pause *= 2 {
			if _, ret := driver.NextEvent(time.Second); ret != gpu.GPUIsLost {
				t.Fatalf("%v, want the error", ret)
			}
			asked, failed := len(m.EventSetWaitCalls()), time.Now()
			for len(m.EventSetWaitCalls()) == asked && time.Until(failed.Add(min(pause, lastPause))) > 0 {
				start := time.Now()
				if _, ret := driver.NextEvent(time.Second); ret != gpu.Timeout || time.Since(start) > time.Second {
					t.Fatalf("during the pause: %v after %v", ret, time.Since(start))
				}
			}
			if waited := time.Since(failed); waited != min(pause, lastPause) || len(m.EventSetWaitCalls()) != asked {
				t.Fatalf("the driver was asked again after %v, want %v", waited, min(pause, lastPause))
			}
			if m.leaks() != 0 {
				t.Errorf("the event set was kept")
			}
		}

		m.setWaitReturn(nvml.SUCCESS)
		m.events <- nvml.EventData{Device: m.Devices[0], EventType: nvml.EventTypeXidCriticalError, EventData: 31}
		if got, ret := driver.NextEvent(time.Second); !ret.OK() || got.Data != 31 {
			t.Errorf("after the error: %+v, %v", got, ret)
		}
		if calls := len(m.gpus[0].RegisterEventsCalls()); calls != len(m.EventSetCreateCalls()) || calls < 2 {
			t.Errorf("%d registrations in %d event sets", calls, len(m.EventSetCreateCalls()))
		}
	})
}

func TestEventsNotSupported(t *testing.T) {
	breaks := map[string]func(*machine){
		"no GPU has any": func(m *machine) {
			for _, g := range m.gpus {
				g.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypePState, nvml.SUCCESS }
			}
		},
		"no event sets": func(m *machine) { m.missing["nvmlEventSetCreate"] = true },
		"no waiting":    func(m *machine) { m.missing["nvmlEventSetWait"], m.missing["nvmlEventSetWait_v2"] = true, true },
	}
	for name, br := range breaks {
		t.Run(name, func(t *testing.T) {
			m := newMachine(dgxh200.New(), "")
			br(m)
			driver := m.open(t)
			defer driver.Close()
			for range 2 {
				if _, ret := driver.NextEvent(time.Hour); ret != gpu.NotSupported {
					t.Error(ret)
				}
			}
			if m.leaks() != 0 {
				t.Error("the event set was kept")
			}
		})
	}
}

// TestEventsOfSomeGPUs has one GPU that refuses for a while, and one that has no events.
func TestEventsOfSomeGPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		m.gpus[0].GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		register := m.gpus[1].RegisterEventsFunc
		m.gpus[1].RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.ERROR_UNKNOWN }
		driver := m.open(t)
		defer driver.Close()
		_, _ = driver.NextEvent(time.Second)
		_, _ = driver.NextEvent(time.Second)
		if calls := len(m.gpus[1].RegisterEventsCalls()); calls != 1 {
			t.Errorf("the GPU that refuses was asked %d times in 2 s", calls)
		}
		m.gpus[1].RegisterEventsFunc = register
		<-time.After(lastPause)
		_, _ = driver.NextEvent(time.Second)
		_, _ = driver.NextEvent(time.Second)
		if calls := len(m.gpus[1].RegisterEventsCalls()); calls != 2 {
			t.Errorf("the GPU that refused was asked %d times", calls)
		}
		if calls := len(m.gpus[0].GetSupportedEventTypesCalls()); calls != 1 {
			t.Errorf("the GPU without events was asked %d times", calls)
		}
	})
}

// TestEventsWithoutGPUs waits, since GPUs may appear.
func TestEventsWithoutGPUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		for _, g := range m.gpus {
			g.lost.Store(true)
		}
		driver := m.open(t)
		start := time.Now()
		if _, ret := driver.NextEvent(time.Second); ret != gpu.Timeout || time.Since(start) != time.Second {
			t.Errorf("%v after %v", ret, time.Since(start))
		}
		waiting := make(chan gpu.Return)
		go func() {
			_, ret := driver.NextEvent(time.Hour)
			waiting <- ret
		}()
		synctest.Wait()
		start = time.Now()
		go driver.Close()
		if ret := <-waiting; ret != gpu.Timeout || time.Since(start) != 0 {
			t.Errorf("%v, %v after Close", ret, time.Since(start))
		}
	})
}
