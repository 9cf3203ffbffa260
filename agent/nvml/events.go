// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"math"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// The two kinds of poisoned memory, which package gpu does not name.
const (
	eventNonFatalPoison gpu.EventKind = nvml.EventTypeNonFatalPoisonError
	eventFatalPoison    gpu.EventKind = nvml.EventTypeFatalPoisonError
)

// wantedEvents are those that tell of a fault or of a change. Single-bit errors, P-states and clocks
// are left out: they come in storms, and counters and samples tell the same.
const wantedEvents = gpu.EventXID | gpu.EventDoubleBitECC | gpu.EventPowerSource | gpu.EventMIGConfig |
	gpu.EventSingleBitStorm | gpu.EventDRAMRetired | gpu.EventDRAMFailed | gpu.EventUnavailable |
	gpu.EventRecovery | eventNonFatalPoison | eventFatalPoison

// The pause after an error grows from the first to the second.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// events is one event set for all GPUs. GPUs that appear are added to it; after an error of the
// driver it is made anew.
type events struct {
	driver  *Driver
	stopped chan struct{} // closed by stop, so that no pause outlives the driver
	once    sync.Once     // closes stopped

	mutex      sync.Mutex // guards the fields below; held by NextEvent while it waits
	final      bool       // this driver has no events
	set        nvml.EventSet
	registered map[nvml.Device]registration
	pause      time.Duration // after the next error
	resume     time.Time     // nothing is asked of the driver before
}

// registration is what is known of one GPU in the event set.
type registration struct {
	ret   gpu.Return
	retry time.Time // when to try again, if ret is an error that may pass
}

func (e *events) init(driver *Driver) {
	e.driver, e.stopped, e.pause = driver, make(chan struct{}), firstPause
}

// NextEvent waits for the next event of any GPU. After an error, which it returns once, it asks
// nothing of the driver for a while and returns Timeout. Events between an error and the next
// successful registration are lost; the kernel log has them.
func (d *Driver) NextEvent(timeout time.Duration) (gpu.Event, gpu.Return) {
	e := &d.events
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.final {
		return gpu.Event{}, gpu.NotSupported
	}
	if e.ended() || !d.life.enter() {
		return gpu.Event{}, gpu.Uninitialized
	}
	defer d.life.leave()

	if wait := time.Until(e.resume); wait > 0 {
		return gpu.Event{}, e.sleep(min(timeout, wait))
	}
	if ret := e.register(); !ret.OK() {
		return gpu.Event{}, e.settle(ret)
	}
	if e.set == nil {
		return gpu.Event{}, e.sleep(timeout)
	}
	event, ret := e.wait(timeout)
	return event, e.settle(ret)
}

// settle turns the code of a driver call into what NextEvent returns, and plans the next call by it.
func (e *events) settle(ret gpu.Return) gpu.Return {
	switch ret {
	case gpu.Success, gpu.Timeout:
		e.pause = firstPause
	case gpu.NotSupported, gpu.FunctionNotFound:
		e.final = true
		e.release()
		return gpu.NotSupported
	default:
		e.driver.logger.Warn("waiting for driver events", "return", ret, "pause", e.pause)
		e.release()
		e.resume = time.Now().Add(e.pause)
		e.pause = min(2*e.pause, lastPause)
	}
	return ret
}

// register brings the event set in line with the GPUs that are present. It leaves the set nil if
// there are none now that have events. NotSupported means that no GPU of this driver ever has any.
func (e *events) register() gpu.Return {
	devices, ret := e.driver.presentDevices()
	if !ret.OK() {
		return ret
	}
	if e.registered == nil {
		e.registered = make(map[nvml.Device]registration)
	}
	e.forgetAbsent(devices)
	unsupported := 0
	for _, device := range devices {
		known, ok := e.registered[device.raw]
		if !ok || known.due() {
			known = e.add(device)
			e.registered[device.raw] = known
		}
		if known.ret.Unsupported() {
			unsupported++
		}
	}
	if len(devices) > 0 && unsupported == len(devices) {
		return gpu.NotSupported
	}
	return gpu.Success
}

