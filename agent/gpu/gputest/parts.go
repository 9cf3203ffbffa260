// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// checkParts holds the MIG instances that are Devices against those that are listed.
func checkParts(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	whole, ret := driver.Devices()
	if !ret.OK() {
		tb.Fatalf("listing the devices: %v", ret)
	}
	for i, device := range whole {
		splitter, ok := device.(gpu.Splitter)
		if !ok {
			continue
		}
		parts, ret := splitter.Parts()
		if ret.Unsupported() {
			continue
		}
		if !ret.OK() {
			tb.Errorf("parts of device %d: %v", i, ret)
		}
		again, _ := splitter.Parts()
		if len(again) != len(parts) {
			tb.Fatalf("device %d has %d parts, then %d", i, len(parts), len(again))
		}
		listed := instancesOf(tb, device)
		if len(listed) != len(parts) {
			tb.Errorf("device %d has %d parts and %d instances", i, len(parts), len(listed))
		}
		for k, part := range parts {
			if again[k] != part {
				tb.Errorf("part %d of device %d is another Device the second time", k, i)
			}
			checkPart(tb, device, part, listed)
		}
	}
}

// instancesOf are the instances of a device by UUID.
func instancesOf(tb testing.TB, device gpu.Device) map[string]gpu.Instance {
	tb.Helper()
	byUUID := make(map[string]gpu.Instance)
	lister, ok := device.(gpu.Instances)
	if !ok {
		return byUUID
	}
	list, ret := lister.Instances(nil)
	if !ret.OK() && !ret.Unsupported() { // a driver from before MIG
		tb.Errorf("instances of %s: %v", device.UUID(), ret)
	}
	for _, instance := range list {
		byUUID[instance.UUID] = instance
	}
	return byUUID
}

func checkPart(tb testing.TB, device, part gpu.Device, listed map[string]gpu.Instance) {
	tb.Helper()
	identity, ret := part.Identity()
	if !ret.OK() {
		tb.Errorf("identity of part %s: %v", part.UUID(), ret)
		return
	}
	instance, ok := listed[part.UUID()]
	switch {
	case !ok:
		tb.Errorf("part %s is no instance", part.UUID())
	case identity.UUID != part.UUID() || identity.ParentUUID != device.UUID():
		tb.Errorf("part %s of %s says that it is %s of %s", part.UUID(), device.UUID(), identity.UUID, identity.ParentUUID)
	case identity.GPUInstanceID == nil || identity.ComputeInstanceID == nil:
		tb.Errorf("part %s does not say which instance it is", part.UUID())
	case *identity.GPUInstanceID != int64(instance.GI) || *identity.ComputeInstanceID != int64(instance.CI):
		tb.Errorf("part %s is instance %d, %d; it says %d, %d", part.UUID(), instance.GI, instance.CI, *identity.GPUInstanceID, *identity.ComputeInstanceID)
	}
	if _, ok := part.(gpu.Ring); ok {
		tb.Errorf("part %s has rings: nvml.h gives them to whole GPUs", part.UUID())
	}
}
