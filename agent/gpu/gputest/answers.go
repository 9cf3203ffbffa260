// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"slices"
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// unknownID is no field, metric or ring of any driver.
const unknownID = 1 << 20

// marker fills what a call must leave alone.
const marker = -0x5ca1ab1e

// fieldRequest asks for every field that the schema names, once for each scope, by every number that it has had.
func fieldRequest() []gpu.FieldValue {
	var request []gpu.FieldValue
	for _, metric := range schema.Metrics() {
		for _, source := range metric.Sources {
			if source.Kind != schema.FromField && source.Kind != schema.FromFieldPerLink {
				continue
			}
			for _, n := range []gpu.Numbering{gpu.OlderNumbering, gpu.NewerNumbering} {
				asked := gpu.FieldValue{ScopeID: source.Scope, Return: gpu.Unknown}
				var ok bool
				if asked.FieldID, ok = gpu.FieldID(source.Name, n); ok && !slices.Contains(request, asked) {
					request = append(request, asked)
				}
			}
		}
	}
	return request
}

func checkFields(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	request := fieldRequest()
	foreign := gpu.FieldValue{FieldID: 83, ScopeID: 7, Return: gpu.NoData, Type: gpu.TypeInt32, Bytes: [8]byte{1, 2, 3}}
	all := append([]gpu.FieldValue{foreign, {FieldID: unknownID}}, append(request, foreign)...)
	for i, device := range devices(tb, driver) {
		values := slices.Clone(all)
		asked := values[1 : len(values)-1]
		ret := device.Fields(asked)
		switch {
		case ret == gpu.FunctionNotFound: // a driver without the call has no fields
			if !slices.Equal(values, all) {
				tb.Errorf("device %d: a call that is not there wrote values", i)
			}
			continue
		case !ret.OK():
			tb.Fatalf("fields of device %d: %v", i, ret)
		}
		if values[0] != foreign || values[len(values)-1] != foreign {
			tb.Errorf("device %d: the call wrote beside the values that it was given", i)
		}
		if asked[0].Return.OK() {
			tb.Errorf("device %d answered a field that does not exist: %+v", i, asked[0])
		}
		for k := range asked {
			checkFieldValue(tb, &asked[k], all[1+k])
		}
	}
}

// checkFieldValue compares one answer with its question.
func checkFieldValue(tb testing.TB, answer *gpu.FieldValue, question gpu.FieldValue) {
	tb.Helper()
	if answer.FieldID != question.FieldID || answer.ScopeID != question.ScopeID {
		tb.Errorf("field %d scope %d came back as field %d scope %d",
			question.FieldID, question.ScopeID, answer.FieldID, answer.ScopeID)
	}
	if !answer.Return.OK() {
		return
	}
	if answer.Type > gpu.TypeUint16 {
		tb.Errorf("field %d has the unknown type %d", answer.FieldID, answer.Type)
	}
	if _, ok := answer.Int(); !ok && answer.Type == gpu.TypeDouble {
		tb.Errorf("field %d is reported as read, but is no number: %v", answer.FieldID, answer.Float())
	}
}

// checkFieldsOrder asks for the same fields in another order, which may not change who answers.
func checkFieldsOrder(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	request := fieldRequest()
	for i, device := range devices(tb, driver) {
		forward, backward := slices.Clone(request), slices.Clone(request)
		slices.Reverse(backward)
		switch ret := device.Fields(forward); {
		case ret == gpu.FunctionNotFound:
			continue
		case !ret.OK():
			tb.Fatalf("fields of device %d: %v", i, ret)
		}
		if ret := device.Fields(backward); !ret.OK() {
			tb.Fatalf("fields of device %d, reversed: %v", i, ret)
		}
		slices.Reverse(backward)
		for k := range forward {
			if forward[k].Return != backward[k].Return {
				tb.Errorf("device %d, field %d scope %d: %v in one order, %v in the other",
					i, forward[k].FieldID, forward[k].ScopeID, forward[k].Return, backward[k].Return)
			}
		}
	}
}

// A span holds the values that a part of a getter can have.
type span struct{ low, high int64 }

const huge = 1 << 62

// spans are the values that make sense, by part; those beyond the listed parts are not judged.
var spans = map[gpu.Getter][]span{
	gpu.GetUtilizationRates:    {{0, 100}, {0, 100}},
	gpu.GetMemoryInfo:          {{1, huge}, {0, huge}, {0, huge}, {0, huge}},
	gpu.GetTemperature:         {{-60, 200}},
	gpu.GetMarginTemperature:   {{-200, 200}},
	gpu.GetClockSM:             {{0, 100000}},
	gpu.GetClockMemory:         {{0, 100000}},
	gpu.GetClocksEventReasons:  {{0, huge}},
	gpu.GetPerformanceState:    {{0, 15}},
	gpu.GetPCIeLink:            {{1, 16}, {1, 32}},
	gpu.GetEncoderUtilization:  {{0, 100}},
	gpu.GetDecoderUtilization:  {{0, 100}},
	gpu.GetJPGUtilization:      {{0, 100}},
	gpu.GetOFAUtilization:      {{0, 100}},
	gpu.GetSRAMECC:             {{0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, 1}},
	gpu.GetFabricInfo:          {{0, 3}, {0, 0xffffffff}, {0, 0xffffffff}, {0, 0xffffffff}, {0, 3}},
	gpu.GetBAR1Memory:          {{1, huge}, {0, huge}, {0, huge}},
	gpu.GetRetiredPagesPending: {{0, 1}},
	gpu.GetEnforcedPowerLimit:  {{1, 1 << 32}},
	gpu.GetRowRemapHistogram:   {{0, huge}, {0, huge}, {0, huge}, {0, huge}, {0, huge}},
	gpu.GetClockGraphics:       {{0, 100000}},
	gpu.GetClockVideo:          {{0, 100000}},
}

func checkGetters(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	for i, device := range devices(tb, driver) {
		for getter, info := range gpu.Getters {
			var parts gpu.Parts
			for k := range parts {
				parts[k] = marker
			}
			if ret := device.Get(gpu.Getter(getter), &parts); !ret.OK() {
				continue
			}
			for k, limit := range spans[gpu.Getter(getter)] {
				if parts[k] < limit.low || parts[k] > limit.high {
					tb.Errorf("device %d, %s, part %d: %d is not within %d and %d",
						i, info.Symbol, k, parts[k], limit.low, limit.high)
				}
			}
			for k := info.Parts; k < len(parts); k++ {
				if parts[k] != marker {
					tb.Errorf("device %d, %s wrote part %d; it has %d", i, info.Symbol, k, info.Parts)
				}
			}
		}
	}
}

func checkUnknownGetter(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	for i, device := range devices(tb, driver) {
		var parts gpu.Parts
		if ret := device.Get(gpu.Getter(len(gpu.Getters)), &parts); !ret.Unsupported() {
			tb.Errorf("device %d answered a getter that does not exist with %v", i, ret)
		}
	}
}
