// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// machine is one of go-nvml's mock servers with the telemetry that those lack. It stands for the
// loaded library: its time is package time's, its missing symbols cannot be looked up.
type machine struct {
	*server.Server
	missing map[string]bool // symbols
	events  chan nvml.EventData
	changes chan nvml.SystemEventData_v1
	boot    time.Time
	gpus    []*fakeGPU
	parts   []*fakeGPU // MIG instances

	mutex   sync.Mutex // guards the fields below
	sampled map[nvml.GpmSample]time.Time
	sets    int // event sets that are not freed
	waitRet nvml.Return
}

// fakeGPU is the handle of one GPU.
type fakeGPU struct {
	*server.Device
	machine *machine
	lost    atomic.Bool
	idle    bool // its rings are empty
	fields  map[uint32]nvml.FieldValue

	temperature func() (nvml.Temperature, nvml.Return)
	fabric3     func() (nvml.GpuFabricInfo_v3, nvml.Return)
	fabric2     func() (nvml.GpuFabricInfo_v2, nvml.Return)
}

func (g *fakeGPU) temperatureV1() (nvml.Temperature, nvml.Return)     { return g.temperature() }
func (g *fakeGPU) fabricInfoV3() (nvml.GpuFabricInfo_v3, nvml.Return) { return g.fabric3() }
func (g *fakeGPU) fabricInfoV2() (nvml.GpuFabricInfo_v2, nvml.Return) { return g.fabric2() }

