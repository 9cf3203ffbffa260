// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"slices"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// one opens a driver on a machine and returns its first GPU.
func one(t *testing.T, m *machine) *device {
	t.Helper()
	driver := m.open(t)
	t.Cleanup(func() { driver.Close() })
	devices, ret := driver.Devices()
	if !ret.OK() || len(devices) == 0 {
		t.Fatalf("%d devices, %v", len(devices), ret)
	}
	return devices[0].(*device)
}

// TestFieldsByBothNumberings asks by name on either side of the renumbering. The value of each fake
// field is a thousand times its number.
func TestFieldsByBothNumberings(t *testing.T) {
	cases := []struct {
		driver string
		want   uint32
	}{{"580.65.06", 251}, {"580.159.04", 269}, {"590.48.01", 269}}
	for _, c := range cases {
		d := one(t, newMachine(dgxh200.New(), c.driver))
		numbering, _ := gpu.AskNumbering(d, gpu.DriverBranch(c.driver))
		id, ok := gpu.FieldID("DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", numbering)
		values := []gpu.FieldValue{{FieldID: id}}
		if ret := d.Fields(values); !ok || !ret.OK() || !values[0].Return.OK() {
			t.Fatalf("driver %s: field %d: %v, %v", c.driver, id, ret, values[0].Return)
		}
		if got, _ := values[0].Int(); id != c.want || got != int64(c.want)*1000 {
			t.Errorf("driver %s: field %d is %d", c.driver, id, got)
		}
	}
}

func TestFieldsKeepTypesAndCodes(t *testing.T) {
	m := newMachine(dgxh200.New(), "580.95.05")
	d := one(t, m)
	values := []gpu.FieldValue{{FieldID: 186}, {FieldID: 83}, {FieldID: 193}, {FieldID: 201}}
	if ret := d.Fields(values); !ret.OK() {
		t.Fatal(ret)
	}
	want := []struct {
		kind  gpu.ValueType
		value int64
	}{{gpu.TypeUint32, 186_000}, {gpu.TypeUint64, 83_000}, {gpu.TypeInt32, -3}}
	for i, w := range want {
		if got, ok := values[i].Int(); !ok || got != w.value || values[i].Type != w.kind {
			t.Errorf("field %d: %d of type %d, want %d of type %d", values[i].FieldID, got, values[i].Type, w.value, w.kind)
		}
	}
	if values[3].Return != gpu.NotSupported {
		t.Errorf("an NVLink 5 field on an H200: %v", values[3].Return)
	}

	// A driver that leaves an entry alone has not answered it.
	m.gpus[0].GetFieldValuesFunc = func([]nvml.FieldValue) nvml.Return { return nvml.SUCCESS }
	if ret := d.Fields(values); !ret.OK() || values[0].Return != gpu.Unknown {
		t.Errorf("%v, %v", ret, values[0].Return)
	}
}

// countingHandle answers fields without allocating, which go-nvml's mock does.
type countingHandle struct {
	handle
	calls int
}

func (h *countingHandle) GetFieldValues(values []nvml.FieldValue) nvml.Return {
	h.calls++
	for i := range values {
		values[i].NvmlReturn = uint32(nvml.SUCCESS)
	}
	return nvml.SUCCESS
}

