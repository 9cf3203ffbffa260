// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/gpu/gputest"
)

// Why go-nvml's mock servers do not answer a call. They are made to test who gives out GPUs and MIG instances.
const (
	noTelemetry = "the mocks have no readings"
	noFacts     = "the mocks know of a GPU only its name, architecture, memory and address"
	noProfiling = "the mocks have no performance monitoring"
	noEvents    = "the mocks have no events"
	noProcesses = "the mocks have no processes"
	noParts     = "the mocks make GPU instances and compute instances, and no MIG devices of them"
	noVersions  = "go-nvml alone can make the struct that it answers with"
)

// unanswered are the calls of the manifest that no mock server answers. newMachine adds them for the other tests.
var unanswered = map[string]string{
	"GetFieldValues": noTelemetry, "GetSamples": noTelemetry, "GetUtilizationRates": noTelemetry, "GetMemoryInfo_v2": noTelemetry,
	"GetTemperature": noTelemetry, "GetMarginTemperature": noTelemetry, "GetClockInfo": noTelemetry,
	"GetCurrentClocksEventReasons": noTelemetry, "GetCurrentClocksThrottleReasons": noTelemetry, "GetPerformanceState": noTelemetry,
	"GetCurrPcieLinkGeneration": noTelemetry, "GetCurrPcieLinkWidth": noTelemetry, "GetEncoderUtilization": noTelemetry,
	"GetDecoderUtilization": noTelemetry, "GetJpgUtilization": noTelemetry, "GetOfaUtilization": noTelemetry, "GetSramEccErrorStatus": noTelemetry,
	"GetBAR1MemoryInfo": noTelemetry, "GetRetiredPagesPendingStatus": noTelemetry, "GetEnforcedPowerLimit": noTelemetry, "GetRowRemapperHistogram": noTelemetry,

	"GetSerial": noFacts, "GetBoardPartNumber": noFacts, "GetVbiosVersion": noFacts, "GetInforomImageVersion": noFacts,
	"GetGspFirmwareVersion": noFacts, "GetPlatformInfo": noFacts, "GetModuleId": noFacts, "GetMaxClockInfo": noFacts,
	"GetMaxPcieLinkGeneration": noFacts, "GetMaxPcieLinkWidth": noFacts, "GetTemperatureThreshold": noFacts, "GetEccMode": noFacts,
	"GetPersistenceMode": noFacts,

	"GpmSampleAlloc": noProfiling, "GpmSampleFree": noProfiling, "GpmMetricsGet": noProfiling, "GpmQueryDeviceSupport": noProfiling,
	"GpmSampleGet": noProfiling, "GpmMigSampleGet": noProfiling,

	"EventSetCreate": noEvents, "EventSetWait": noEvents, "EventSetFree": noEvents, "GetSupportedEventTypes": noEvents, "RegisterEvents": noEvents,
	"SystemEventSetCreate": noEvents, "SystemRegisterEvents": noEvents, "SystemEventSetWait": noEvents, "SystemEventSetFree": noEvents,

	"GetComputeRunningProcesses": noProcesses, "GetGraphicsRunningProcesses": noProcesses, "GetMPSComputeRunningProcesses": noProcesses,

	"GetMaxMigDeviceCount": noParts, "GetMigDeviceHandleByIndex": noParts, "GetGpuInstanceId": noParts, "GetComputeInstanceId": noParts,
	"GetGpuInstanceById": noParts, "GpuInstanceGetInfo": noParts,

	"temperatureV1": noVersions, "fabricInfoV2": noVersions, "fabricInfoV3": noVersions,
}

// plainHandle is a GPU of a mock server as it is.
type plainHandle struct{ *server.Device }

func (plainHandle) temperatureV1() (v nvml.Temperature, _ nvml.Return) {
	return v, nvml.ERROR_NOT_SUPPORTED
}

func (plainHandle) fabricInfoV3() (v nvml.GpuFabricInfo_v3, _ nvml.Return) {
	return v, nvml.ERROR_NOT_SUPPORTED
}

func (plainHandle) fabricInfoV2() (v nvml.GpuFabricInfo_v2, _ nvml.Return) {
	return v, nvml.ERROR_NOT_SUPPORTED
}

// answers tells whether a mock server has a function for a call. One that it has not panics.
func answers(s *server.Server, call string) bool {
	for _, mocked := range []any{&s.Interface, &s.ExtendedInterface, &s.Devices[0].(*server.Device).Device} {
		f := reflect.ValueOf(mocked).Elem().FieldByName(call + "Func")
		if f.IsValid() && !f.IsNil() {
			return true
		}
	}
	return false
}

var mocks = map[string]func() *server.Server{"A100": dgxa100.New, "H100": dgxh100.New, "H200": dgxh200.New, "B200": dgxb200.New}

// TestMocksAnswerNoMore keeps the list true: what a new version of go-nvml mocks is to be taken from there.
func TestMocksAnswerNoMore(t *testing.T) {
	for name, mock := range mocks {
		s := mock()
		var silent []string
		for call := range manifest {
			if !answers(s, call) {
				silent = append(silent, call)
			}
		}
		slices.Sort(silent)
		if want := slices.Sorted(maps.Keys(unanswered)); !slices.Equal(silent, want) {
			t.Errorf("%s does not answer\n%v; want\n%v", name, silent, want)
		}
	}
}

// TestConformanceOfPlainMocks runs the suite over go-nvml's mock servers as they are. What they do not answer is
// hidden, as a symbol is that a driver lacks.
func TestConformanceOfPlainMocks(t *testing.T) {
	for name, mock := range mocks {
		t.Run(name, func(t *testing.T) {
			gputest.Conformance(t, func(t *testing.T) gpu.Driver {
				t.Helper()
				s := mock()
				hidden := map[string]bool{}
				for call := range unanswered {
					for _, symbol := range manifest[call] {
						hidden[symbol] = true
					}
				}
				s.LookupSymbolFunc = func(symbol string) error {
					if hidden[symbol] {
						return errors.New("undefined symbol: " + symbol)
					}
					return nil
				}
				driver, err := start(s, func(d nvml.Device) handle { return plainHandle{d.(*server.Device)} }, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				return driver
			})
		})
	}
}
