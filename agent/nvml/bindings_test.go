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

// addChanges has the machine tell of GPUs that are bound and unbound.
func (m *machine) addChanges() {
	m.SystemEventSetCreateFunc = func(request *nvml.SystemEventSetCreateRequest) nvml.Return {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		if request.Version == 0 {
			return nvml.ERROR_ARGUMENT_VERSION_MISMATCH
		}
		m.sets++
		return nvml.SUCCESS
	}
	m.SystemRegisterEventsFunc = func(request *nvml.SystemRegisterEventRequest) nvml.Return {
		if request.EventTypes != 3 {
			return nvml.ERROR_INVALID_ARGUMENT
		}
		return nvml.SUCCESS
	}
	m.SystemEventSetWaitFunc = func(request *nvml.SystemEventSetWaitRequest) nvml.Return {
		m.mutex.Lock()
		ret := m.waitRet
		m.mutex.Unlock()
		if ret != nvml.SUCCESS {
			return ret
		}
		select {
		case *request.Data = <-m.changes:
			request.NumEvent = 1
			return nvml.SUCCESS
		case <-time.After(time.Duration(request.Timeoutms) * time.Millisecond):
			return nvml.ERROR_TIMEOUT
		}
	}
	m.SystemEventSetFreeFunc = func(*nvml.SystemEventSetFreeRequest) nvml.Return {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.sets--
		return nvml.SUCCESS
	}
}

func TestBindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(dgxh200.New(), "")
		d := m.open(t)
		devices, _ := d.Devices()
		for _, c := range []struct {
			data  nvml.SystemEventData_v1
			uuid  string
			bound bool
		}{
			{nvml.SystemEventData_v1{EventType: nvml.SystemEventTypeGpuDriverUnbind, GpuId: 0x1b << 8}, devices[1].UUID(), false},
			{nvml.SystemEventData_v1{EventType: nvml.SystemEventTypeGpuDriverBind, GpuId: 0x1c << 8}, devices[2].UUID(), true},
			{nvml.SystemEventData_v1{EventType: nvml.SystemEventTypeGpuDriverBind, GpuId: 0x7<<16 | 0x1c<<8}, "", true},
		} {
			m.changes <- c.data
			binding, ret := d.NextBinding(time.Second)
			if !ret.OK() || binding.UUID != c.uuid || binding.Bound != c.bound || binding.Time.IsZero() {
				t.Errorf("%+v is %+v, %v", c.data, binding, ret)
			}
		}
		if _, ret := d.NextBinding(time.Second); ret != gpu.Timeout {
			t.Errorf("nothing happens: %v", ret)
		}
		m.setWaitReturn(nvml.ERROR_UNKNOWN)
		if _, ret := d.NextBinding(time.Second); ret != gpu.Unknown {
			t.Errorf("an error of the driver: %v", ret)
		}
		m.setWaitReturn(nvml.SUCCESS)
		if ret := d.Close(); !ret.OK() || m.leaks() > 0 {
			t.Errorf("closed: %v, %d sets are left", ret, m.leaks())
		}
		if _, ret := d.NextBinding(time.Second); ret != gpu.Uninitialized {
			t.Errorf("after the driver was closed: %v", ret)
		}
	})
}

// TestDriverThatDoesNotTellOfBindings lacks one symbol, or refuses the events.
func TestDriverThatDoesNotTellOfBindings(t *testing.T) {
	for _, call := range []string{"SystemEventSetCreate", "SystemRegisterEvents", "SystemEventSetWait", ""} {
		m := newMachine(dgxh200.New(), "")
		if call != "" {
			m.missing[manifest[call][0]] = true
			m.forbid(t, call)
		} else {
			m.SystemRegisterEventsFunc = func(*nvml.SystemRegisterEventRequest) nvml.Return { return nvml.ERROR_NOT_SUPPORTED }
		}
		d := m.open(t)
		for range 2 {
			if _, ret := d.NextBinding(time.Second); ret != gpu.NotSupported {
				t.Errorf("without %q: %v", call, ret)
			}
		}
		if ret := d.Close(); !ret.OK() || m.leaks() > 0 {
			t.Errorf("closed: %v, %d sets are left", ret, m.leaks())
		}
	}
}
