// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// pciAddress is domain:bus:device.function as the kernel writes it.
var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

func checkSystem(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	system, ret := driver.System()
	if !ret.OK() {
		tb.Fatalf("asking for the driver's versions: %v", ret)
	}
	if gpu.DriverBranch(system.DriverVersion) == 0 {
		tb.Errorf("driver version %q has no branch number", system.DriverVersion)
	}
	if system.NVMLVersion == "" {
		tb.Error("no NVML version")
	}
}

func checkDevices(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	first := uuids(tb, driver)
	seen := make(map[string]bool, len(first))
	for _, uuid := range first {
		if uuid == "" || seen[uuid] {
			tb.Errorf("UUID %q is empty or used twice", uuid)
		}
		seen[uuid] = true
	}
	if second := uuids(tb, driver); !reflect.DeepEqual(first, second) {
		tb.Errorf("the devices changed from one listing to the next: %v, %v", first, second)
	}
}

func uuids(tb testing.TB, driver gpu.Driver) []string {
	tb.Helper()
	all, ret := driver.Devices()
	if !ret.OK() || len(all) == 0 {
		tb.Fatalf("listing the devices: %d of them, %v", len(all), ret)
	}
	names := make([]string, len(all))
	for i, device := range all {
		identity, ret := device.Identity()
		if !ret.OK() {
			tb.Fatalf("identity of device %d: %v", i, ret)
		}
		if names[i] = device.UUID(); names[i] != identity.UUID {
			tb.Errorf("device %d is %q, but its identity says %q", i, names[i], identity.UUID)
		}
	}
	return names
}

func checkIdentity(tb testing.TB, driver gpu.Driver) {
	tb.Helper()
	for i, device := range devices(tb, driver) {
		first, ret := device.Identity()
		if !ret.OK() {
			tb.Fatalf("identity of device %d: %v", i, ret)
		}
		if second, ret := device.Identity(); !ret.OK() || !reflect.DeepEqual(first, second) {
			tb.Errorf("device %d changed from one call to the next (%v):\n%+v\n%+v", i, ret, first, second)
		}
		checkIdentityValues(tb, first)
	}
}

// checkIdentityValues refuses what can only be a stand-in for "not known".
func checkIdentityValues(tb testing.TB, identity gpu.Identity) {
	tb.Helper()
	if identity.PCIBusID != "" && !pciAddress.MatchString(identity.PCIBusID) {
		tb.Errorf("PCI bus id %q is not domain:bus:device.function in lower case", identity.PCIBusID)
	}
	fields := reflect.ValueOf(identity)
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		if text, ok := reflect.TypeAssert[string](fields.Field(i)); ok && strings.TrimSpace(text) != text {
			tb.Errorf("%s %q is padded", name, text)
		}
	}
	positive := map[string]*int64{
		"MemoryTotalBytes": identity.MemoryTotalBytes, "PowerLimitMilliwatts": identity.PowerLimitMilliwatts,
		"PowerLimitDefaultMilliwatts": identity.PowerLimitDefaultMilliwatts,
		"PowerLimitMaxMilliwatts":     identity.PowerLimitMaxMilliwatts,
		"MaxSMClockMegahertz":         identity.MaxSMClockMegahertz,
		"MaxMemoryClockMegahertz":     identity.MaxMemoryClockMegahertz,
		"PCIeMaxGeneration":           identity.PCIeMaxGeneration, "PCIeMaxWidth": identity.PCIeMaxWidth,
	}
	for name, value := range positive {
		if value != nil && *value <= 0 {
			tb.Errorf("%s is %d; what is not known is nil", name, *value)
		}
	}
	flags := map[string]*int64{
		"ECCEnabled": identity.ECCEnabled, "MIGEnabled": identity.MIGEnabled,
		"PersistenceEnabled": identity.PersistenceEnabled,
	}
	for name, value := range flags {
		if value != nil && *value != 0 && *value != 1 {
			tb.Errorf("%s is %d, not 0 or 1", name, *value)
		}
	}
}
