// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// mostMemory is more than any GPU has.
const mostMemory = 1 << 44

func checkProcesses(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	for i, device := range devices(tb, driver) {
		lister, ok := device.(gpu.Processes)
		if !ok {
			continue
		}
		kept := gpu.Process{PID: 42, MemoryBytes: 7, MemoryKnown: true}
		all, ret := lister.Processes(gpu.AllProcesses, []gpu.Process{kept})
		if len(all) == 0 || all[0] != kept {
			tb.Fatalf("device %d: what was there before is gone: %v", i, all)
		}
		if !ret.OK() && len(all) > 1 {
			tb.Errorf("device %d: %d processes with %v", i, len(all)-1, ret)
		}
		for _, process := range all[1:] {
			checkProcess(tb, i, process)
		}
		for kind := gpu.ComputeProcess; kind <= gpu.MPSProcess; kind++ {
			checkKind(tb, i, lister, kind)
		}
	}
}

// checkKind asks for one kind alone.
func checkKind(tb testing.TB, i int, lister gpu.Processes, kind gpu.ProcessKind) {
	tb.Helper()
	var only gpu.ProcessKinds
	only.Add(kind)
	list, _ := lister.Processes(only, nil)
	for _, process := range list {
		if process.Kind != kind {
			tb.Errorf("device %d: a process of kind %d where kind %d was asked for", i, process.Kind, kind)
		}
	}
}

func checkProcess(tb testing.TB, i int, process gpu.Process) {
	tb.Helper()
	switch {
	case process.PID == 0:
		tb.Errorf("device %d: process 0: %+v", i, process)
	case process.Kind > gpu.MPSProcess:
		tb.Errorf("device %d: a kind of process that does not exist: %+v", i, process)
	case process.MemoryKnown && process.MemoryBytes > mostMemory:
		tb.Errorf("device %d: more memory than there is: %+v", i, process)
	case (process.GI == gpu.NoInstance) != (process.CI == gpu.NoInstance):
		tb.Errorf("device %d: half an instance: %+v", i, process)
	}
}

func checkInstances(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	seen := make(map[string]bool)
	for i, device := range devices(tb, driver) {
		seen[device.UUID()] = true
		lister, ok := device.(gpu.Instances)
		if !ok {
			continue
		}
		kept := gpu.Instance{UUID: "kept"}
		all, ret := lister.Instances([]gpu.Instance{kept})
		if len(all) == 0 || all[0] != kept {
			tb.Fatalf("device %d: what was there before is gone: %v", i, all)
		}
		if !ret.OK() && len(all) > 1 {
			tb.Errorf("device %d: %d instances with %v", i, len(all)-1, ret)
		}
		numbers := make(map[[2]uint32]bool)
		for _, instance := range all[1:] {
			number := [2]uint32{instance.GI, instance.CI}
			if instance.UUID == "" || seen[instance.UUID] || numbers[number] || instance.GI == gpu.NoInstance || instance.CI == gpu.NoInstance {
				tb.Errorf("device %d: an instance without a name or a number of its own: %+v", i, instance)
			}
			seen[instance.UUID], numbers[number] = true, true
		}
	}
}