func TestFieldsDoNotAllocate(t *testing.T) {
	d := one(t, newMachine(dgxh200.New(), ""))
	counting := &countingHandle{}
	d.handle = counting
	values := make([]gpu.FieldValue, 120)
	const rounds = 100
	if n := testing.AllocsPerRun(rounds, func() { _ = d.Fields(values) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
	if counting.calls != rounds+1 { // AllocsPerRun warms up once
		t.Errorf("%d driver calls for %d calls", counting.calls, rounds+1)
	}
}

func TestGetters(t *testing.T) {
	m := newMachine(dgxh200.New(), "")
	total := int64(m.gpus[0].Config.MemoryMB) << 20
	d := one(t, m)
	cases := map[gpu.Getter][]int64{
		gpu.GetUtilizationRates:   {97, 41},
		gpu.GetMemoryInfo:         {total, 1 << 29, total - 3<<29, 1 << 30},
		gpu.GetTemperature:        {55},
		gpu.GetMarginTemperature:  {-2},
		gpu.GetClockSM:            {1001},
		gpu.GetClockMemory:        {1002},
		gpu.GetClocksEventReasons: {4},
		gpu.GetPerformanceState:   {0},
		gpu.GetPCIeLink:           {5, 16},
		gpu.GetEncoderUtilization: {1},
		gpu.GetDecoderUtilization: {2},
		gpu.GetJPGUtilization:     {3},
		gpu.GetOFAUtilization:     {4},
		gpu.GetSRAMECC:            {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1},
		gpu.GetFabricInfo:         {3, 0, 4, 0x55, 1},
		gpu.GetBAR1Memory:         {1 << 37, 1<<37 - 5, 5},
		gpu.GetEnforcedPowerLimit: {650_000},
		gpu.GetRowRemapHistogram:  {2558, 2, 0, 0, 0},
		gpu.GetClockGraphics:      {1000},
		gpu.GetClockVideo:         {1003},
	}
	for getter, info := range gpu.Getters {
		want, ok := cases[gpu.Getter(getter)]
		var parts gpu.Parts
		ret := d.Get(gpu.Getter(getter), &parts)
		if ret.OK() != ok || !slices.Equal(parts[:len(want)], want) {
			t.Errorf("%s: %v, %v; want %v", info.Symbol, parts[:info.Parts], ret, want)
		}
		if ok && len(want) != info.Parts {
			t.Errorf("%s has %d parts, %d are tested", info.Symbol, info.Parts, len(want))
		}
	}
}

// TestGettersFallBack has drivers that lack a call, or the version of a struct.
func TestGettersFallBack(t *testing.T) {
	cases := []struct {
		name   string
		getter gpu.Getter
		breaks func(*machine)
		want   []int64
		ret    gpu.Return
	}{
		{"no temperature by struct", gpu.GetTemperature, func(m *machine) {
			m.missing["nvmlDeviceGetTemperatureV"] = true
		}, []int64{54}, gpu.Success},
		{"temperature by struct not supported", gpu.GetTemperature, func(m *machine) {
			m.gpus[0].temperature = func() (nvml.Temperature, nvml.Return) { return nvml.Temperature{}, nvml.ERROR_NOT_SUPPORTED }
		}, []int64{54}, gpu.Success},
		{"temperature of a lost GPU", gpu.GetTemperature, func(m *machine) {
			m.gpus[0].temperature = func() (nvml.Temperature, nvml.Return) { return nvml.Temperature{}, nvml.ERROR_GPU_IS_LOST }
		}, nil, gpu.GPUIsLost},
		{"reasons by the older name", gpu.GetClocksEventReasons, func(m *machine) {
			m.missing["nvmlDeviceGetCurrentClocksEventReasons"] = true
		}, []int64{8}, gpu.Success},
		{"no memory with what is reserved", gpu.GetMemoryInfo, func(m *machine) {
			m.missing["nvmlDeviceGetMemoryInfo_v2"] = true
		}, nil, gpu.FunctionNotFound},
		{"fabric by the older struct", gpu.GetFabricInfo, func(m *machine) {
			m.gpus[0].fabric3 = func() (nvml.GpuFabricInfo_v3, nvml.Return) {
				return nvml.GpuFabricInfo_v3{}, nvml.ERROR_ARGUMENT_VERSION_MISMATCH
			}
		}, []int64{3, 0, 4, 0x55, 0}, gpu.Success},
		{"performance state unknown", gpu.GetPerformanceState, func(m *machine) {
			m.gpus[0].GetPerformanceStateFunc = func() (nvml.Pstates, nvml.Return) { return nvml.PSTATE_UNKNOWN, nvml.SUCCESS }
		}, nil, gpu.NoData},
		{"memory not available", gpu.GetBAR1Memory, func(m *machine) {
			m.gpus[0].GetBAR1MemoryInfoFunc = func() (nvml.BAR1Memory, nvml.Return) {
				return nvml.BAR1Memory{Bar1Total: ^uint64(0)}, nvml.SUCCESS
			}
		}, nil, gpu.NoData},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(dgxh200.New(), "")
			c.breaks(m)
			d := one(t, m)
			parts := gpu.Parts{-1, -1, -1, -1, -1}
			before := parts
			ret := d.Get(c.getter, &parts)
			if ret != c.ret || !slices.Equal(parts[:len(c.want)], c.want) {
				t.Errorf("%v, %v; want %v, %v", parts[:len(c.want)], ret, c.want, c.ret)
			}
			if !ret.OK() && parts != before {
				t.Errorf("a call that did not succeed wrote %v", parts)
			}
		})
	}
}

