// SPDX-License-Identifier: Apache-2.0

package gpu_test

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// span is what a driver answers to the fields from one number on, up to the next span.
type span struct {
	from uint32
	ret  gpu.Return
}

// fieldDevice answers fields by spans.
type fieldDevice struct {
	gpu.Device
	spans []span
	ret   gpu.Return // of the call
}

func (d fieldDevice) Fields(values []gpu.FieldValue) gpu.Return {
	if !d.ret.OK() {
		return d.ret
	}
	for i := range values {
		for _, s := range d.spans {
			if values[i].FieldID >= s.from {
				values[i].Return = s.ret
			}
		}
	}
	return gpu.Success
}

const (
	success     = gpu.Success
	unsupported = gpu.NotSupported
	invalid     = gpu.InvalidArgument
)

// The answers of drivers to fields 251 and up.
var (
	// h200Driver580159 is what an NVIDIA H200 answered with driver 580.159.04 (virtual machine, November 2026).
	h200Driver580159 = []span{
		{251, unsupported},
		{269, success},
		{272, unsupported},
		{274, invalid},
		{275, unsupported},
		{289, invalid},
		{294, unsupported},
		{296, invalid},
		{301, success},
		{303, invalid},
	}
	olderHeader = []span{{251, success}, {254, unsupported}, {274, invalid}} // that of CUDA 12.8 to 13.0
	before251   = []span{{201, invalid}}
	sayNothing  = []span{{251, unsupported}} // to any number
)

func TestAskNumbering(t *testing.T) {
	cases := map[string]struct {
		device fieldDevice
		branch int
		want   gpu.Numbering
	}{
		"H200, 580.159.04":                     {fieldDevice{spans: h200Driver580159}, 580, gpu.NewerNumbering},
		"the same of an unknown branch":        {fieldDevice{spans: h200Driver580159}, 0, gpu.NewerNumbering},
		"580.65.06":                            {fieldDevice{spans: olderHeader}, 580, gpu.OlderNumbering},
		"550":                                  {fieldDevice{spans: before251}, 550, gpu.OlderNumbering},
		"590 without the inactive remappings":  {fieldDevice{spans: []span{{251, unsupported}, {289, invalid}}}, 590, gpu.NewerNumbering},
		"inactive remappings alone":            {fieldDevice{spans: []span{{251, unsupported}, {274, invalid}, {301, success}, {303, invalid}}}, 580, gpu.NewerNumbering},
		"580 that tells no unknown from known": {fieldDevice{spans: sayNothing}, 580, gpu.NumberingUnknown},
		"570 that tells no unknown from known": {fieldDevice{spans: sayNothing}, 570, gpu.OlderNumbering},
		"610 that tells no unknown from known": {fieldDevice{spans: sayNothing}, 610, gpu.NewerNumbering},
		"580, the call fails":                  {fieldDevice{ret: gpu.Unknown}, 580, gpu.NumberingUnknown},
		"570, the call fails":                  {fieldDevice{ret: gpu.InvalidArgument}, 570, gpu.OlderNumbering},
		"590, the call fails":                  {fieldDevice{ret: gpu.NotSupported}, 590, gpu.NewerNumbering},
		"no version, the call fails":           {fieldDevice{ret: gpu.Unknown}, 0, gpu.NumberingUnknown},
	}
	for name, c := range cases {
		got, ret := gpu.AskNumbering(c.device, c.branch)
		if got != c.want || ret != c.device.ret {
			t.Errorf("%s: %v, %v; want %v", name, got, ret, c.want)
		}
	}
}

// TestH200Fields: with the numbering that a real driver was found to have, each slowdown time is a number that it
// answers, and power smoothing, which an H200 has not, none.
func TestH200Fields(t *testing.T) {
	device := fieldDevice{spans: h200Driver580159}
	numbering, _ := gpu.AskNumbering(device, 580)
	for name, want := range map[string]gpu.Return{
		"DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN":       success,
		"DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN":       success,
		"DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN": success,
		"DEV_REMAPPED_ROWS_COR_INACTIVE":                  success,
		"PWR_SMOOTHING_ENABLED":                           unsupported,
		"PWR_SMOOTHING_ACTIVE_PRESET_PROFILE":             unsupported,
		"PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_UP_RATE":       unsupported,
		"DEV_MMA_STALL_PERCENT":                           invalid,
	} {
		id, ok := gpu.FieldID(name, numbering)
		values := []gpu.FieldValue{{FieldID: id, Return: gpu.Unknown}}
		if ret := device.Fields(values); !ok || !ret.OK() || values[0].Return != want {
			t.Errorf("%s: field %d, %v; want %v", name, id, values[0].Return, want)
		}
	}
}
