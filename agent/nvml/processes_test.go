// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"slices"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// addProcesses gives the GPU one process of each kind.
func (g *fakeGPU) addProcesses() {
	none := gpu.NoInstance
	g.GetComputeRunningProcessesFunc = answer(g, []nvml.ProcessInfo{{Pid: 4711, UsedGpuMemory: 70 << 30, GpuInstanceId: none, ComputeInstanceId: none}})
	g.GetGraphicsRunningProcessesFunc = answer(g, []nvml.ProcessInfo{{Pid: 900, UsedGpuMemory: ^uint64(0), GpuInstanceId: none, ComputeInstanceId: none}})
	g.GetMPSComputeRunningProcessesFunc = answer(g, []nvml.ProcessInfo{{Pid: 4712, UsedGpuMemory: 1 << 30, GpuInstanceId: none, ComputeInstanceId: none}})
}

// split makes two MIG instances of the GPU. That it may not tell the place of the second is as for a
// program that is not root.
func (g *fakeGPU) split() {
	g.GetMigModeFunc = answerPair(g, nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE)
	g.GetMaxMigDeviceCountFunc = answer(g, 7)
	parts := map[int]*fakeGPU{0: g.part(1, "MIG-a"), 2: g.part(2, "MIG-b")}
	g.GetMigDeviceHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		if parts[index] == nil {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return answer[nvml.Device](g, parts[index].Device)()
	}
	g.GpmMigSampleGetFunc = g.sampleOfPart
	g.GetGpuInstanceByIdFunc = func(id int) (nvml.GpuInstance, nvml.Return) {
		if id != 1 {
			return nil, nvml.ERROR_NO_PERMISSION
		}
		return &mock.GpuInstance{}, nvml.SUCCESS
	}
	g.machine.GpuInstanceGetInfoFunc = func(nvml.GpuInstance) (nvml.GpuInstanceInfo, nvml.Return) {
		return nvml.GpuInstanceInfo{Id: 1, ProfileId: 9, Placement: nvml.GpuInstancePlacement{Start: 4, Size: 4}}, nvml.SUCCESS
	}
}

// sampleOfPart notes the time of a GPM sample, as for the whole GPU.
func (g *fakeGPU) sampleOfPart(_ int, sample nvml.GpmSample) nvml.Return {
	g.machine.mutex.Lock()
	defer g.machine.mutex.Unlock()
	g.machine.sampled[sample] = time.Now()
	return nvml.SUCCESS
}

// part is the handle of a MIG instance.
func (g *fakeGPU) part(gi int, uuid string) *fakeGPU {
	part := &fakeGPU{Device: &server.Device{}, machine: g.machine}
	part.GetUUIDFunc = answer(part, uuid)
	part.GetGpuInstanceIdFunc = answer(part, gi)
	part.GetComputeInstanceIdFunc = answer(part, 0)
	part.GetNameFunc = answer(part, "NVIDIA H200 MIG 3g.71gb")
	part.GetMemoryInfo_v2Func = answer(part, nvml.Memory_v2{Total: 64 << 30, Reserved: 1 << 28, Free: 60<<30 - 1<<28, Used: 4 << 30})
	part.GetBAR1MemoryInfoFunc = answer(part, nvml.BAR1Memory{Bar1Total: 1 << 36, Bar1Free: 1<<36 - 5, Bar1Used: 5})
	g.machine.parts = append(g.machine.parts, part)
	return part
}

func TestProcesses(t *testing.T) {
	d := one(t, newMachine(dgxh200.New(), ""))
	before := gpu.Process{PID: 1}
	want := []gpu.Process{
		before,
		{PID: 4711, Kind: gpu.ComputeProcess, MemoryBytes: 70 << 30, MemoryKnown: true, GI: gpu.NoInstance, CI: gpu.NoInstance},
		{PID: 900, Kind: gpu.GraphicsProcess, GI: gpu.NoInstance, CI: gpu.NoInstance},
		{PID: 4712, Kind: gpu.MPSProcess, MemoryBytes: 1 << 30, MemoryKnown: true, GI: gpu.NoInstance, CI: gpu.NoInstance},
	}
	if got, ret := d.Processes(gpu.AllProcesses, []gpu.Process{before}); !ret.OK() || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, ret)
	}
}

