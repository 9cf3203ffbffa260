// SPDX-License-Identifier: Apache-2.0

// Package gputest holds what every gpu.Driver must do, as tests: the conformance suite that package
// nvml, over a fake library and over real hardware, and package sim run against themselves.
//
// The suite asks only for what package gpu promises. A GPU may answer "not supported" to anything; it
// may never answer with a number that is none.
package gputest

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// deviceLimit bounds the GPUs of a driver that are examined one by one, to keep the suite quick.
const deviceLimit = 8

// check is one property of a driver.
type check struct {
	name string
	run  func(tb testing.TB, driver gpu.Driver)
}

var checks = []check{
	{"system", checkSystem},
	{"devices", checkDevices},
	{"identity", checkIdentity},
	{"fields", checkFields},
	{"fields order", checkFieldsOrder},
	{"getters", checkGetters},
	{"unknown getter", checkUnknownGetter},
	{"profile", checkProfile},
	{"rings", checkRings},
	{"processes", checkProcesses},
	{"instances", checkInstances},
	{"parts", checkParts},
	{"events", checkEvents},
	{"bindings", checkBindings},
	{"concurrency", checkConcurrency},
}

// Conformance runs the suite in synctest bubbles, in which time stands still until all wait: open must
// return a driver that takes its time from package time alone. The driver needs at least one GPU. It
// is opened anew for each check, and closed by the suite.
func Conformance(t *testing.T, open func(t *testing.T) gpu.Driver) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runCheck(t, c, open) })
		})
	}
}

// ConformanceOnHardware runs the suite in real time, for a driver whose clock is not Go's. It takes a
// few seconds.
func ConformanceOnHardware(t *testing.T, open func(t *testing.T) gpu.Driver) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { runCheck(t, c, open) })
	}
}

func runCheck(t *testing.T, c check, open func(t *testing.T) gpu.Driver) {
	t.Helper()
	driver := open(t)
	t.Cleanup(func() {
		if ret := driver.Close(); !ret.OK() {
			t.Errorf("closing the driver: %v", ret)
		}
	})
	c.run(t, driver)
}

// devices lists the GPUs that a check looks at, at least one and at most deviceLimit, with their MIG instances.
func devices(tb testing.TB, driver gpu.Driver) []gpu.Device {
	tb.Helper()
	all, ret := driver.Devices()
	if !ret.OK() {
		tb.Fatalf("listing the devices: %v", ret)
	}
	if len(all) == 0 {
		tb.Fatal("the driver has no devices; the suite needs one")
	}
	whole := all[:min(len(all), deviceLimit)]
	list := slices.Clone(whole)
	for i, device := range whole {
		if splitter, ok := device.(gpu.Splitter); ok {
			parts, ret := splitter.Parts()
			if !ret.OK() && !ret.Unsupported() {
				tb.Errorf("parts of device %d: %v", i, ret)
			}
			list = append(list, parts...)
		}
	}
	return list
}
