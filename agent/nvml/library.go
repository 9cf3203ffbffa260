// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// library is what this package calls of go-nvml's interface. Each method is in the manifest of
// symbols, and is called only where the manifest was asked (TestCallsAreGuarded).
type library interface {
	Init() nvml.Return
	Shutdown() nvml.Return
	Extensions() nvml.ExtendedInterface
	SystemGetDriverVersion() (string, nvml.Return)
	SystemGetNVMLVersion() (string, nvml.Return)
	SystemGetCudaDriverVersion() (int, nvml.Return)
	DeviceGetCount() (int, nvml.Return)
	DeviceGetHandleByIndex(index int) (nvml.Device, nvml.Return)
	EventSetCreate() (nvml.EventSet, nvml.Return)
	EventSetWait(set nvml.EventSet, timeoutMilliseconds uint32) (nvml.EventData, nvml.Return)
	EventSetFree(set nvml.EventSet) nvml.Return
	GpmSampleAlloc() (nvml.GpmSample, nvml.Return)
	GpmSampleFree(sample nvml.GpmSample) nvml.Return
	GpmMetricsGet(request *nvml.GpmMetricsGetType) nvml.Return
	SystemEventSetCreate(request *nvml.SystemEventSetCreateRequest) nvml.Return
	SystemRegisterEvents(request *nvml.SystemRegisterEventRequest) nvml.Return
	SystemEventSetWait(request *nvml.SystemEventSetWaitRequest) nvml.Return
	SystemEventSetFree(request *nvml.SystemEventSetFreeRequest) nvml.Return
	GpuInstanceGetInfo(instance nvml.GpuInstance) (nvml.GpuInstanceInfo, nvml.Return)
}

// handle is what this package calls of a go-nvml device.
type handle interface {
	GetName() (string, nvml.Return)
	GetUUID() (string, nvml.Return)
	GetSerial() (string, nvml.Return)
	GetBoardPartNumber() (string, nvml.Return)
	GetVbiosVersion() (string, nvml.Return)
	GetInforomImageVersion() (string, nvml.Return)
	GetGspFirmwareVersion() (string, nvml.Return)
	GetPciInfo() (nvml.PciInfo, nvml.Return)
	GetArchitecture() (nvml.DeviceArchitecture, nvml.Return)
	GetCudaComputeCapability() (int, int, nvml.Return)
	GetPlatformInfo() (nvml.PlatformInfo, nvml.Return)
	GetIndex() (int, nvml.Return)
	GetMinorNumber() (int, nvml.Return)
	GetModuleId() (int, nvml.Return)
	GetMemoryInfo() (nvml.Memory, nvml.Return)
	GetMaxClockInfo(clock nvml.ClockType) (uint32, nvml.Return)
	GetMaxPcieLinkGeneration() (int, nvml.Return)
	GetMaxPcieLinkWidth() (int, nvml.Return)
	GetTemperatureThreshold(threshold nvml.TemperatureThresholds) (uint32, nvml.Return)
	GetEccMode() (nvml.EnableState, nvml.EnableState, nvml.Return)
	GetMigMode() (int, int, nvml.Return)
	GetPersistenceMode() (nvml.EnableState, nvml.Return)

	GetFieldValues(values []nvml.FieldValue) nvml.Return
	GetSamples(kind nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return)

	GetUtilizationRates() (nvml.Utilization, nvml.Return)
	GetMemoryInfo_v2() (nvml.Memory_v2, nvml.Return)
	GetTemperature(sensor nvml.TemperatureSensors) (uint32, nvml.Return)
	GetMarginTemperature() (nvml.MarginTemperature, nvml.Return)
	GetClockInfo(clock nvml.ClockType) (uint32, nvml.Return)
	GetCurrentClocksEventReasons() (uint64, nvml.Return)
	GetCurrentClocksThrottleReasons() (uint64, nvml.Return)
	GetPerformanceState() (nvml.Pstates, nvml.Return)
	GetCurrPcieLinkGeneration() (int, nvml.Return)
	GetCurrPcieLinkWidth() (int, nvml.Return)
	GetEncoderUtilization() (uint32, uint32, nvml.Return)
	GetDecoderUtilization() (uint32, uint32, nvml.Return)
	GetJpgUtilization() (uint32, uint32, nvml.Return)
	GetOfaUtilization() (uint32, uint32, nvml.Return)
	GetSramEccErrorStatus() (nvml.EccSramErrorStatus, nvml.Return)
	GetBAR1MemoryInfo() (nvml.BAR1Memory, nvml.Return)
	GetRetiredPagesPendingStatus() (nvml.EnableState, nvml.Return)
	GetEnforcedPowerLimit() (uint32, nvml.Return)
	GetRowRemapperHistogram() (nvml.RowRemapperHistogramValues, nvml.Return)

	GpmQueryDeviceSupport() (nvml.GpmSupport, nvml.Return)
	GpmSampleGet(sample nvml.GpmSample) nvml.Return
	GpmMigSampleGet(gpuInstance int, sample nvml.GpmSample) nvml.Return

	GetComputeRunningProcesses() ([]nvml.ProcessInfo, nvml.Return)
	GetGraphicsRunningProcesses() ([]nvml.ProcessInfo, nvml.Return)
	GetMPSComputeRunningProcesses() ([]nvml.ProcessInfo, nvml.Return)
	GetMaxMigDeviceCount() (int, nvml.Return)
	GetMigDeviceHandleByIndex(index int) (nvml.Device, nvml.Return)
	GetGpuInstanceId() (int, nvml.Return)
	GetComputeInstanceId() (int, nvml.Return)
	GetGpuInstanceById(id int) (nvml.GpuInstance, nvml.Return)

	GetSupportedEventTypes() (uint64, nvml.Return)
	RegisterEvents(types uint64, set nvml.EventSet) nvml.Return

	versionedHandle
}

// versionedHandle is what go-nvml answers through structs that only it can make, so that no fake
// could stand in for them.
type versionedHandle interface {
	temperatureV1() (nvml.Temperature, nvml.Return)
	fabricInfoV3() (nvml.GpuFabricInfo_v3, nvml.Return)
	fabricInfoV2() (nvml.GpuFabricInfo_v2, nvml.Return)
}

// goHandle is the handle over a real go-nvml device.
type goHandle struct {
	nvml.Device

	samples *samplesCall // nil: go-nvml's own way will do
}

var _ handle = goHandle{}

func newGoHandle(device nvml.Device) handle { return goHandle{device, newSamplesCall(device)} }

// GetSamples reads a ring of the driver.
func (h goHandle) GetSamples(kind nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
	if h.samples == nil {
		return h.Device.GetSamples(kind, since)
	}
	return h.samples.get(kind, since)
}

func (h goHandle) temperatureV1() (nvml.Temperature, nvml.Return) {
	return h.GetTemperatureV().V1()
}

func (h goHandle) fabricInfoV3() (nvml.GpuFabricInfo_v3, nvml.Return) {
	return h.GetGpuFabricInfoV().V3()
}

func (h goHandle) fabricInfoV2() (nvml.GpuFabricInfo_v2, nvml.Return) {
	return h.GetGpuFabricInfoV().V2()
}
