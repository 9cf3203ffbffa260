// SPDX-License-Identifier: Apache-2.0

package gpu_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func TestFieldID(t *testing.T) {
	const (
		stable      = "DEV_TOTAL_ENERGY_CONSUMPTION"
		slowdown    = "DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN"
		brake       = "DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN"
		smoothing   = "PWR_SMOOTHING_ENABLED"
		preset      = "PWR_SMOOTHING_ACTIVE_PRESET_PROFILE"
		mmaStall    = "DEV_MMA_STALL_PERCENT"
		neverAField = "DEV_NO_SUCH_FIELD"
	)
	numberings := []gpu.Numbering{gpu.NumberingUnknown, gpu.OlderNumbering, gpu.NewerNumbering}
	want := map[string][]uint32{ // 0: no such field
		stable:      {83, 83, 83},
		slowdown:    {0, 251, 269},
		brake:       {0, 253, 271},
		smoothing:   {0, 256, 251},
		preset:      {0, 269, 264},
		mmaStall:    {0, 0, 297},
		neverAField: {0, 0, 0},
	}
	for name, ids := range want {
		for i, n := range numberings {
			if id, ok := gpu.FieldID(name, n); id != ids[i] || ok != (ids[i] != 0) {
				t.Errorf("%s in the %v numbering: %d, %v; want %d", name, n, id, ok, ids[i])
			}
		}
	}
}

func TestDriverBranch(t *testing.T) {
	for version, want := range map[string]int{"580.95.05": 580, "595.12": 595, "610": 610, "": 0, "unknown": 0, ".1": 0} {
		if got := gpu.DriverBranch(version); got != want {
			t.Errorf("%q: branch %d, want %d", version, got, want)
		}
	}
}

func TestFieldValueDecoding(t *testing.T) {
	double := func(f float64) uint64 { return math.Float64bits(f) }
	cases := []struct {
		kind  gpu.ValueType
		bits  uint64
		value int64
		ok    bool
		width int
	}{
		{gpu.TypeDouble, double(2.5), 3, true, 64},
		{gpu.TypeDouble, double(-2.4), -2, true, 64},
		{gpu.TypeDouble, double(math.NaN()), 0, false, 64},
		{gpu.TypeDouble, double(math.Inf(1)), 0, false, 64},
		{gpu.TypeDouble, double(1 << 63), 0, false, 64},
		{gpu.TypeUint32, 0xdead_beef_ffff_ffff, math.MaxUint32, true, 32}, // the upper half is rubbish
		{gpu.TypeUnsignedLong, 7, 7, true, 64},
		{gpu.TypeUint64, math.MaxInt64, math.MaxInt64, true, 64},
		{gpu.TypeUint64, 1 << 63, 0, false, 64},
		{gpu.TypeInt64, math.MaxUint64, -1, true, 64},
		{gpu.TypeInt32, 0xdead_beef_ffff_fffe, -2, true, 32},
		{gpu.TypeUint16, 0xdead_beef_dead_ffff, math.MaxUint16, true, 16},
		{gpu.ValueType(7), 1, 0, false, 64},
	}
	for _, c := range cases {
		value := gpu.FieldValue{Type: c.kind}
		binary.LittleEndian.PutUint64(value.Bytes[:], c.bits)
		if got, ok := value.Int(); ok != c.ok || ok && got != c.value {
			t.Errorf("type %d, %#x: %d, %v; want %d, %v", c.kind, c.bits, got, ok, c.value, c.ok)
		}
		if got := value.Bits(); got != c.width {
			t.Errorf("type %d is %d bits wide, want %d", c.kind, got, c.width)
		}
	}
}

func TestFieldValueSetting(t *testing.T) {
	value := gpu.FieldValue{Return: gpu.NotSupported, Bytes: [8]byte{9, 9, 9, 9, 9, 9, 9, 9}}
	value.SetUint32(math.MaxUint32)
	if got, ok := value.Int(); !ok || got != math.MaxUint32 || !value.Return.OK() || value.Bytes[7] != 0 {
		t.Errorf("after SetUint32: %+v", value)
	}
	value.SetInt32(-8)
	if got, ok := value.Int(); !ok || got != -8 || value.Type != gpu.TypeInt32 {
		t.Errorf("after SetInt32: %+v", value)
	}
	value.SetUint64(1 << 40)
	if got, ok := value.Int(); !ok || got != 1<<40 || value.Type != gpu.TypeUint64 {
		t.Errorf("after SetUint64: %+v", value)
	}
}
