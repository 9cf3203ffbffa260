// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"maps"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// manifest names, for each go-nvml call that this package makes, the symbols that it may reach. Where
// there are several, go-nvml takes the newest that the library exports, so one is enough.
// TestManifest derives the same from go-nvml's source.
var manifest = map[string][]string{
	"Init":                       {"nvmlInit", "nvmlInit_v2"},
	"Shutdown":                   {"nvmlShutdown"},
	"Extensions":                 {},
	"SystemGetDriverVersion":     {"nvmlSystemGetDriverVersion"},
	"SystemGetNVMLVersion":       {"nvmlSystemGetNVMLVersion"},
	"SystemGetCudaDriverVersion": {"nvmlSystemGetCudaDriverVersion"},
	"DeviceGetCount":             {"nvmlDeviceGetCount", "nvmlDeviceGetCount_v2"},
	"DeviceGetHandleByIndex":     {"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByIndex_v2"},
	"EventSetCreate":             {"nvmlEventSetCreate"},
	"EventSetWait":               {"nvmlEventSetWait", "nvmlEventSetWait_v2"},
	"EventSetFree":               {"nvmlEventSetFree"},
	"GpmSampleAlloc":             {"nvmlGpmSampleAlloc"},
	"GpmSampleFree":              {"nvmlGpmSampleFree"},
	"GpmMetricsGet":              {"nvmlGpmMetricsGet"},
	"GpuInstanceGetInfo":         {"nvmlGpuInstanceGetInfo"},
	"SystemEventSetCreate":       {"nvmlSystemEventSetCreate"},
	"SystemRegisterEvents":       {"nvmlSystemRegisterEvents"},
	"SystemEventSetWait":         {"nvmlSystemEventSetWait"},
	"SystemEventSetFree":         {"nvmlSystemEventSetFree"},

	"GetName":                         {"nvmlDeviceGetName"},
	"GetUUID":                         {"nvmlDeviceGetUUID"},
	"GetSerial":                       {"nvmlDeviceGetSerial"},
	"GetBoardPartNumber":              {"nvmlDeviceGetBoardPartNumber"},
	"GetVbiosVersion":                 {"nvmlDeviceGetVbiosVersion"},
	"GetInforomImageVersion":          {"nvmlDeviceGetInforomImageVersion"},
	"GetGspFirmwareVersion":           {"nvmlDeviceGetGspFirmwareVersion"},
	"GetPciInfo":                      {"nvmlDeviceGetPciInfo", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo_v3"},
	"GetArchitecture":                 {"nvmlDeviceGetArchitecture"},
	"GetCudaComputeCapability":        {"nvmlDeviceGetCudaComputeCapability"},
	"GetPlatformInfo":                 {"nvmlDeviceGetPlatformInfo"},
	"GetIndex":                        {"nvmlDeviceGetIndex"},
	"GetMinorNumber":                  {"nvmlDeviceGetMinorNumber"},
	"GetModuleId":                     {"nvmlDeviceGetModuleId"},
	"GetMemoryInfo":                   {"nvmlDeviceGetMemoryInfo"},
	"GetMaxClockInfo":                 {"nvmlDeviceGetMaxClockInfo"},
	"GetMaxPcieLinkGeneration":        {"nvmlDeviceGetMaxPcieLinkGeneration"},
	"GetMaxPcieLinkWidth":             {"nvmlDeviceGetMaxPcieLinkWidth"},
	"GetTemperatureThreshold":         {"nvmlDeviceGetTemperatureThreshold"},
	"GetEccMode":                      {"nvmlDeviceGetEccMode"},
	"GetMigMode":                      {"nvmlDeviceGetMigMode"},
	"GetPersistenceMode":              {"nvmlDeviceGetPersistenceMode"},
	"GetFieldValues":                  {"nvmlDeviceGetFieldValues"},
	"GetSamples":                      {"nvmlDeviceGetSamples"},
	"GetUtilizationRates":             {"nvmlDeviceGetUtilizationRates"},
	"GetMemoryInfo_v2":                {"nvmlDeviceGetMemoryInfo_v2"},
	"GetTemperature":                  {"nvmlDeviceGetTemperature"},
	"temperatureV1":                   {"nvmlDeviceGetTemperatureV"},
	"GetMarginTemperature":            {"nvmlDeviceGetMarginTemperature"},
	"GetClockInfo":                    {"nvmlDeviceGetClockInfo"},
	"GetCurrentClocksEventReasons":    {"nvmlDeviceGetCurrentClocksEventReasons"},
	"GetCurrentClocksThrottleReasons": {"nvmlDeviceGetCurrentClocksThrottleReasons"},
	"GetPerformanceState":             {"nvmlDeviceGetPerformanceState"},
	"GetCurrPcieLinkGeneration":       {"nvmlDeviceGetCurrPcieLinkGeneration"},
	"GetCurrPcieLinkWidth":            {"nvmlDeviceGetCurrPcieLinkWidth"},
	"GetEncoderUtilization":           {"nvmlDeviceGetEncoderUtilization"},
	"GetDecoderUtilization":           {"nvmlDeviceGetDecoderUtilization"},
	"GetJpgUtilization":               {"nvmlDeviceGetJpgUtilization"},
	"GetOfaUtilization":               {"nvmlDeviceGetOfaUtilization"},
	"GetSramEccErrorStatus":           {"nvmlDeviceGetSramEccErrorStatus"},
	"fabricInfoV2":                    {"nvmlDeviceGetGpuFabricInfoV"},
	"fabricInfoV3":                    {"nvmlDeviceGetGpuFabricInfoV"},
	"GetBAR1MemoryInfo":               {"nvmlDeviceGetBAR1MemoryInfo"},
	"GetRetiredPagesPendingStatus":    {"nvmlDeviceGetRetiredPagesPendingStatus"},
	"GetEnforcedPowerLimit":           {"nvmlDeviceGetEnforcedPowerLimit"},
	"GetRowRemapperHistogram":         {"nvmlDeviceGetRowRemapperHistogram"},
	"GpmQueryDeviceSupport":           {"nvmlGpmQueryDeviceSupport"},
	"GpmSampleGet":                    {"nvmlGpmSampleGet"},
	"GpmMigSampleGet":                 {"nvmlGpmMigSampleGet"},
	"GetComputeRunningProcesses":      {"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3"},
	"GetGraphicsRunningProcesses":     {"nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3"},
	"GetMPSComputeRunningProcesses":   {"nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3"},
	"GetMaxMigDeviceCount":            {"nvmlDeviceGetMaxMigDeviceCount"},
	"GetMigDeviceHandleByIndex":       {"nvmlDeviceGetMigDeviceHandleByIndex"},
	"GetGpuInstanceId":                {"nvmlDeviceGetGpuInstanceId"},
	"GetComputeInstanceId":            {"nvmlDeviceGetComputeInstanceId"},
	"GetGpuInstanceById":              {"nvmlDeviceGetGpuInstanceById"},
	"GetSupportedEventTypes":          {"nvmlDeviceGetSupportedEventTypes"},
	"RegisterEvents":                  {"nvmlDeviceRegisterEvents"},
}

// symbols tells which calls of the manifest the loaded library can serve. It never changes after the
// driver was started.
type symbols map[string]bool

// lookUp asks the library, once, for every symbol of the manifest.
func lookUp(library nvml.ExtendedInterface) symbols {
	exported := func(symbol string) bool { return library.LookupSymbol(symbol) == nil }
	s := make(symbols, len(manifest))
	for call, alternatives := range manifest {
		s[call] = slices.ContainsFunc(alternatives, exported)
	}
	return s
}

// drop takes calls away that the library exports and must not be made.
func (s symbols) drop(calls []string) {
	for _, call := range calls {
		s[call] = false
	}
}

// has tells whether a call can be made.
func (s symbols) has(call string) bool { return s[call] }

// missing lists the calls that cannot be made, sorted.
func (s symbols) missing() []string {
	var calls []string
	for _, call := range slices.Sorted(maps.Keys(s)) {
		if !s[call] && len(manifest[call]) > 0 {
			calls = append(calls, call)
		}
	}
	return calls
}

// ask makes one call, if the library can serve it.
func ask[T any](s symbols, call string, f func() (T, nvml.Return)) (T, gpu.Return) {
	var value T
	if !s.has(call) {
		return value, gpu.FunctionNotFound
	}
	value, ret := f()
	return value, gpu.Return(ret)
}

// askPair is ask for a call with two results.
func askPair[T, U any](s symbols, call string, f func() (T, U, nvml.Return)) (T, U, gpu.Return) {
	var (
		first  T
		second U
	)
	if !s.has(call) {
		return first, second, gpu.FunctionNotFound
	}
	first, second, ret := f()
	return first, second, gpu.Return(ret)
}

// askOf is ask for a call that takes one argument.
func askOf[A, T any](s symbols, call string, argument A, f func(A) (T, nvml.Return)) (T, gpu.Return) {
	return ask(s, call, func() (T, nvml.Return) { return f(argument) })
}