// newMachine adds telemetry to a server. A driver version other than the server's decides how fields
// are numbered.
func newMachine(s *server.Server, driverVersion string) *machine {
	if driverVersion != "" {
		s.DriverVersion = driverVersion
	}
	m := &machine{
		Server: s, missing: make(map[string]bool), events: make(chan nvml.EventData, 8), changes: make(chan nvml.SystemEventData_v1, 8), boot: time.Now().Add(-time.Hour),
		sampled: make(map[nvml.GpmSample]time.Time),
	}
	s.LookupSymbolFunc = func(symbol string) error {
		if m.missing[symbol] {
			return errors.New("undefined symbol: " + symbol)
		}
		return nil
	}
	m.addProfile()
	m.addEvents()
	m.addChanges()
	for i, raw := range s.Devices {
		g := &fakeGPU{Device: raw.(*server.Device), machine: m, idle: i == len(s.Devices)-1}
		g.addIdentity()
		g.addGetters()
		g.addSamples()
		g.addProfile()
		g.addEvents()
		g.addProcesses()
		g.addFields(numberingOf(s.DriverVersion))
		m.gpus = append(m.gpus, g)
	}
	handles := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(index int) (nvml.Device, nvml.Return) {
		if m.gpus[index].lost.Load() {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return handles(index)
	}
	return m
}

// open starts a driver on the machine.
func (m *machine) open(t *testing.T) *Driver {
	t.Helper()
	driver, err := start(m, m.handle, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return driver
}

func (m *machine) handle(raw nvml.Device) handle {
	for _, g := range slices.Concat(m.gpus, m.parts) {
		if g.Device == raw {
			return g
		}
	}
	panic(fmt.Sprintf("no such GPU: %v", raw))
}

// answer is what a working GPU says, or that the GPU is lost.
func answer[T any](g *fakeGPU, value T) func() (T, nvml.Return) {
	return func() (T, nvml.Return) {
		if g.lost.Load() {
			var none T
			return none, nvml.ERROR_GPU_IS_LOST
		}
		return value, nvml.SUCCESS
	}
}

func answerPair[T, U any](g *fakeGPU, first T, second U) func() (T, U, nvml.Return) {
	return func() (T, U, nvml.Return) {
		value, ret := answer(g, first)()
		return value, second, ret
	}
}

func answerOf[A, T any](g *fakeGPU, value func(A) T) func(A) (T, nvml.Return) {
	return func(argument A) (T, nvml.Return) { return answer(g, value(argument))() }
}

// hopper tells whether the GPU is Hopper or later.
func (g *fakeGPU) hopper() bool { return g.Config.Architecture >= nvml.DEVICE_ARCH_HOPPER }

func (g *fakeGPU) addIdentity() {
	g.GetUUIDFunc = answer(g, g.UUID)
	g.GetNameFunc = answer(g, g.Config.Name)
	g.GetSerialFunc = answer(g, fmt.Sprintf("16547230%05d", g.Index))
	g.GetBoardPartNumberFunc = answer(g, "692-2G520-0200-500 ")
	g.GetVbiosVersionFunc = answer(g, "96.00.A5.00.01")
	g.GetInforomImageVersionFunc = answer(g, "G520.0200.00.05")
	g.GetGspFirmwareVersionFunc = answer(g, g.machine.DriverVersion)
	pci := nvml.PciInfo{PciDeviceId: g.Config.PciDeviceId}
	for i, c := range fmt.Sprintf("00000000:%02X:00.0", 0x1A+g.Index) {
		pci.BusId[i] = int8(c)
	}
	g.GetPciInfoFunc = answer(g, pci)
	platform := nvml.PlatformInfo{}
	if g.Config.Architecture >= nvml.DEVICE_ARCH_BLACKWELL {
		copy(platform.ChassisSerialNumber[:], "1820325990123")
		platform.SlotNumber, platform.TrayIndex, platform.HostId = 7, 3, 1
	}
	g.GetPlatformInfoFunc = answer(g, platform)
	g.GetModuleIdFunc = answer(g, g.Index+1)
	g.GetMaxClockInfoFunc = answerOf(g, func(nvml.ClockType) uint32 { return 1980 })
	g.GetMaxPcieLinkGenerationFunc = answer(g, 5)
	g.GetMaxPcieLinkWidthFunc = answer(g, 16)
	g.GetEccModeFunc = answerPair(g, nvml.FEATURE_ENABLED, nvml.FEATURE_DISABLED)
	g.GetPersistenceModeFunc = answer(g, nvml.FEATURE_ENABLED)
	g.GetTemperatureThresholdFunc = func(threshold nvml.TemperatureThresholds) (uint32, nvml.Return) {
		if g.hopper() {
			return 0, nvml.ERROR_NOT_SUPPORTED
		}
		return 80 + uint32(threshold), nvml.SUCCESS
	}
}

func (g *fakeGPU) addGetters() {
	total := g.Config.MemoryMB << 20
	g.GetUtilizationRatesFunc = answer(g, nvml.Utilization{Gpu: 97, Memory: 41})
	g.GetMemoryInfo_v2Func = answer(g, nvml.Memory_v2{Total: total, Reserved: 1 << 29, Free: total - 3<<29, Used: 1 << 30})
	g.GetTemperatureFunc = answerOf(g, func(nvml.TemperatureSensors) uint32 { return 54 })
	g.temperature = answer(g, nvml.Temperature{Temperature: 55})
	g.GetMarginTemperatureFunc = answer(g, nvml.MarginTemperature{MarginTemperature: -2})
	g.GetClockInfoFunc = answerOf(g, func(clock nvml.ClockType) uint32 { return 1000 + uint32(clock) })
	g.GetCurrentClocksEventReasonsFunc = answer(g, uint64(0x4))
	g.GetCurrentClocksThrottleReasonsFunc = answer(g, uint64(0x8))
	g.GetPerformanceStateFunc = answer(g, nvml.PSTATE_0)
	g.GetCurrPcieLinkGenerationFunc = answer(g, 5)
	g.GetCurrPcieLinkWidthFunc = answer(g, 16)
	g.GetEncoderUtilizationFunc = answerPair(g, uint32(1), uint32(167000))
	g.GetDecoderUtilizationFunc = answerPair(g, uint32(2), uint32(167000))
	g.GetJpgUtilizationFunc = answerPair(g, uint32(3), uint32(167000))
	g.GetOfaUtilizationFunc = answerPair(g, uint32(4), uint32(167000))
	g.GetSramEccErrorStatusFunc = answer(g, nvml.EccSramErrorStatus{
		AggregateUncParity: 1, AggregateUncSecDed: 2, AggregateCor: 3, VolatileUncParity: 4, VolatileUncSecDed: 5,
		VolatileCor: 6, AggregateUncBucketL2: 7, AggregateUncBucketSm: 8, AggregateUncBucketPcie: 9,
		AggregateUncBucketMcu: 10, AggregateUncBucketOther: 11, BThresholdExceeded: 1,
	})
	fabric := nvml.GpuFabricInfo_v3{State: nvml.GPU_FABRIC_STATE_COMPLETED, CliqueId: 4, HealthMask: 0x55, HealthSummary: 1}
	fabric.ClusterUuid = [16]uint8{0xde, 0xad, 0xbe, 0xef, 15: 1}
	g.fabric3 = answer(g, fabric)
	g.fabric2 = answer(g, nvml.GpuFabricInfo_v2{
		ClusterUuid: fabric.ClusterUuid, State: fabric.State, CliqueId: fabric.CliqueId, HealthMask: fabric.HealthMask,
	})
	g.GetBAR1MemoryInfoFunc = answer(g, nvml.BAR1Memory{Bar1Total: 1 << 37, Bar1Free: 1<<37 - 5, Bar1Used: 5})
	g.GetEnforcedPowerLimitFunc = answer(g, uint32(650_000))
	g.GetRowRemapperHistogramFunc = answer(g, nvml.RowRemapperHistogramValues{Max: 2558, High: 2, Partial: 0, Low: 0, None: 0})
	g.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
}

// numberingOf is how the driver numbers its fields.
func numberingOf(driver string) gpu.Numbering {
	if gpu.DriverBranch(driver) <= 580 && driver != "580.159.04" {
		return gpu.OlderNumbering
	}
	return gpu.NewerNumbering
}

// lastFields are the last fields that drivers know.
var lastFields = map[gpu.Numbering]uint32{gpu.OlderNumbering: 273, gpu.NewerNumbering: 307}

// addFields answers the schema's fields by their numbers, as far as the GPU's generation has them.
func (g *fakeGPU) addFields(numbering gpu.Numbering) {
	g.fields = make(map[uint32]nvml.FieldValue)
	for _, metric := range schema.Metrics() {
		for _, source := range metric.Sources {
			if id, ok := gpu.FieldID(source.Name, numbering); ok && g.hasField(source.Name) {
				g.fields[id] = fieldAnswer(source.Name, id)
			}
		}
	}
	for i, name := range []string{
		"DEV_POWER_MIN_LIMIT", "DEV_POWER_MAX_LIMIT", "DEV_NVLINK_LINK_COUNT", "DEV_TEMPERATURE_SHUTDOWN_TLIMIT",
		"DEV_TEMPERATURE_SLOWDOWN_TLIMIT", "DEV_TEMPERATURE_GPU_MAX_TLIMIT", "DEV_TEMPERATURE_MEM_MAX_TLIMIT",
	} {
		id, _ := gpu.FieldID(name, gpu.NumberingUnknown)
		if i < 3 || g.hopper() {
			g.fields[id] = fieldAnswer(name, id)
		}
	}
	g.GetFieldValuesFunc = func(values []nvml.FieldValue) nvml.Return {
		if g.lost.Load() {
			return nvml.ERROR_GPU_IS_LOST
		}
		for i := range values {
			known, ok := g.fields[values[i].FieldId]
			if values[i].FieldId > lastFields[numbering] {
				values[i].NvmlReturn = uint32(nvml.ERROR_INVALID_ARGUMENT)
				continue
			}
			if !ok {
				values[i].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
				continue
			}
			known.FieldId, known.ScopeId = values[i].FieldId, values[i].ScopeId
			values[i] = known
		}
		return nvml.SUCCESS
	}
}

func (g *fakeGPU) hasField(name string) bool {
	nvlink5 := strings.HasPrefix(name, "DEV_NVLINK_COUNT_") || strings.HasPrefix(name, "PWR_SMOOTHING_")
	return !nvlink5 || g.Config.Architecture >= nvml.DEVICE_ARCH_BLACKWELL
}

// fieldAnswer is a value that shows which field it is, in one of the driver's types.
func fieldAnswer(name string, id uint32) nvml.FieldValue {
	value := nvml.FieldValue{NvmlReturn: uint32(nvml.SUCCESS), ValueType: uint32(nvml.VALUE_TYPE_UNSIGNED_LONG_LONG)}
	switch {
	case strings.Contains(name, "TLIMIT"):
		value.ValueType = uint32(nvml.VALUE_TYPE_SIGNED_INT)
		binary.LittleEndian.PutUint32(value.Value[:], uint32(-int32(id-190)))
	case strings.Contains(name, "POWER"):
		value.ValueType = uint32(nvml.VALUE_TYPE_UNSIGNED_INT)
		binary.LittleEndian.PutUint64(value.Value[:], uint64(id)*1000|0xffff<<32) // above the 32 bits: rubbish
	default:
		binary.LittleEndian.PutUint64(value.Value[:], uint64(id)*1000)
	}
	return value
}

// samplePeriod is how often the fake driver samples for its rings.
const samplePeriod = 100 * time.Millisecond

// addSamples keeps the last second in the rings, handed out in the order of the ring's slots: not by
// time, and with a slot that was never filled.
func (g *fakeGPU) addSamples() {
	g.GetSamplesFunc = func(kind nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
		switch kind {
		case nvml.TOTAL_POWER_SAMPLES, nvml.GPU_UTILIZATION_SAMPLES, nvml.MEMORY_UTILIZATION_SAMPLES,
			nvml.PROCESSOR_CLK_SAMPLES, nvml.MEMORY_CLK_SAMPLES:
		case nvml.MODULE_POWER_SAMPLES:
			return 0, nil, nvml.ERROR_NOT_SUPPORTED
		default:
			return 0, nil, nvml.ERROR_INVALID_ARGUMENT
		}
		if g.lost.Load() {
			return 0, nil, nvml.ERROR_GPU_IS_LOST
		}
		samples := g.ring(since)
		if g.idle || len(samples) == 1 {
			return 0, nil, nvml.ERROR_NOT_FOUND
		}
		return nvml.VALUE_TYPE_UNSIGNED_INT, samples, nvml.SUCCESS
	}
}

func (g *fakeGPU) ring(since uint64) []nvml.Sample {
	const slots = 10
	newest := int(time.Since(g.machine.boot) / samplePeriod)
	samples := []nvml.Sample{{}}
	for slot := range slots {
		n := newest - (newest-slot)%slots // the latest sample that fell into this slot
		sample := nvml.Sample{TimeStamp: uint64(n) * uint64(samplePeriod.Microseconds())}
		binary.LittleEndian.PutUint64(sample.SampleValue[:], uint64(n%100)|0xabcd<<32)
		if sample.TimeStamp > since {
			samples = append(samples, sample)
		}
	}
	return samples
}

// addProfile makes metrics that tell the length of their window: the id and the milliseconds.
func (m *machine) addProfile() {
	m.GpmSampleAllocFunc = func() (nvml.GpmSample, nvml.Return) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		sample := &mock.GpmSample{}
		m.sampled[sample] = time.Time{}
		return sample, nvml.SUCCESS
	}
	m.GpmSampleFreeFunc = func(sample nvml.GpmSample) nvml.Return {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		delete(m.sampled, sample)
		return nvml.SUCCESS
	}
	m.GpmMetricsGetFunc = func(request *nvml.GpmMetricsGetType) nvml.Return {
		m.mutex.Lock()
		window := m.sampled[request.Sample2].Sub(m.sampled[request.Sample1])
		m.mutex.Unlock()
		if window <= gpu.MinProfileWindow || request.NumMetrics > metricsPerCall {
			return nvml.ERROR_INVALID_ARGUMENT
		}
		for i := range request.Metrics[:request.NumMetrics] {
			metric := &request.Metrics[i]
			switch id := metric.MetricId; {
			case id > uint32(nvml.GPM_METRIC_MAX):
				metric.NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
			case id == uint32(nvml.GPM_METRIC_FP64_UTIL):
				metric.NvmlReturn, metric.Value = uint32(nvml.SUCCESS), math.NaN()
			default:
				metric.NvmlReturn, metric.Value = uint32(nvml.SUCCESS), float64(id)+float64(window.Milliseconds())/1e6
			}
		}
		return nvml.SUCCESS
	}
}

func (g *fakeGPU) addProfile() {
	g.GpmQueryDeviceSupportFunc = func() (nvml.GpmSupport, nvml.Return) {
		if !g.hopper() {
			return nvml.GpmSupport{}, nvml.SUCCESS
		}
		return answer(g, nvml.GpmSupport{IsSupportedDevice: 1})()
	}
	g.GpmSampleGetFunc = func(sample nvml.GpmSample) nvml.Return {
		if g.lost.Load() {
			return nvml.ERROR_GPU_IS_LOST
		}
		g.machine.mutex.Lock()
		defer g.machine.mutex.Unlock()
		g.machine.sampled[sample] = time.Now()
		return nvml.SUCCESS
	}
}

func (m *machine) addEvents() {
	m.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.sets++
		return &mock.EventSet{}, nvml.SUCCESS
	}
	m.EventSetFreeFunc = func(nvml.EventSet) nvml.Return {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		m.sets--
		return nvml.SUCCESS
	}
	m.EventSetWaitFunc = func(_ nvml.EventSet, milliseconds uint32) (nvml.EventData, nvml.Return) {
		m.mutex.Lock()
		ret := m.waitRet
		m.mutex.Unlock()
		if ret != nvml.SUCCESS {
			return nvml.EventData{}, ret
		}
		select {
		case data := <-m.events:
			return data, nvml.SUCCESS
		case <-time.After(time.Duration(milliseconds) * time.Millisecond):
			return nvml.EventData{}, nvml.ERROR_TIMEOUT
		}
	}
}

func (g *fakeGPU) addEvents() {
	g.GetSupportedEventTypesFunc = answer(g, uint64(nvml.EventTypeAll)&^uint64(nvml.EventTypePowerSourceChange))
	g.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return {
		if g.lost.Load() {
			return nvml.ERROR_GPU_IS_LOST
		}
		return nvml.SUCCESS
	}
}

// leaks counts what was allocated and not freed.
func (m *machine) leaks() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.sampled) + m.sets
}

// setWaitReturn makes waiting for events return an error, or work again.
func (m *machine) setWaitReturn(ret nvml.Return) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.waitRet = ret
}
