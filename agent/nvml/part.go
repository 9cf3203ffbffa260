// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// part is a MIG instance as a device of its own. It has what nvml.h says that a MIG handle answers for the
// instance alone, and GPM of its GPU instance; what a handle answers for the whole GPU is the GPU's.
//
// Like a device it is called by one goroutine at a time; it calls into its GPU's handle, which the driver
// allows at any time, and never touches what the device's own goroutine owns.
type part struct {
	gpu     *device
	raw     nvml.Device // what the driver names it by
	handle  handle
	uuid    string
	gi, ci  int
	shared  atomic.Bool // another instance has the same GPU instance
	profile profile
}

var (
	_ gpu.Splitter = (*device)(nil)
	_ gpu.Device   = (*part)(nil)
	_ gpu.Profiler = (*part)(nil)
)

// Parts lists the MIG instances. One that is gone is forgotten; the samples that it has are freed when the driver
// is closed, as its goroutine may be in a call.
func (d *device) Parts() ([]gpu.Device, gpu.Return) {
	if !d.driver.life.enter() {
		return nil, gpu.Uninitialized
	}
	defer d.driver.life.leave()

	var found []*part
	isSplit, ret := d.eachInstance(func(raw nvml.Device) gpu.Return {
		p, ret := d.part(raw)
		if ret.OK() {
			found = append(found, p)
		}
		return ret
	})
	if isSplit && !ret.OK() {
		return nil, ret
	}
	instances := make(map[int]int) // by GPU instance
	for _, p := range found {
		instances[p.gi]++
	}
	d.parts = make(map[string]*part, len(found))
	devices := make([]gpu.Device, len(found))
	for i, p := range found {
		p.shared.Store(instances[p.gi] > 1)
		d.parts[p.uuid], devices[i] = p, p
	}
	return devices, gpu.Success
}

// part reads what a MIG handle stands for, unless it is known. An instance that was destroyed and made anew may have its
// UUID again, and another handle: it is another part.
func (d *device) part(raw nvml.Device) (*part, gpu.Return) {
	s, handle := d.driver.symbols, d.driver.newHandle(raw)
	uuid, ret := ask(s, "GetUUID", handle.GetUUID)
	if !ret.OK() {
		return nil, ret
	}
	if known := d.parts[uuid]; known != nil && known.raw == raw {
		return known, ret
	}
	gi, ret := ask(s, "GetGpuInstanceId", handle.GetGpuInstanceId)
	if !ret.OK() {
		return nil, ret
	}
	ci, ret := ask(s, "GetComputeInstanceId", handle.GetComputeInstanceId)
	if !ret.OK() {
		return nil, ret
	}
	return &part{gpu: d, raw: raw, handle: handle, uuid: uuid, gi: gi, ci: ci}, gpu.Success
}

// UUID names the instance.
func (p *part) UUID() string { return p.uuid }

// Identity reads what the instance is, and what of its GPU tells where it is.
func (p *part) Identity() (gpu.Identity, gpu.Return) {
	driver := p.gpu.driver
	if !driver.life.enter() {
		return gpu.Identity{}, gpu.Uninitialized
	}
	defer driver.life.leave()

	uuid, ret := ask(driver.symbols, "GetUUID", p.handle.GetUUID)
	if ret.OK() && uuid != p.uuid {
		ret = gpu.NotFound // the handle stands for another instance by now
	}
	if !ret.OK() {
		return gpu.Identity{}, ret
	}
	identity := gpu.Identity{
		UUID: p.uuid, ParentUUID: p.gpu.uuid, GPUInstanceID: number(p.gi), ComputeInstanceID: number(p.ci), MIGEnabled: number(1),
	}
	r := reader{device: p.gpu, symbols: driver.symbols}
	identity.Model, identity.MIGProfile = splitName(r.text("GetName", p.handle.GetName))
	if pci, ret := ask(r.symbols, "GetPciInfo", p.gpu.handle.GetPciInfo); r.ok(ret) {
		identity.PCIBusID = normalBusID(characters(pci.BusId[:]))
	}
	identity.Minor = read(&r, "GetMinorNumber", p.gpu.handle.GetMinorNumber)
	if memory, ret := ask(r.symbols, "GetMemoryInfo_v2", p.handle.GetMemoryInfo_v2); r.ok(ret) {
		identity.MemoryTotalBytes, identity.MemoryReservedBytes = number(memory.Total), number(memory.Reserved)
	}
	if !r.lost.OK() {
		return gpu.Identity{}, r.lost
	}
	return identity, gpu.Success
}

// splitName parts the name of an instance, such as "NVIDIA H100 80GB HBM3 MIG 1g.10gb", into model and profile.
func splitName(name string) (model, profile string) {
	model, profile, _ = strings.Cut(name, " MIG ")
	return model, profile
}

// Fields answers none: nvml.h gives fields to whole GPUs.
func (p *part) Fields(values []gpu.FieldValue) gpu.Return {
	for i := range values {
		values[i].Return = gpu.NotSupported
	}
	return gpu.Success
}

// Get makes the calls that a MIG handle answers for its instance.
func (p *part) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	driver := p.gpu.driver
	if !driver.life.enter() {
		return gpu.Uninitialized
	}
	defer driver.life.leave()

	switch getter {
	case gpu.GetMemoryInfo:
		memory, ret := ask(driver.symbols, "GetMemoryInfo_v2", p.handle.GetMemoryInfo_v2)
		return put(ret, parts, memory.Total, memory.Reserved, memory.Free, memory.Used)
	case gpu.GetBAR1Memory:
		memory, ret := ask(driver.symbols, "GetBAR1MemoryInfo", p.handle.GetBAR1MemoryInfo)
		return put(ret, parts, memory.Bar1Total, memory.Bar1Free, memory.Bar1Used)
	default:
		return gpu.NotSupported
	}
}

// Profile is GPM of the GPU instance. Compute instances that share one have none: its counters tell nothing of
// their shares.
func (p *part) Profile(values []gpu.ProfileValue) (window time.Duration, ret gpu.Return) {
	driver := p.gpu.driver
	if !driver.life.enter() {
		return 0, gpu.Uninitialized
	}
	defer driver.life.leave()

	if !driver.symbols.has("GpmMigSampleGet") {
		return 0, gpu.FunctionNotFound
	}
	if p.shared.Load() {
		return 0, gpu.NotSupported
	}
	return p.profile.read(p.gpu, values, func(sample nvml.GpmSample) nvml.Return {
		return p.gpu.handle.GpmMigSampleGet(p.gi, sample)
	})
}