func TestSamples(t *testing.T) {
	m := newMachine(dgxh200.New(), "")
	d := one(t, m)
	samples, ret := d.Samples(gpu.RingTotalPower, 0, nil)
	if !ret.OK() || len(samples) != 10 {
		t.Fatalf("%d samples, %v", len(samples), ret)
	}
	for i, sample := range samples {
		at := sample.DriverTimeMicroseconds
		if want := int64(at / uint64(samplePeriod.Microseconds()) % 100); sample.Value != want {
			t.Errorf("sample %d at %d is %d, want %d: the value type decides which bytes count", i, at, sample.Value, want)
		}
	}
	after, ret := d.Samples(gpu.RingTotalPower, samples[6].DriverTimeMicroseconds, nil)
	if !ret.OK() || len(after) < 3 || after[0] != samples[7] {
		t.Errorf("after the seventh: %v, %v", after, ret)
	}
	future := uint64(time.Since(m.boot).Microseconds()) + uint64(time.Hour.Microseconds())
	if none, ret := d.Samples(gpu.RingTotalPower, future, nil); ret != gpu.NotFound || len(none) != 0 {
		t.Errorf("from the future: %v, %v", none, ret)
	}
	idle, _ := d.driver.Devices()
	if none, ret := idle[7].(gpu.Ring).Samples(gpu.RingGPUUtilization, 0, nil); ret != gpu.NotFound || len(none) != 0 {
		t.Errorf("of an idle GPU: %v, %v", none, ret)
	}
}

