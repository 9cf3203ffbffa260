// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// BenchmarkHardware measures what the real driver takes for each thing that the schema asks of the first GPU: the figures
// of docs/adr/006-driver-calls.md. On a machine with a GPU:
//
//	go test -run '^$' -bench Hardware -benchtime 20x ./agent/nvml
func BenchmarkHardware(b *testing.B) {
	driver, err := Open(Config{Logger: slog.New(slog.DiscardHandler)})
	if errors.Is(err, ErrNoDriver) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	defer driver.Close()
	devices, ret := driver.Devices()
	if !ret.OK() || len(devices) == 0 {
		b.Fatalf("%d GPUs: %v", len(devices), ret)
	}
	system, _ := driver.System()
	numbering, _ := gpu.AskNumbering(devices[0], gpu.DriverBranch(system.DriverVersion))
	benchFields(b, devices[0], numbering)
	benchGetters(b, devices[0])
	benchRings(b, devices[0])
	benchProfile(b, devices[0])
}

// sourcesOf are the sources of a kind that the schema names, each once.
func sourcesOf(kind schema.SourceKind) []schema.Source {
	var sources []schema.Source
	for _, m := range schema.Metrics() {
		for _, s := range m.Sources {
			same := func(o schema.Source) bool { return o.Name == s.Name && o.Scope == s.Scope && o.Argument == s.Argument }
			if s.Kind == kind && !slices.ContainsFunc(sources, same) {
				sources = append(sources, s)
			}
		}
	}
	return sources
}

func benchFields(b *testing.B, device gpu.Device, numbering gpu.Numbering) {
	b.Helper()
	for _, s := range sourcesOf(schema.FromField) {
		id, ok := gpu.FieldID(s.Name, numbering)
		values := []gpu.FieldValue{{FieldID: id, ScopeID: s.Scope}}
		if !ok || !device.Fields(values).OK() || !values[0].Return.OK() {
			continue
		}
		b.Run("field/"+s.Name, func(b *testing.B) {
			for b.Loop() {
				if ret := device.Fields(values); !ret.OK() {
					b.Fatal(ret)
				}
			}
		})
	}
}

func benchGetters(b *testing.B, device gpu.Device) {
	b.Helper()
	for _, s := range sourcesOf(schema.FromGetter) {
		getter, ok := gpu.GetterByName(s.Name, s.Argument)
		var parts gpu.Parts
		if !ok || !device.Get(getter, &parts).OK() {
			continue
		}
		b.Run("getter/"+s.Name+s.Argument, func(b *testing.B) {
			for b.Loop() {
				if ret := device.Get(getter, &parts); !ret.OK() {
					b.Fatal(ret)
				}
			}
		})
	}
}

func benchRings(b *testing.B, device gpu.Device) {
	b.Helper()
	ring, ok := device.(gpu.Ring)
	if !ok {
		return
	}
	var samples []gpu.RingSample
	for _, s := range sourcesOf(schema.FromRing) {
		b.Run("ring/"+s.Name, func(b *testing.B) {
			for b.Loop() {
				samples, _ = ring.Samples(gpu.RingKind(s.ID), 0, samples[:0])
			}
			b.ReportMetric(float64(len(samples)), "samples")
		})
	}
}

// benchProfile asks for each metric of performance monitoring alone, for all at once, and for those of each tick: some cost
// what all do.
func benchProfile(b *testing.B, device gpu.Device) {
	b.Helper()
	profiler, ok := device.(gpu.Profiler)
	if !ok {
		return
	}
	measure := func(name string, values []gpu.ProfileValue) {
		b.Run("profile/"+name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				<-time.After(2 * gpu.MinProfileWindow)
				b.StartTimer()
				if _, ret := profiler.Profile(values); !ret.OK() && ret != gpu.NotReady { // the first call begins the window
					b.Fatal(ret)
				}
			}
		})
	}
	var all, tick []gpu.ProfileValue
	for _, m := range schema.Metrics() {
		for _, s := range m.Sources {
			if s.Kind != schema.FromProfile {
				continue
			}
			value := gpu.ProfileValue{MetricID: s.ID}
			measure(s.Name, []gpu.ProfileValue{value})
			all = append(all, value)
			if !m.Slow {
				tick = append(tick, value)
			}
		}
	}
	measure("all", all)
	measure("of each tick", tick)
}
