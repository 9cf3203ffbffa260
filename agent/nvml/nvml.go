// SPDX-License-Identifier: Apache-2.0

// Package nvml reads GPUs through NVIDIA's library, libnvidia-ml, as a gpu.Driver. It is the only
// package with C in it: go-nvml loads the library when the driver is opened, so a program that
// imports this package builds and starts where there is no driver.
//
// go-nvml binds each entry point at its first call, and ends the process where the loaded library
// lacks it. So nothing is called before the manifest (symbols.go) was asked; a call whose symbol is
// missing returns gpu.FunctionNotFound. The bindings must stay lazy: a toolchain that links with
// "-z now" by default needs -ldflags '-extldflags=-Wl,-z,lazy'. A library that was bound stays mapped
// after Close: Open works again after a reload of the same driver, and after an upgrade it says that
// the program must be restarted.
//
// A Driver starts no goroutines. go-nvml panics only when it is handed a device or a sample that it
// did not make itself, which this package never does, so nothing is recovered here.
package nvml

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// ErrNoDriver tells that this machine has no NVIDIA driver, or none that is loaded.
var ErrNoDriver = errors.New("no NVIDIA driver found")

// errInUse is what Close returns while a call is under way (NVML_ERROR_IN_USE).
const errInUse = gpu.Return(nvml.ERROR_IN_USE)

// Config says where the library is.
type Config struct {
	LibraryPath string       // of libnvidia-ml.so.1; "" searches where drivers put it
	Logger      *slog.Logger // nil is silent
}

// Driver is NVIDIA's driver, opened. Its methods may be called at the same time.
type Driver struct {
	library   library
	newHandle func(nvml.Device) handle
	symbols   symbols
	logger    *slog.Logger
	life      life
	events    events
	binder    binder

	mutex       sync.Mutex // guards the fields below; never held during a call into the library, but for Close
	cache       map[nvml.Device]*device
	present     []*device  // of the latest listing; nil before the first
	unreachable int        // GPUs that the latest listing left out
	profiles    []*profile // that hold samples of the driver
}

var _ gpu.Driver = (*Driver)(nil)

// Open finds and starts the library. Close the driver after use.
func Open(config Config) (*Driver, error) {
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	path, err := find(config.LibraryPath)
	if err != nil {
		return nil, err
	}
	driver, err := start(nvml.New(nvml.WithLibraryPath(path)), newGoHandle, logger)
	if err != nil {
		return nil, fmt.Errorf("starting NVML from %s: %w", path, err)
	}
	logger.Info("opened the NVIDIA driver", "library", path, "missing_calls", driver.symbols.missing())
	return driver, nil
}

// start initialises a loaded library. The caller has checked that it exports what Init calls.
func start(lib library, newHandle func(nvml.Device) handle, logger *slog.Logger) (*Driver, error) {
	switch ret := gpu.Return(lib.Init()); ret {
	case gpu.Success:
	case gpu.DriverNotLoaded:
		return nil, fmt.Errorf("%w: the library is there, but the kernel module is not (%w)", ErrNoDriver, ret)
	case gpu.LibRMVersion:
		return nil, fmt.Errorf("%w: the driver was upgraded since it was loaded; reload it or reboot, then restart this program", ret)
	case gpu.NoPermission:
		return nil, fmt.Errorf("%w: this program may not open /dev/nvidiactl", ret)
	default:
		return nil, ret
	}
	driver := &Driver{
		library: lib, newHandle: newHandle, logger: logger,
		symbols: lookUp(lib.Extensions()), cache: make(map[nvml.Device]*device),
	}
	driver.events.init(driver)
	driver.binder.init(driver)
	if version, ret := ask(driver.symbols, "SystemGetDriverVersion", lib.SystemGetDriverVersion); ret.OK() && longProcesses(version) {
		driver.symbols.drop(processLists)
	}
	return driver, nil
}

// System tells the driver's versions. Its code is that of the driver's own version; the others are
// empty where they cannot be had.
func (d *Driver) System() (gpu.System, gpu.Return) {
	if !d.life.enter() {
		return gpu.System{}, gpu.Uninitialized
	}
	defer d.life.leave()

	version, ret := ask(d.symbols, "SystemGetDriverVersion", d.library.SystemGetDriverVersion)
	if !ret.OK() {
		return gpu.System{}, ret
	}
	system := gpu.System{DriverVersion: version}
	if version, ret := ask(d.symbols, "SystemGetNVMLVersion", d.library.SystemGetNVMLVersion); ret.OK() {
		system.NVMLVersion = version
	}
	if version, ret := ask(d.symbols, "SystemGetCudaDriverVersion", d.library.SystemGetCudaDriverVersion); ret.OK() {
		system.CUDAVersion = fmt.Sprintf("%d.%d", version/1000, version%1000/10)
	}
	return system, gpu.Success
}

