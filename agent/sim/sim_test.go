// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"hash/fnv"
	"math"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func TestFleetOfAThousandNodes(t *testing.T) {
	fleet, err := NewFleet(FleetConfig{Nodes: 1000, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if fleet.GPUs() != 8000 {
		t.Errorf("%d GPUs", fleet.GPUs())
	}
	names, uuids := map[string]bool{}, map[string]bool{}
	count := map[string]int{}
	for _, n := range fleet.Nodes() {
		names[n.Name()] = true
		for i := range n.boards {
			uuids[n.boards[i].uuid] = true
		}
		for _, kind := range []string{
			n.Place().Provider, n.Model().String(), n.Place().LifeCycle, n.software.driver,
			fmt.Sprint("workload ", n.Workload()),
		} {
			count[kind]++
		}
	}
	if len(names) != 1000 || len(uuids) != 8000 {
		t.Errorf("%d names, %d UUIDs", len(names), len(uuids))
	}
	least := map[string]int{
		"aws": 250, "azure": 250, "gcp": 250, "oci": 250, "A100": 100, "H100": 200, "H200": 100, "B200": 50,
		"reserved": 300, "on_demand": 150, "spot": 30, "550.163.01": 20, "580.65.06": 20, "580.159.04": 10, "590.48.01": 100,
		"workload 0": 500, "workload 1": 150, "workload 2": 20,
	}
	for kind, n := range least {
		if count[kind] < n {
			t.Errorf("%d nodes are %s, want at least %d: %v", count[kind], kind, n, count)
		}
	}
	if count["GB200"] != 0 {
		t.Errorf("%d nodes with GB200, which nobody asked for", count["GB200"])
	}
}

func TestSmallFleetIsInFourClouds(t *testing.T) {
	fleet, err := NewFleet(FleetConfig{Nodes: 4, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	clouds := map[string]bool{}
	for _, n := range fleet.Nodes() {
		clouds[n.Place().Provider] = true
		if n.Workload() == Idle {
			t.Errorf("%s is idle", n.Name())
		}
	}
	if len(clouds) != 4 {
		t.Errorf("clouds: %v", clouds)
	}
}

func TestFleetOfOneModel(t *testing.T) {
	fleet, err := NewFleet(FleetConfig{Nodes: 8, Seed: 2, Models: []Model{GB200}})
	if err != nil {
		t.Fatal(err)
	}
	if fleet.GPUs() != 32 {
		t.Errorf("%d GPUs in 8 nodes of 4", fleet.GPUs())
	}
	for _, cfg := range []FleetConfig{
		{Nodes: 0},
		{Nodes: 1, Models: []Model{}},
		{Nodes: 1, FaultsPerGPUHour: -1},
		{Nodes: 1, FaultsPerGPUHour: math.NaN()},
		{Nodes: 1, FaultsPerGPUHour: math.Inf(1)},
	} {
		if _, err := NewFleet(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}

// request asks for every field there is, for two scopes.
func request() []gpu.FieldValue {
	var values []gpu.FieldValue
	for id := range uint32(308) {
		values = append(values, gpu.FieldValue{FieldID: id}, gpu.FieldValue{FieldID: id, ScopeID: gpu.ScopeAll})
	}
	return values
}

// reading is a digest of everything that a node says.
func reading(t *testing.T, node *Node, d gpu.Driver) string {
	t.Helper()
	digest := fnv.New64a()
	devices, ret := d.Devices()
	fmt.Fprint(digest, ret, len(devices))
	for _, device := range devices {
		fields, metrics := request(), []gpu.ProfileValue{{MetricID: metricSM}, {MetricID: metricPCIeSent}}
		fmt.Fprint(digest, device.Fields(fields))
		for _, v := range fields {
			digest.Write(append(v.Bytes[:], byte(v.Return), byte(v.Type)))
		}
		var parts gpu.Parts
		for getter := range gpu.Getters {
			fmt.Fprint(digest, device.Get(gpu.Getter(getter), &parts), parts)
		}
		window, ret := device.(gpu.Profiler).Profile(metrics)
		fmt.Fprint(digest, window, ret, metrics)
		samples, ret := device.(gpu.Ring).Samples(gpu.RingTotalPower, 0, nil)
		fmt.Fprint(digest, samples, ret)
	}
	for {
		event, ret := d.NextEvent(0)
		fmt.Fprint(digest, event, ret)
		if !ret.OK() {
			return fmt.Sprintf("%s %x", node.Name(), digest.Sum64())
		}
	}
}

// run reads a fleet for a while and digests all of it.
func run(t *testing.T, seed uint64) string {
	t.Helper()
	clock := newHandClock()
	fleet, err := NewFleet(FleetConfig{Nodes: 4, Seed: seed, Clock: clock.time, FaultsPerGPUHour: 4})
	if err != nil {
		t.Fatal(err)
	}
	var drivers []gpu.Driver
	for _, n := range fleet.Nodes() {
		drivers = append(drivers, n.Driver())
	}
	all := fnv.New64a()
	for _, wait := range []time.Duration{time.Second, 0, 350 * time.Millisecond, time.Minute, 25 * time.Minute} {
		clock.pass(wait)
		for i, n := range fleet.Nodes() {
			fmt.Fprint(all, reading(t, n, drivers[i]))
		}
	}
	for _, d := range drivers {
		d.Close()
	}
	return strconv.FormatUint(all.Sum64(), 16)
}

func TestSameSeedSameReadings(t *testing.T) {
	first, second, other := run(t, 1), run(t, 1), run(t, 2)
	if first != second {
		t.Errorf("seed 1 gives %s and %s", first, second)
	}
	if first == other {
		t.Error("seed 2 gives the same as seed 1")
	}
}

// How often a GPU was read makes no difference to what it says.
func TestReadingChangesNothing(t *testing.T) {
	often, seldom := newRig(t, NodeConfig{Model: B200, Seed: 5}), newRig(t, NodeConfig{Model: B200, Seed: 5})
	for range 550 {
		often.pass(100 * time.Millisecond)
		often.field(0, "DEV_POWER_INSTANT")
	}
	seldom.pass(55 * time.Second)
	a, b := request(), request()
	if one, other := often.devices[0].Fields(a), seldom.devices[0].Fields(b); !one.OK() || !other.OK() {
		t.Fatal(one, other)
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("field %d: %+v read often, %+v read once", a[i].FieldID, a[i], b[i])
		}
	}
}

func TestCallsAllocateNothing(t *testing.T) {
	for model := A100; model <= GB200; model++ {
		r := newRig(t, NodeConfig{Model: model, Seed: 5, FaultsPerGPUHour: 0.01})
		device := r.devices[0]
		fields, samples := request(), make([]gpu.RingSample, 0, ringDepth)
		metrics := []gpu.ProfileValue{{MetricID: metricSM}, {MetricID: metricTensor}, {MetricID: metricNVLinkGot}}
		var parts gpu.Parts
		for name, call := range map[string]func() gpu.Return{
			"Fields": func() gpu.Return { return device.Fields(fields) },
			"Get":    func() gpu.Return { return device.Get(gpu.GetUtilizationRates, &parts) },
			"Profile": func() gpu.Return {
				_, ret := device.(gpu.Profiler).Profile(metrics)
				return ret
			},
			"Samples": func() gpu.Return {
				_, ret := device.(gpu.Ring).Samples(gpu.RingTotalPower, 0, samples[:0])
				return ret
			},
		} {
			n := testing.AllocsPerRun(20, func() {
				r.pass(time.Second)
				_ = call()
			})
			if n != 0 {
				t.Errorf("%v, %s: %v allocations", model, name, n)
			}
		}
	}
}

func TestMemoryPerGPU(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	fleet, err := NewFleet(FleetConfig{Nodes: 500, Seed: 1, FaultsPerGPUHour: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	var drivers []gpu.Driver
	for _, n := range fleet.Nodes() {
		drivers = append(drivers, n.Driver())
	}
	if per := (heap() - before) / uint64(fleet.GPUs()); per > 4096 {
		t.Errorf("%d bytes per GPU", per)
	} else {
		t.Logf("%d bytes per GPU", per)
	}
	for _, d := range drivers {
		d.Close()
	}
}