func TestIdentity(t *testing.T) {
	d := one(t, newMachine(dgxh200.New(), "580.95.05"))
	got, ret := d.Identity()
	if !ret.OK() {
		t.Fatal(ret)
	}
	texts := map[string][2]string{
		"Model": {got.Model, "NVIDIA H200 141GB HBM3e"}, "Architecture": {got.Architecture, "Hopper"},
		"Serial": {got.Serial, "1654723000000"}, "BoardPartNumber": {got.BoardPartNumber, "692-2G520-0200-500"},
		"PCIBusID": {got.PCIBusID, "0000:1a:00.0"}, "VBIOSVersion": {got.VBIOSVersion, "96.00.A5.00.01"},
		"InfoROMVersion": {got.InfoROMVersion, "G520.0200.00.05"}, "GSP": {got.GSP, "580.95.05"},
		"FabricClusterUUID": {got.FabricClusterUUID, "deadbeef-0000-0000-0000-000000000001"},
		"ChassisSerial":     {got.ChassisSerial, ""}, "ComputeCapability": {got.ComputeCapability, "9.0"},
	}
	for name, pair := range texts {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", name, pair[0], pair[1])
		}
	}
	numbers := []struct {
		name string
		got  *int64
		want int64
	}{
		{"Index", got.Index, 0},
		{"Minor", got.Minor, 0},
		{"ModuleID", got.ModuleID, 1},
		{"MemoryReservedBytes", got.MemoryReservedBytes, 1 << 29},
		{"PowerLimitMilliwatts", got.PowerLimitMilliwatts, 190_000},
		{"PowerLimitDefaultMilliwatts", got.PowerLimitDefaultMilliwatts, 189_000},
		{"PowerLimitMinMilliwatts", got.PowerLimitMinMilliwatts, 187_000},
		{"PowerLimitMaxMilliwatts", got.PowerLimitMaxMilliwatts, 188_000},
		{"MaxSMClockMegahertz", got.MaxSMClockMegahertz, 1980},
		{"ShutdownCelsius", got.ShutdownCelsius, -3},
		{"SlowdownCelsius", got.SlowdownCelsius, -4},
		{"MemoryMaxCelsius", got.MemoryMaxCelsius, -5},
		{"GPUMaxCelsius", got.GPUMaxCelsius, -6},
		{"ECCEnabled", got.ECCEnabled, 1},
		{"MIGEnabled", got.MIGEnabled, 0},
		{"PersistenceEnabled", got.PersistenceEnabled, 1},
		{"FabricCliqueID", got.FabricCliqueID, 4},
		{"NVLinkCount", got.NVLinkCount, 91_000},
		{"PCIeMaxGeneration", got.PCIeMaxGeneration, 5},
		{"PCIeMaxWidth", got.PCIeMaxWidth, 16},
	}
	for _, n := range numbers {
		if n.got == nil || *n.got != n.want {
			t.Errorf("%s is %v, want %d", n.name, n.got, n.want)
		}
	}
	if got.SlotNumber != nil || got.TrayIndex != nil || got.HostID != nil {
		t.Error("a GPU without a chassis has a place in it")
	}
}

func TestIdentityBeforeHopper(t *testing.T) {
	m := newMachine(dgxa100.New(), "")
	m.missing["nvmlDeviceGetMemoryInfo_v2"] = true
	m.gpus[0].GetSerialFunc = func() (string, nvml.Return) { return "half", nvml.ERROR_UNKNOWN }
	m.gpus[0].fabric3 = func() (nvml.GpuFabricInfo_v3, nvml.Return) {
		return nvml.GpuFabricInfo_v3{State: nvml.GPU_FABRIC_STATE_IN_PROGRESS, CliqueId: 9}, nvml.SUCCESS
	}
	got, ret := one(t, m).Identity()
	if !ret.OK() {
		t.Fatal(ret)
	}
	if got.SlowdownCelsius == nil || *got.SlowdownCelsius != 81 || got.GPUMaxCelsius == nil || *got.GPUMaxCelsius != 83 {
		t.Errorf("thresholds: slowdown %v, most %v", got.SlowdownCelsius, got.GPUMaxCelsius)
	}
	if got.MemoryTotalBytes == nil || *got.MemoryTotalBytes != 40<<30 || got.MemoryReservedBytes != nil {
		t.Errorf("memory: total %v, reserved %v", got.MemoryTotalBytes, got.MemoryReservedBytes)
	}
	if got.Serial != "" || got.Model == "" {
		t.Errorf("one call failed: serial %q, model %q", got.Serial, got.Model)
	}
	if got.FabricCliqueID != nil || got.FabricClusterUUID != "" {
		t.Error("a GPU that is still registering has a clique")
	}
}

func TestNormalBusID(t *testing.T) {
	cases := map[string]string{
		"00000000:1A:00.0": "0000:1a:00.0",
		"0000:65:00.1":     "0000:65:00.1",
		"0001A2B3:00:00.0": "1a2b3:00:00.0", // a domain as some virtual machines have it
		"":                 "",
		"unknown":          "",
	}
	for in, want := range cases {
		if got := normalBusID(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