// Devices lists the GPUs in the driver's order, without those that it gives no handle or no UUID for.
// The same GPU is the same Device each time.
func (d *Driver) Devices() ([]gpu.Device, gpu.Return) {
	if !d.life.enter() {
		return nil, gpu.Uninitialized
	}
	defer d.life.leave()

	present, ret := d.list()
	if !ret.OK() {
		return nil, ret
	}
	devices := make([]gpu.Device, len(present))
	for i, device := range present {
		devices[i] = device
	}
	return devices, gpu.Success
}

// list asks for each GPU. No lock is held meanwhile: with a GPU that hangs, these calls hang too.
func (d *Driver) list() ([]*device, gpu.Return) {
	count, ret := ask(d.symbols, "DeviceGetCount", d.library.DeviceGetCount)
	if !ret.OK() {
		return nil, ret
	}
	if !d.symbols.has("DeviceGetHandleByIndex") {
		return nil, gpu.FunctionNotFound
	}
	present, reason := make([]*device, 0, count), gpu.Success
	for index := range count {
		raw, ret := d.library.DeviceGetHandleByIndex(index)
		if ret != nvml.SUCCESS {
			reason = gpu.Return(ret)
			continue
		}
		if known, ret := d.recognise(raw); ret.OK() {
			present = append(present, known)
		} else {
			reason = ret
		}
	}
	d.remember(present, count-len(present), reason)
	return present, gpu.Success
}

// recognise returns the Device of a handle. A GPU is asked for its UUID when it is first seen; without
// one it cannot be told from others.
func (d *Driver) recognise(raw nvml.Device) (*device, gpu.Return) {
	d.mutex.Lock()
	known := d.cache[raw]
	d.mutex.Unlock()
	if known != nil {
		return known, gpu.Success
	}
	handle := d.newHandle(raw)
	uuid, ret := ask(d.symbols, "GetUUID", handle.GetUUID)
	if !ret.OK() {
		return nil, ret
	}
	address := ""
	if pci, ret := ask(d.symbols, "GetPciInfo", handle.GetPciInfo); ret.OK() {
		address = normalBusID(characters(pci.BusId[:]))
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.cache[raw] == nil {
		d.cache[raw] = &device{driver: d, raw: raw, handle: handle, uuid: uuid, address: address}
	}
	return d.cache[raw], gpu.Success
}

// remember keeps a listing, and logs when it lacks more GPUs than the one before.
func (d *Driver) remember(present []*device, unreachable int, reason gpu.Return) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if unreachable > d.unreachable {
		d.logger.Warn("GPUs cannot be reached", "count", unreachable, "return", reason)
	}
	d.present, d.unreachable = present, unreachable
}

// presentDevices are those of the latest listing; it lists them if that was never done.
func (d *Driver) presentDevices() ([]*device, gpu.Return) {
	d.mutex.Lock()
	present := d.present
	d.mutex.Unlock()
	if present != nil {
		return present, gpu.Success
	}
	return d.list()
}

// uuid names the GPU of a handle that was listed at some time: it may no longer answer.
func (d *Driver) uuid(raw nvml.Device) string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if known := d.cache[raw]; known != nil {
		return known.uuid
	}
	return ""
}

// keep remembers a profile, whose samples are freed when the driver is closed.
func (d *Driver) keep(p *profile) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.profiles = append(d.profiles, p)
}

// Close releases what the driver holds, once: a second call returns Uninitialized, as do all calls
// after it. It waits for NextEvent and NextBinding to return. While another call is under way, as on a GPU that hangs,
// it only frees the event set and returns NVML's "in use": the driver may still write into what that
// call handed to it.
func (d *Driver) Close() gpu.Return {
	d.events.stop()
	d.binder.stop()
	if ret := d.life.end(); !ret.OK() {
		return ret
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for _, p := range d.profiles {
		p.release(d)
	}
	if !d.symbols.has("Shutdown") {
		return gpu.FunctionNotFound
	}
	return gpu.Return(d.library.Shutdown())
}

// life lets calls in until the driver is closed, and lets it be closed only when none is under way.
type life struct {
	calls sync.RWMutex // held for reading by each call
	ended bool         // guarded by calls
}

func (l *life) enter() bool {
	l.calls.RLock()
	if l.ended {
		l.calls.RUnlock()
		return false
	}
	return true
}

func (l *life) leave() { l.calls.RUnlock() }

func (l *life) end() gpu.Return {
	if !l.calls.TryLock() {
		return errInUse
	}
	defer l.calls.Unlock()
	if l.ended {
		return gpu.Uninitialized
	}
	l.ended = true
	return gpu.Success
}
