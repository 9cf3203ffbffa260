// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// CallObserver is told of each call into the driver: its name, which is one of CallNames, and how long it took. It is
// called by the goroutines that read GPUs, at the same time.
type CallObserver func(call string, took time.Duration)

// ObserveCalls has every call into the driver told from now on.
func (s *Stats) ObserveCalls(observe CallObserver) { s.observer.Store(&observe) }

// Names of calls besides those of getters: functions of libnvidia-ml, but for identity, which stands for all that
// read what a GPU is, and probe, for all that find out what it answers. Fields and metrics of performance monitoring are told apart by how often they are
// read, for it is they that cost, not the calls. Calls that are always made together have the name of the one that takes the longest.
const (
	callFields    = "nvmlDeviceGetFieldValues"        // of each tick, and of bursts
	callSlow      = "nvmlDeviceGetFieldValues_slow"   // of each 10 s
	callMinute    = "nvmlDeviceGetFieldValues_minute" // of each minute
	callSamples   = "nvmlDeviceGetSamples"
	callProfile   = "nvmlGpmSampleGet"      // of each tick
	callProfiles  = "nvmlGpmSampleGet_slow" // of each 10 s
	callParts     = "nvmlDeviceGetMigMode"
	callProcesses = "nvmlDeviceGetComputeRunningProcesses_v3"
	callIdentity  = "identity"
	callProbe     = "probe"
)

// CallNames are the names of all calls.
func CallNames() []string {
	names := []string{callFields, callSlow, callMinute, callSamples, callProfile, callProfiles, callParts, callProcesses, callIdentity, callProbe}
	for _, g := range gpu.Getters {
		names = append(names, g.Symbol)
	}
	return names
}

// called counts calls that were made since a time, and tells how long they took: several that were made together
// took the same time each.
func (w *worker) called(call string, calls uint64, started time.Time) {
	took := time.Since(started)
	w.burden.count(calls, took/time.Duration(calls), w.slow)
	w.tally(call, calls, took)
}

// tally counts calls that took so long together.
func (w *worker) tally(call string, calls uint64, took time.Duration) {
	each := took / time.Duration(calls)
	w.calls += calls
	w.inDriver += took
	if w.observer == nil {
		return
	}
	observe := w.observer.Load()
	if observe == nil {
		return
	}
	for range calls {
		(*observe)(call, each)
	}
}

// count adds calls that took so long each.
func (b *burden) count(calls uint64, each, slow time.Duration) {
	b.calls += calls
	if each > slow/2 {
		b.uneasy += calls
	}
	if each > slow {
		b.slow += calls
	}
}
