// SPDX-License-Identifier: Apache-2.0

package sim

import "github.com/gpufleet/gpufleet/agent/gpu"

// call is one of the driver calls that can be hidden or blocked. The first are the getters.
type call uint8

const (
	callFields call = call(len(gpu.Getters)) + iota
	callIdentity
	callProfile
	callSamples
	callProcesses
	callInstances
	callSystem
	callDevices
	callEvents
	callBindings
	callCount
)

// callSet is a set of calls, one bit each.
type callSet uint64

const allCalls = callSet(1)<<callCount - 1

func (s callSet) has(c call) bool { return s>>c&1 == 1 }

// symbols are the library symbols of the calls that are no getters.
var symbols = map[string]call{
	"nvmlDeviceGetFieldValues":   callFields,
	"nvmlDeviceGetUUID":          callIdentity,
	"nvmlGpmMetricsGet":          callProfile,
	"nvmlDeviceGetSamples":       callSamples,
	"nvmlDeviceGetMigMode":       callInstances,
	"nvmlSystemGetDriverVersion": callSystem,
	"nvmlDeviceGetCount_v2":      callDevices,
	"nvmlEventSetWait_v2":        callEvents,
	"nvmlSystemEventSetWait":     callBindings,

	"nvmlDeviceGetComputeRunningProcesses_v3": callProcesses,
}

// callsOf are the calls that need a symbol; "" stands for all calls. An empty set means that the symbol is not
// known here.
func callsOf(symbol string) callSet {
	if symbol == "" {
		return allCalls
	}
	var set callSet
	if c, ok := symbols[symbol]; ok {
		set |= 1 << c
	}
	for getter, info := range gpu.Getters {
		if info.Symbol == symbol {
			set |= 1 << getter
		}
	}
	return set
}
