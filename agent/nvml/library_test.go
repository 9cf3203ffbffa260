// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"flag"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/gpu/gputest"
)

// What TestLibrary tells its child.
var (
	childLibrary = flag.String("child-library", "", "the library that TestLibraryChild opens")
	childOld     = flag.Bool("child-old", false, "that library lacks what newer drivers added")
)

// TestLibrary runs the real bindings against a library in C (testdata/nvml.c), in a process of its own:
// the bindings stay with the first library that a process loads, and a missing symbol ends it.
func TestLibrary(t *testing.T) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler: ", err)
	}
	header, err := build.Import("github.com/NVIDIA/go-nvml/pkg/nvml", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"new": nil, "old": {"-DOLD"}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), libraryName)
			arguments := append(flags, "-shared", "-fPIC", "-DNVML_NO_UNVERSIONED_FUNC_DEFS=1", "-I", header.Dir,
				"-o", path, filepath.Join("testdata", "nvml.c"))
			if output, err := exec.CommandContext(t.Context(), compiler, arguments...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLibraryChild$", "-test.v",
				"-child-library="+path, fmt.Sprintf("-child-old=%t", len(flags) > 0))
			output, err := child.CombinedOutput()
			t.Logf("%s", output)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLibraryChild is what TestLibrary runs.
func TestLibraryChild(t *testing.T) {
	path, old := *childLibrary, *childOld
	if path == "" {
		t.Skip("a part of TestLibrary")
	}
	open := func(t *testing.T) gpu.Driver {
		t.Helper()
		driver, err := Open(Config{LibraryPath: path})
		if err != nil {
			t.Fatal(err)
		}
		return driver
	}
	gputest.Conformance(t, open)
	t.Run("answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { checkLibrary(t, open(t), old) })
	})
}

func checkLibrary(t *testing.T, driver gpu.Driver, old bool) {
	t.Helper()
	devices, ret := driver.Devices()
	if !ret.OK() || len(devices) != 2 {
		t.Fatalf("%d devices, %v", len(devices), ret)
	}
	if event, ret := driver.NextEvent(time.Second); !ret.OK() || event.UUID != devices[1].UUID() || event.Data != 79 || event.GI != gpu.NoInstance {
		t.Errorf("event %+v, %v", event, ret)
	}
	first := devices[0].(*device)
	checkLibraryBindings(t, driver.(gpu.Binder), first.uuid, old)
	fields := []gpu.FieldValue{{FieldID: 186, ScopeID: 1}, {FieldID: 83}}
	if ret := first.Fields(fields); !ret.OK() || fields[1].Return != gpu.NotSupported {
		t.Errorf("fields: %v, %v", ret, fields[1].Return)
	}
	if value, ok := fields[0].Int(); !ok || value != 186 {
		t.Errorf("field 186 is %d", value)
	}
	if n := testing.AllocsPerRun(10, func() { _ = first.Fields(fields) }); n != 0 {
		t.Errorf("%v allocations for a call of Fields through the bindings", n)
	}
	want := []gpu.RingSample{{DriverTimeMicroseconds: 2000, Value: 20}, {DriverTimeMicroseconds: 3000, Value: 30}}
	if samples, ret := first.Samples(gpu.RingTotalPower, 1000, nil); !ret.OK() || !slices.Equal(samples, want) {
		t.Errorf("samples %v, %v", samples, ret)
	}
	if n := testing.AllocsPerRun(10, func() { want, _ = first.Samples(gpu.RingTotalPower, 1000, want[:0]) }); n > 1 { // to sort them
		t.Errorf("%v allocations for a ring: it is read in go-nvml's way", n)
	}
	if identity, _ := first.Identity(); identity.PCIBusID != "0001:a0:00.0" || identity.Model != "" {
		t.Errorf("identity %+v", identity)
	}
	celsius, fabric, profile := int64(42), gpu.Success, gpu.Success
	if old {
		celsius, fabric, profile = 41, gpu.FunctionNotFound, gpu.FunctionNotFound
	}
	var parts gpu.Parts
	if ret := first.Get(gpu.GetTemperature, &parts); !ret.OK() || parts[0] != celsius {
		t.Errorf("temperature %d, %v", parts[0], ret)
	}
	if ret := first.Get(gpu.GetFabricInfo, &parts); ret != fabric || ret.OK() && (parts[2] != 7 || parts[3] != 0x1f) {
		t.Errorf("fabric %v, %v", parts, ret)
	}
	metrics := []gpu.ProfileValue{{MetricID: 2}, {MetricID: 61}}
	_, _ = first.Profile(metrics)
	<-time.After(time.Second)
	if _, ret := first.Profile(metrics); ret != profile || ret.OK() && metrics[1] != (gpu.ProfileValue{MetricID: 61, Value: 1}) {
		t.Errorf("metrics %+v, %v", metrics, ret)
	}
	checkLibraryProcesses(t, first, devices[1].(*device), old)
	if ret := driver.Close(); !ret.OK() {
		t.Error(ret)
	}
}

// checkLibraryBindings: the library tells of one GPU that goes and comes.
func checkLibraryBindings(t *testing.T, driver gpu.Binder, uuid string, old bool) {
	t.Helper()
	for _, bound := range []bool{false, true} {
		binding, ret := driver.NextBinding(time.Second)
		switch {
		case old && ret != gpu.NotSupported:
			t.Errorf("a library without system events tells %+v, %v", binding, ret)
		case !old && (!ret.OK() || binding.UUID != uuid || binding.Bound != bound):
			t.Errorf("binding %+v, %v, want %t of %s", binding, ret, bound, uuid)
		}
	}
	if _, ret := driver.NextBinding(0); !old && ret != gpu.Timeout {
		t.Errorf("nothing more happened: %v", ret)
	}
}

// checkLibraryProcesses looks at lists, whose structs differ between versions of the call. The second GPU
// of a library that is not old is split.
func checkLibraryProcesses(t *testing.T, first, second *device, old bool) {
	t.Helper()
	want := make([]gpu.Process, 3)
	for i := range want {
		want[i] = gpu.Process{PID: uint32(4700 + i), MemoryBytes: uint64(1+i) << 20, MemoryKnown: true, GI: gpu.NoInstance, CI: gpu.NoInstance}
	}
	var parts []gpu.Instance
	if !old {
		want[2].MemoryBytes, want[2].MemoryKnown = 0, false
		parts = []gpu.Instance{
			{UUID: "MIG-00000000-0000-4000-8000-000000000100", GI: 7, Placed: true, Profile: 19, Start: 4},
			{UUID: "MIG-00000000-0000-4000-8000-000000000101", GI: 8},
		}
	}
	if got, ret := first.Processes(gpu.AllProcesses, nil); !ret.OK() || !slices.Equal(got, want) {
		t.Errorf("processes %+v, %v", got, ret)
	}
	if got, ret := first.Instances(nil); old && ret != gpu.FunctionNotFound || !old && !ret.OK() || len(got) > 0 {
		t.Errorf("instances of a GPU that is whole: %+v, %v", got, ret)
	}
	for range 2 {
		if got, ret := second.Instances(nil); ret.OK() == old || !slices.Equal(got, parts) {
			t.Errorf("instances %+v, %v", got, ret)
		}
	}
	if got, ret := second.Processes(gpu.AllProcesses, nil); !old && (!ret.OK() || len(got) != 3 || got[1].GI != 8 || got[1].CI != 0) {
		t.Errorf("processes of instances %+v, %v", got, ret)
	}
}
