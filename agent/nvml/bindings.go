// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

var _ gpu.Binder = (*Driver)(nil)

// mostBindings is how many system events are taken at once: a node has no more GPUs.
const mostBindings = 32

// binder is the set of system events, by which newer drivers tell of GPUs that are bound and unbound.
type binder struct {
	driver  *Driver
	stopped chan struct{} // closed by stop
	once    sync.Once     // closes stopped

	mutex   sync.Mutex // guards the fields below; held by NextBinding while it waits
	final   bool       // this driver does not tell
	made    bool
	set     nvml.SystemEventSet
	waiting []gpu.Binding // that came together with one that was given out
}

func (b *binder) init(driver *Driver) {
	b.driver, b.stopped = driver, make(chan struct{})
}

// NextBinding waits for a GPU to be bound or unbound.
func (d *Driver) NextBinding(timeout time.Duration) (gpu.Binding, gpu.Return) {
	b := &d.binder
	b.mutex.Lock()
	defer b.mutex.Unlock()
	select {
	case <-b.stopped:
		return gpu.Binding{}, gpu.Uninitialized
	default:
	}
	if b.final {
		return gpu.Binding{}, gpu.NotSupported
	}
	if !d.life.enter() {
		return gpu.Binding{}, gpu.Uninitialized
	}
	defer d.life.leave()
	ret := b.create()
	if ret.OK() && len(b.waiting) == 0 {
		ret = b.wait(timeout)
	}
	if ret.Unsupported() {
		b.final = true
		return gpu.Binding{}, gpu.NotSupported
	}
	if !ret.OK() {
		return gpu.Binding{}, ret
	}
	next := b.waiting[0]
	b.waiting = b.waiting[1:]
	return next, gpu.Success
}

// create makes the set, unless it is there.
func (b *binder) create() gpu.Return {
	s := b.driver.symbols
	if b.made {
		return gpu.Success
	}
	if !s.has("SystemEventSetCreate") || !s.has("SystemRegisterEvents") {
		return gpu.FunctionNotFound
	}
	made := nvml.SystemEventSetCreateRequest{}
	made.Version = nvml.STRUCT_VERSION(made, 1)
	if ret := gpu.Return(b.driver.library.SystemEventSetCreate(&made)); !ret.OK() {
		return ret
	}
	b.made, b.set = true, made.Set
	register := nvml.SystemRegisterEventRequest{EventTypes: nvml.SystemEventTypeGpuDriverBind | nvml.SystemEventTypeGpuDriverUnbind, Set: b.set}
	register.Version = nvml.STRUCT_VERSION(register, 1)
	if ret := gpu.Return(b.driver.library.SystemRegisterEvents(&register)); !ret.OK() {
		b.free()
		return ret
	}
	return gpu.Success
}

// wait takes the events that are there, or waits for one.
func (b *binder) wait(timeout time.Duration) gpu.Return {
	if !b.driver.symbols.has("SystemEventSetWait") {
		return gpu.FunctionNotFound
	}
	data := make([]nvml.SystemEventData_v1, mostBindings)
	var pinner runtime.Pinner // the request points to it
	pinner.Pin(&data[0])
	defer pinner.Unpin()
	request := nvml.SystemEventSetWaitRequest{
		Timeoutms: uint32(min(max(timeout, 0).Round(time.Millisecond).Milliseconds(), math.MaxInt32)),
		Set:       b.set, Data: &data[0], DataSize: mostBindings,
	}
	request.Version = nvml.STRUCT_VERSION(request, 1)
	if ret := gpu.Return(b.driver.library.SystemEventSetWait(&request)); !ret.OK() {
		return ret
	}
	for _, e := range data[:min(request.NumEvent, mostBindings)] {
		b.waiting = append(b.waiting, gpu.Binding{
			Time: time.Now(), UUID: b.uuid(e.GpuId), Bound: e.EventType&nvml.SystemEventTypeGpuDriverBind != 0,
		})
	}
	if len(b.waiting) == 0 {
		return gpu.Timeout
	}
	return gpu.Success
}

// uuid names the GPU of a system event among those that were listed. nvml.h says that the number is in the format of
// PCI, and not in which: the kernel's has the device in its lowest bits, that of the bus three bits for the function.
func (b *binder) uuid(id uint32) string {
	b.driver.mutex.Lock()
	present := slices.Clone(b.driver.present)
	b.driver.mutex.Unlock()
	plain := fmt.Sprintf("%04x:%02x:%02x.0", id>>16, id>>8&0xff, id&0xff)
	shifted := fmt.Sprintf("%04x:%02x:%02x.%x", id>>16, id>>8&0xff, id>>3&0x1f, id&7)
	for _, d := range present {
		if d.address == plain || d.address == shifted {
			return d.uuid
		}
	}
	return ""
}

func (b *binder) free() {
	if b.made && b.driver.symbols.has("SystemEventSetFree") {
		request := nvml.SystemEventSetFreeRequest{Set: b.set}
		request.Version = nvml.STRUCT_VERSION(request, 1)
		_ = b.driver.library.SystemEventSetFree(&request)
	}
	b.made = false
}

// stop waits for NextBinding to return and frees the set.
func (b *binder) stop() {
	b.once.Do(func() { close(b.stopped) })
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.driver.life.enter() {
		defer b.driver.life.leave()
		b.free()
	}
}