// due tells whether a registration that did not succeed may do so now.
func (r registration) due() bool {
	return !r.ret.OK() && !r.ret.Unsupported() && time.Now().After(r.retry)
}

// forgetAbsent makes a GPU that is gone be registered again when it comes back.
func (e *events) forgetAbsent(present []*device) {
	if len(e.registered) == 0 {
		return
	}
	here := make(map[nvml.Device]bool, len(present))
	for _, device := range present {
		here[device.raw] = true
	}
	for raw := range e.registered {
		if !here[raw] {
			delete(e.registered, raw)
		}
	}
}

// add registers the events that a GPU has of those that are wanted.
func (e *events) add(device *device) registration {
	s, failed := e.driver.symbols, registration{retry: time.Now().Add(lastPause)}
	supported, ret := ask(s, "GetSupportedEventTypes", device.handle.GetSupportedEventTypes)
	if ret.OK() && supported&uint64(wantedEvents) == 0 {
		ret = gpu.NotSupported
	}
	if ret.OK() && !s.has("RegisterEvents") {
		ret = gpu.FunctionNotFound
	}
	if ret.OK() {
		ret = e.create()
	}
	if ret.OK() {
		ret = gpu.Return(device.handle.RegisterEvents(supported&uint64(wantedEvents), e.set))
	}
	if !ret.OK() {
		e.driver.logger.Warn("registering for driver events", "gpu", device.uuid, "return", ret)
		failed.ret = ret
		return failed
	}
	return registration{}
}

// create makes the event set if there is none.
func (e *events) create() gpu.Return {
	if e.set != nil {
		return gpu.Success
	}
	set, ret := ask(e.driver.symbols, "EventSetCreate", e.driver.library.EventSetCreate)
	if ret.OK() {
		e.set = set
	}
	return ret
}

// wait asks the driver for one event.
func (e *events) wait(timeout time.Duration) (gpu.Event, gpu.Return) {
	if !e.driver.symbols.has("EventSetWait") {
		return gpu.Event{}, gpu.FunctionNotFound
	}
	milliseconds := min(max(timeout, 0).Round(time.Millisecond).Milliseconds(), math.MaxInt32)
	data, ret := e.driver.library.EventSetWait(e.set, uint32(milliseconds))
	if ret != nvml.SUCCESS {
		return gpu.Event{}, gpu.Return(ret)
	}
	event := gpu.Event{
		Time: time.Now(), UUID: e.driver.uuid(data.Device), Kind: gpu.EventKind(data.EventType),
		Data: data.EventData, GI: gpu.NoInstance, CI: gpu.NoInstance,
	}
	// nvml.h: only an XID is attributed to an instance.
	if event.Kind == gpu.EventXID {
		event.GI, event.CI = data.GpuInstanceId, data.ComputeInstanceId
	}
	return event, gpu.Success
}

// sleep waits without the driver, and returns Timeout.
func (e *events) sleep(duration time.Duration) gpu.Return {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.stopped:
	}
	return gpu.Timeout
}

// ended tells that the driver is being closed.
func (e *events) ended() bool {
	select {
	case <-e.stopped:
		return true
	default:
		return false
	}
}

// release frees the event set; the next registration makes a new one.
func (e *events) release() {
	if e.set != nil && e.driver.symbols.has("EventSetFree") {
		_ = e.driver.library.EventSetFree(e.set)
	}
	e.set, e.registered = nil, nil
}

// stop ends the pauses, waits for NextEvent to return and frees the event set.
func (e *events) stop() {
	e.once.Do(func() { close(e.stopped) })
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.driver.life.enter() {
		defer e.driver.life.leave()
		e.release()
	}
}
