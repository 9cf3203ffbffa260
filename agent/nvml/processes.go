// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

var (
	_ gpu.Processes = (*device)(nil)
	_ gpu.Instances = (*device)(nil)
)

// notAvailable is what the driver writes in the place of a number that it does not have
// (NVML_VALUE_NOT_AVAILABLE).
const notAvailable = ^uint64(0)

// processLists are the calls that fill in an array of processes.
var processLists = []string{"GetComputeRunningProcesses", "GetGraphicsRunningProcesses", "GetMPSComputeRunningProcesses"}

// longProcesses tells whether a driver writes longer structs into that array than the version of its calls
// says: 32 bytes each in place of 24, beyond the array's end. Drivers 535.43 to 535.86 do; 535.98 does not.
func longProcesses(driverVersion string) bool {
	parts := strings.Split(driverVersion, ".")
	if parts[0] != "535" || len(parts) < 2 {
		return false
	}
	release, err := strconv.Atoi(parts[1])
	return err == nil && release < 98
}

// Processes asks for some kinds of contexts. A kind that the GPU or the driver does not have has no
// processes; that is no error, unless no kind can be asked for.
func (d *device) Processes(kinds gpu.ProcessKinds, into []gpu.Process) ([]gpu.Process, gpu.Return) {
	if !d.driver.life.enter() {
		return into, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	start, answered, refused := len(into), false, gpu.Success
	take := func(kind gpu.ProcessKind, list []nvml.ProcessInfo, ret gpu.Return) gpu.Return {
		switch {
		case ret.OK():
			answered = true
			for i := range list {
				into = append(into, process(kind, &list[i]))
			}
		case ret.Unsupported() && ret != gpu.NoPermission:
			refused = ret
		default:
			return ret
		}
		return gpu.Success
	}
	for kind := gpu.ComputeProcess; kind <= gpu.MPSProcess; kind++ {
		if !kinds.Has(kind) {
			continue
		}
		list, ret := d.processesOf(kind)
		if ret = take(kind, list, ret); !ret.OK() {
			return into[:start], ret
		}
	}
	if !answered {
		return into[:start], refused
	}
	return into, gpu.Success
}

func (d *device) processesOf(kind gpu.ProcessKind) ([]nvml.ProcessInfo, gpu.Return) {
	switch kind {
	case gpu.ComputeProcess:
		return ask(d.driver.symbols, "GetComputeRunningProcesses", d.handle.GetComputeRunningProcesses)
	case gpu.GraphicsProcess:
		return ask(d.driver.symbols, "GetGraphicsRunningProcesses", d.handle.GetGraphicsRunningProcesses)
	case gpu.MPSProcess:
		return ask(d.driver.symbols, "GetMPSComputeRunningProcesses", d.handle.GetMPSComputeRunningProcesses)
	default:
		return nil, gpu.InvalidArgument
	}
}

func process(kind gpu.ProcessKind, info *nvml.ProcessInfo) gpu.Process {
	p := gpu.Process{PID: info.Pid, Kind: kind, GI: info.GpuInstanceId, CI: info.ComputeInstanceId}
	if info.UsedGpuMemory != notAvailable {
		p.MemoryBytes, p.MemoryKnown = info.UsedGpuMemory, true
	}
	return p
}

// Instances lists the MIG instances. The driver makes a UUID of what an instance is and where it is, so an
// instance whose UUID is known is not asked for more; a handle may come to stand for another one.
func (d *device) Instances(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
	if !d.driver.life.enter() {
		return into, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	start := len(into)
	isSplit, ret := d.eachInstance(func(raw nvml.Device) gpu.Return {
		instance, ret := d.instance(d.driver.newHandle(raw))
		if ret.OK() {
			into = append(into, instance)
		}
		return ret
	})
	if !isSplit {
		d.instances = nil
	}
	if !ret.OK() {
		return into[:start], ret
	}
	return into, gpu.Success
}

// eachInstance visits the MIG instances of the GPU until one is not read. A GPU that is not split has none.
func (d *device) eachInstance(visit func(raw nvml.Device) gpu.Return) (isSplit bool, ret gpu.Return) {
	mode, _, ret := askPair(d.driver.symbols, "GetMigMode", d.handle.GetMigMode)
	if ret == gpu.NotSupported || ret.OK() && mode == nvml.DEVICE_MIG_DISABLE {
		return false, gpu.Success
	}
	if !ret.OK() {
		return ret != gpu.FunctionNotFound, ret // a driver from before MIG
	}
	most, ret := ask(d.driver.symbols, "GetMaxMigDeviceCount", d.handle.GetMaxMigDeviceCount)
	if !ret.OK() {
		return true, ret
	}
	for i := range most {
		raw, ret := askOf(d.driver.symbols, "GetMigDeviceHandleByIndex", i, d.handle.GetMigDeviceHandleByIndex)
		if ret == gpu.NotFound {
			continue // this place is free
		}
		if ret.OK() {
			ret = visit(raw)
		}
		if !ret.OK() {
			return true, ret
		}
	}
	return true, gpu.Success
}

// instance reads what a MIG handle stands for.
func (d *device) instance(handle handle) (gpu.Instance, gpu.Return) {
	s := d.driver.symbols
	uuid, ret := ask(s, "GetUUID", handle.GetUUID)
	if known, ok := d.instances[uuid]; ok || !ret.OK() {
		return known, ret
	}
	gi, ret := ask(s, "GetGpuInstanceId", handle.GetGpuInstanceId)
	if !ret.OK() {
		return gpu.Instance{}, ret
	}
	ci, ret := ask(s, "GetComputeInstanceId", handle.GetComputeInstanceId)
	if !ret.OK() {
		return gpu.Instance{}, ret
	}
	instance := gpu.Instance{UUID: uuid, GI: uint32(gi), CI: uint32(ci)}
	if info, ret := d.placement(gi); ret.OK() {
		instance.Placed, instance.Profile, instance.Start = true, info.ProfileId, info.Placement.Start
	}
	if d.instances == nil {
		d.instances = make(map[string]gpu.Instance)
	}
	d.instances[uuid] = instance
	return instance, gpu.Success
}

// placement tells where a GPU instance is.
func (d *device) placement(gi int) (nvml.GpuInstanceInfo, gpu.Return) {
	whole, ret := askOf(d.driver.symbols, "GetGpuInstanceById", gi, d.handle.GetGpuInstanceById)
	if !ret.OK() {
		return nvml.GpuInstanceInfo{}, ret
	}
	return askOf(d.driver.symbols, "GpuInstanceGetInfo", whole, d.driver.library.GpuInstanceGetInfo)
}
