// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// eventWait is how long the suite waits for one event.
const eventWait = 20 * time.Millisecond

// eventLimit bounds how many events the suite takes before it goes on.
const eventLimit = 100

func checkEvents(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	known := uuids(tb, driver)
	for range eventLimit {
		event, ret := driver.NextEvent(eventWait)
		switch {
		case ret == gpu.NotSupported:
			if _, again := driver.NextEvent(eventWait); again != gpu.NotSupported {
				tb.Errorf("not supported is final, but then came %v", again)
			}
			return
		case ret == gpu.Timeout:
			return
		case !ret.OK():
			tb.Fatalf("waiting for an event: %v", ret)
		}
		if event.Kind == 0 || event.Time.IsZero() || !slices.Contains(known, event.UUID) {
			tb.Errorf("an event without kind, time or GPU: %+v", event)
		}
	}
}

// checkBindings takes what there is to tell of GPUs that are bound and unbound.
func checkBindings(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	binder, ok := driver.(gpu.Binder)
	if !ok {
		return
	}
	known := uuids(tb, driver)
	for range eventLimit {
		binding, ret := binder.NextBinding(eventWait)
		switch {
		case ret == gpu.NotSupported:
			if _, again := binder.NextBinding(eventWait); again != gpu.NotSupported {
				tb.Errorf("not supported is final, but then came %v", again)
			}
			return
		case ret == gpu.Timeout:
			return
		case !ret.OK():
			tb.Fatalf("waiting for a GPU to be bound or unbound: %v", ret)
		}
		if binding.Time.IsZero() || binding.UUID != "" && !slices.Contains(known, binding.UUID) {
			tb.Errorf("a change without a time, or of a GPU that is not there: %+v", binding)
		}
	}
}

// checkConcurrency makes the calls that the agent makes at the same time. It is the race detector
// that judges.
func checkConcurrency(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	request, metrics := fieldRequest(), profileRequest()
	var calls sync.WaitGroup
	for _, device := range devices(tb, driver) {
		calls.Go(func() { callAll(device, slices.Clone(request), slices.Clone(metrics)) })
	}
	calls.Go(func() {
		for range 5 {
			_, _ = driver.NextEvent(eventWait)
		}
	})
	if binder, ok := driver.(gpu.Binder); ok {
		calls.Go(func() {
			for range 5 {
				_, _ = binder.NextBinding(eventWait)
			}
		})
	}
	calls.Go(func() {
		for range 5 {
			_, _ = driver.Devices()
			_, _ = driver.System()
		}
	})
	calls.Wait()
}

// callAll makes each call of a device a few times; other checks judge the answers.
func callAll(device gpu.Device, fields []gpu.FieldValue, metrics []gpu.ProfileValue) {
	var parts gpu.Parts
	for range 5 {
		_, _ = device.Identity()
		_ = device.Fields(fields)
		for getter := range gpu.Getters {
			_ = device.Get(gpu.Getter(getter), &parts)
		}
		if profiler, ok := device.(gpu.Profiler); ok {
			_, _ = profiler.Profile(metrics)
		}
		if ring, ok := device.(gpu.Ring); ok {
			for _, kind := range ringKinds {
				_, _ = ring.Samples(kind, 0, nil)
			}
		}
		if processes, ok := device.(gpu.Processes); ok {
			_, _ = processes.Processes(gpu.AllProcesses, nil)
		}
		if instances, ok := device.(gpu.Instances); ok {
			_, _ = instances.Instances(nil)
		}
	}
}