// A kind of context that a GPU does not have is none; only if it has none at all, that is the answer. That
// they may not be seen, or the GPU is gone, is always the answer.
func TestProcessesThatCannotBeAskedFor(t *testing.T) {
	fail := func(ret nvml.Return) func() ([]nvml.ProcessInfo, nvml.Return) {
		return func() ([]nvml.ProcessInfo, nvml.Return) { return nil, ret }
	}
	cases := []struct {
		compute, graphics, mps nvml.Return
		want                   gpu.Return
		count                  int
	}{
		{nvml.SUCCESS, nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED, gpu.Success, 1},
		{nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED, nvml.SUCCESS, gpu.Success, 1},
		{nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED, gpu.NotSupported, 0},
		{nvml.ERROR_NO_PERMISSION, nvml.SUCCESS, nvml.SUCCESS, gpu.NoPermission, 0},
		{nvml.SUCCESS, nvml.SUCCESS, nvml.ERROR_GPU_IS_LOST, gpu.GPUIsLost, 0},
	}
	for _, c := range cases {
		m := newMachine(dgxh200.New(), "")
		g := m.gpus[0]
		for ret, function := range map[*nvml.Return]*func() ([]nvml.ProcessInfo, nvml.Return){
			&c.compute: &g.GetComputeRunningProcessesFunc, &c.graphics: &g.GetGraphicsRunningProcessesFunc, &c.mps: &g.GetMPSComputeRunningProcessesFunc,
		} {
			if *ret != nvml.SUCCESS {
				*function = fail(*ret)
			}
		}
		before := []gpu.Process{{PID: 1}}
		if got, ret := one(t, m).Processes(gpu.AllProcesses, before); ret != c.want || len(got) != 1+c.count || got[0] != before[0] {
			t.Errorf("%+v: %+v, %v", c, got, ret)
		}
	}
}

// Some drivers write beyond the end of what they are given: they are never asked.
func TestProcessesOfDriversThatWriteTooMuch(t *testing.T) {
	for version, asked := range map[string]bool{
		"535.43.02": false, "535.54.03": false, "535.86.10": false, "535.98": true, "535.104.05": true, "530.30.02": true, "580.95.05": true, "535": true, "535.x": true,
	} {
		m := newMachine(dgxh200.New(), version)
		if !asked {
			for _, call := range processLists {
				m.forbid(t, call)
			}
		}
		if _, ret := one(t, m).Processes(gpu.AllProcesses, nil); ret.OK() != asked {
			t.Errorf("%s: %v", version, ret)
		}
	}
}

func TestInstances(t *testing.T) {
	m := newMachine(dgxh200.New(), "")
	d := one(t, m)
	if got, ret := d.Instances(nil); !ret.OK() || len(got) != 0 {
		t.Errorf("a GPU that is not split: %+v, %v", got, ret)
	}
	m.gpus[0].split()
	want := []gpu.Instance{{UUID: "MIG-a", GI: 1, Placed: true, Profile: 9, Start: 4}, {UUID: "MIG-b", GI: 2}}
	for range 2 {
		if got, ret := d.Instances(nil); !ret.OK() || !slices.Equal(got, want) {
			t.Errorf("%+v, %v", got, ret)
		}
	}
	// The same handle stands for another instance now.
	m.parts[0].GetUUIDFunc, m.parts[0].GetGpuInstanceIdFunc = answer(m.parts[0], "MIG-c"), answer(m.parts[0], 1)
	if got, ret := d.Instances(nil); !ret.OK() || len(got) != 2 || got[0].UUID != "MIG-c" {
		t.Errorf("after it was split anew: %+v, %v", got, ret)
	}
	m.parts[1].lost.Store(true)
	if got, ret := d.Instances(nil); ret != gpu.GPUIsLost || len(got) != 0 {
		t.Errorf("an instance that is lost: %+v, %v", got, ret)
	}
	m.gpus[0].GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
	if got, ret := d.Instances(nil); !ret.OK() || len(got) != 0 {
		t.Errorf("a GPU that cannot be split: %+v, %v", got, ret)
	}
}
