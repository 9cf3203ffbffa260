// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// usedDriver is a fakeDriver whose first GPU tells who uses it.
type usedDriver struct {
	*fakeDriver

	first *usedDevice
}

func (d usedDriver) Devices() ([]gpu.Device, gpu.Return) {
	devices, ret := d.fakeDriver.Devices()
	if len(devices) > 0 && devices[0] == gpu.Device(d.first.fakeDevice) {
		devices[0] = d.first
	}
	return devices, ret
}

// usedDevice answers with the same slices each time, as a driver that reuses its memory would.
type usedDevice struct {
	*fakeDevice

	asked        int                // for processes
	kinds        []gpu.ProcessKinds // each time
	processes    []gpu.Process
	instances    []gpu.Instance
	instancesRet gpu.Return
}

func (d *usedDevice) Processes(kinds gpu.ProcessKinds, into []gpu.Process) ([]gpu.Process, gpu.Return) {
	if ret := d.enter(); !ret.OK() {
		return into, ret
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	d.kinds = append(d.kinds, kinds)
	for _, p := range d.processes {
		if kinds.Has(p.Kind) {
			into = append(into, p)
		}
	}
	return into, gpu.Success
}

func (d *usedDevice) Instances(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
	if ret := d.enter(); !ret.OK() {
		return into, ret
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(into, d.instances...), d.instancesRet
}

// usages takes what a sampler tells.
type usages struct {
	mu   sync.Mutex
	list []Usage
}

func (u *usages) take(one Usage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list = append(u.list, one)
}

// of lists what was told of one GPU.
func (u *usages) of(uuid string) []Usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(u.list), func(one Usage) bool { return one.UUID != uuid })
}

func startUsed(t *testing.T) (*testSampler, *usedDevice, *usages) {
	t.Helper()
	d := usedDriver{fakeDriver: newFakeDriver(2)}
	d.first = &usedDevice{fakeDevice: d.devices[0], processes: []gpu.Process{{PID: 1}}, instances: []gpu.Instance{{UUID: "MIG-1"}}}
	var told usages
	s := startSampler(t, func() (gpu.Driver, error) { return d, nil }, func(c *Config) { c.Usage, c.UsageInterval = told.take, 10*time.Second })
	return s, d.first, &told
}

// Who uses a GPU is asked with the first reading and every ten seconds, never while the GPU answers another call.
func TestUsageIsToldEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d, told := startUsed(t)
		wait(11500 * time.Millisecond)
		d.change(func() { d.processes, d.instances, d.instancesRet = []gpu.Process{{PID: 2}, {PID: 3}}, nil, gpu.Unknown })
		wait(10 * time.Second)
		s.stop()
		list := told.of("GPU-0")
		if len(list) != 3 || d.asked != 3 {
			t.Fatalf("%d in 21 s, %d calls: %+v", len(list), d.asked, list)
		}
		for i, want := range []int{1, 1, 2} {
			if got := list[i]; !got.Return.OK() || len(got.Processes) != want || int(got.Processes[0].PID) != want {
				t.Errorf("look %d: %+v", i, got)
			}
			if got := list[i].Instances; len(got) != 1 || got[0].UUID != "MIG-1" { // the last look could not read them
				t.Errorf("look %d: instances %+v", i, got)
			}
		}
		if list := told.of("GPU-1"); len(list) != 3 || list[0].Return != gpu.NotSupported || len(list[0].Processes) > 0 {
			t.Errorf("a GPU that cannot tell: %+v", list)
		}
		if rows := len(s.rowsOf("GPU-0")); rows != 21 {
			t.Errorf("%d rows in 21 s", rows)
		}
	})
}

func TestUsageOfALostGPU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d, told := startUsed(t)
		wait(2500 * time.Millisecond)
		d.lose(true)
		wait(20 * time.Second)
		s.stop()
		if list := told.of("GPU-0"); len(list) != 1 {
			t.Errorf("told %d times", len(list))
		}
	})
}

// Nobody asks a driver for what nobody wants.
func TestUsageIsNotAskedUnlessWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := usedDriver{fakeDriver: newFakeDriver(1)}
		d.first = &usedDevice{fakeDevice: d.devices[0]}
		s := startSampler(t, func() (gpu.Driver, error) { return d, nil })
		wait(30 * time.Second)
		s.stop()
		if d.first.asked != 0 {
			t.Errorf("asked %d times", d.first.asked)
		}
	})
}

// TestRareKindsOfContexts: a kind of which there is none is asked for once in a minute, one that is there each time.
func TestRareKindsOfContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d, told := startUsed(t)
		wait(75 * time.Second) // looks at 1, 11, … 71 s
		d.change(func() { d.processes = []gpu.Process{{PID: 1}, {PID: 9, Kind: gpu.MPSProcess}} })
		wait(60 * time.Second) // seen at 121 s
		d.change(func() { d.processes = []gpu.Process{{PID: 1}} })
		wait(20 * time.Second)
		s.stop()
		const compute, mps = gpu.ProcessKinds(1 << gpu.ComputeProcess), gpu.ProcessKinds(1<<gpu.ComputeProcess | 1<<gpu.MPSProcess)
		want := slices.Concat(
			[]gpu.ProcessKinds{gpu.AllProcesses}, slices.Repeat([]gpu.ProcessKinds{compute}, 5),
			[]gpu.ProcessKinds{gpu.AllProcesses}, slices.Repeat([]gpu.ProcessKinds{compute}, 5),
			[]gpu.ProcessKinds{gpu.AllProcesses, mps, mps, compute})
		if got := d.kinds; !slices.Equal(got, want[:len(got)]) || len(got) < len(want)-1 {
			t.Errorf("asked for %v, want %v", got, want)
		}
		if list := told.of("GPU-0"); len(list[len(list)-3].Processes) != 2 {
			t.Errorf("the client of MPS was not told: %+v", list)
		}
	})
}
