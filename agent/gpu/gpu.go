// SPDX-License-Identifier: Apache-2.0

// Package gpu is the narrow view that the agent has of a GPU driver: what can be asked of it, in
// the driver's own terms, with a return code for each answer. It holds no driver. Package nvml
// answers through libnvidia-ml, package sim from a model; the sampler cannot tell them apart.
//
// Contract for every implementation: a call may block for as long as the driver likes, so a caller
// that must not stop gives each Device a goroutine of its own. Calls on one Device are never made
// at the same time; calls on different Devices are. Values that the driver does not have are
// reported by a return code, never by a zero.
package gpu

import "time"

// Driver is an opened GPU driver.
type Driver interface {
	// System tells the driver's versions.
	System() (System, Return)
	// Devices lists the GPUs in the driver's order. A GPU that is lost is left out.
	Devices() ([]Device, Return)
	// NextEvent waits for the driver's next event, at most for the timeout; then it returns Timeout.
	// NotSupported is final: this driver has no events.
	NextEvent(timeout time.Duration) (Event, Return)
	// Close releases the driver. No call may follow.
	Close() Return
}

// Binder is a Driver that tells when the kernel takes GPUs from it, and when it gives it some.
type Binder interface {
	// NextBinding waits for the next of these changes, at most for the timeout; then it returns Timeout.
	// NotSupported is final: this driver does not tell. It may be called while other calls are under way.
	NextBinding(timeout time.Duration) (Binding, Return)
}

// Binding is a GPU that is taken from the driver, or given to it. The kernel waits with what it takes until nobody
// has it open, and a library of the driver has all GPUs open until the driver is closed.
type Binding struct {
	Time  time.Time
	UUID  string // "" if it was never listed
	Bound bool   // given to the driver; else about to be taken from it
}

// Device is one GPU.
type Device interface {
	// UUID names the GPU. It makes no driver call: Devices has asked already.
	UUID() string
	// Identity reads what seldom changes: names, versions, limits, place.
	Identity() (Identity, Return)
	// Fields answers many fields in one driver call. Each value carries its own return code, which
	// is only meaningful when the call returned Success.
	Fields(values []FieldValue) Return
	// Get makes one driver call that has no field id and puts its results into parts, in the order
	// that the Getter's documentation gives.
	Get(getter Getter, parts *Parts) Return
}

// Profiler is a Device that has GPU performance monitoring (GPM: Hopper and later).
type Profiler interface {
	// Profile fills in the metrics over the window since the previous call on this device. The first
	// call, and a call less than MinProfileWindow after the previous one, returns NotReady and no
	// values.
	Profile(values []ProfileValue) (window time.Duration, ret Return)
}

// Ring is a Device whose driver keeps sub-second samples in a ring buffer.
type Ring interface {
	// Samples appends to into the samples of one kind that are newer than since (driver time, µs;
	// 0 for all that the ring holds), oldest first. NotFound means that the ring is empty, as on an
	// idle GPU.
	Samples(kind RingKind, since uint64, into []RingSample) ([]RingSample, Return)
}

// MinProfileWindow is the shortest window over which GPM values mean anything (nvml.h: two samples
// must be more than 100 ms apart).
const MinProfileWindow = 100 * time.Millisecond

// System is what a driver says of itself.
type System struct {
	DriverVersion string // such as "580.95.05"
	NVMLVersion   string
	CUDAVersion   string // such as "13.0"; "" if unknown
}

// Parts are the results of one Getter call, as many as its documentation names.
type Parts [16]int64

// ProfileValue is one GPM metric: which one is asked, and the answer.
type ProfileValue struct {
	MetricID uint32 // NVML_GPM_METRIC_*
	Return   Return
	Value    float64 // in the unit of the GPM metric: percent or MiB/s
}

// RingKind names one of the driver's ring buffers, numbered as nvmlSamplingType_t.
type RingKind uint32

// The rings that are read.
const (
	RingTotalPower        RingKind = 0 // mW
	RingGPUUtilization    RingKind = 1 // percent
	RingMemoryUtilization RingKind = 2 // percent of time that memory was read or written
	RingProcessorClock    RingKind = 5 // MHz
	RingMemoryClock       RingKind = 6 // MHz
	RingModulePower       RingKind = 7 // mW; GPU and Grace CPU together
)

// RingSample is one sample of a ring buffer.
type RingSample struct {
	DriverTimeMicroseconds uint64 // the driver's own clock
	Value                  int64  // unit by RingKind
}

// EventKind is the bit that names a kind of driver event, as nvmlEventType*.
type EventKind uint64

// The driver events that are known.
const (
	EventDoubleBitECC   EventKind = 0x2
	EventXID            EventKind = 0x8
	EventPowerSource    EventKind = 0x80
	EventMIGConfig      EventKind = 0x100
	EventSingleBitStorm EventKind = 0x200
	EventDRAMRetired    EventKind = 0x400
	EventDRAMFailed     EventKind = 0x800
	EventPoison         EventKind = 0x1000 // poisoned data was contained
	EventFatalPoison    EventKind = 0x2000 // poisoned data was not contained
	EventUnavailable    EventKind = 0x4000
	EventRecovery       EventKind = 0x8000
)

// Event is one event that the driver reported.
type Event struct {
	Time    time.Time
	UUID    string // of the GPU, remembered from registration: the GPU may be gone by now
	Kind    EventKind
	Data    uint64 // XID for EventXID (999: the driver did not say)
	GI, CI  uint32 // MIG instances; NoInstance if none
	Message string // what the kernel log says of it, if known
}

// NoInstance is the GI and CI of an event that concerns no MIG instance.
const NoInstance = ^uint32(0)

// Identity is what seldom changes of a GPU. An empty string or a nil pointer is "not known".
type Identity struct {
	UUID, ParentUUID                                  string
	Model, Architecture, Serial, BoardPartNumber      string
	PCIBusID, VBIOSVersion, InfoROMVersion, GSP       string
	FabricClusterUUID, ChassisSerial                  string
	ComputeCapability                                 string // such as "9.0"
	Index, Minor, ModuleID                            *int64
	MemoryTotalBytes, MemoryReservedBytes             *int64
	PowerLimitMilliwatts, PowerLimitDefaultMilliwatts *int64
	PowerLimitMinMilliwatts, PowerLimitMaxMilliwatts  *int64
	MaxSMClockMegahertz, MaxMemoryClockMegahertz      *int64
	SlowdownCelsius, ShutdownCelsius                  *int64 // Hopper and later: margins below the limit, see GPUMaxCelsius
	GPUMaxCelsius, MemoryMaxCelsius                   *int64
	ECCEnabled, MIGEnabled, PersistenceEnabled        *int64 // 0 or 1
	FabricCliqueID, SlotNumber, TrayIndex, HostID     *int64
	NVLinkCount, PCIeMaxGeneration, PCIeMaxWidth      *int64
	GPUInstanceID, ComputeInstanceID                  *int64 // of a MIG instance
	MIGProfile                                        string // of a MIG instance, such as "1g.10gb"
}
