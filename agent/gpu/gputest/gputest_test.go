// SPDX-License-Identifier: Apache-2.0

package gputest

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// model is the smallest driver that keeps the contract.
type model struct {
	gpus   []*modelGPU
	events gpu.Return // what NextEvent returns after its wait
}

type modelGPU struct {
	uuid     string
	identity gpu.Identity
	boot     time.Time
	previous time.Time // call of Profile
}

func newModel() *model {
	m := &model{events: gpu.Timeout}
	for i := range 2 {
		uuid := fmt.Sprintf("GPU-%d", i)
		m.gpus = append(m.gpus, &modelGPU{
			uuid: uuid, boot: time.Now().Add(-time.Minute), identity: gpu.Identity{UUID: uuid, PCIBusID: "0000:1a:00.0"},
		})
	}
	return m
}

func (m *model) System() (gpu.System, gpu.Return) {
	return gpu.System{DriverVersion: "580.95.05", NVMLVersion: "13.580.95.05"}, gpu.Success
}

func (m *model) Devices() ([]gpu.Device, gpu.Return) {
	devices := make([]gpu.Device, len(m.gpus))
	for i, g := range m.gpus {
		devices[i] = g
	}
	return devices, gpu.Success
}

func (m *model) NextEvent(timeout time.Duration) (gpu.Event, gpu.Return) {
	<-time.After(timeout)
	return gpu.Event{}, m.events
}

func (m *model) Close() gpu.Return { return gpu.Success }

func (g *modelGPU) UUID() string                         { return g.uuid }
func (g *modelGPU) Identity() (gpu.Identity, gpu.Return) { return g.identity, gpu.Success }

func (g *modelGPU) Fields(values []gpu.FieldValue) gpu.Return {
	for i := range values {
		if values[i].Return = gpu.NotSupported; values[i].FieldID == 83 {
			values[i].SetUint64(1000)
		}
	}
	return gpu.Success
}

func (g *modelGPU) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	if getter != gpu.GetUtilizationRates {
		return gpu.NotSupported
	}
	parts[0], parts[1] = 50, 20
	return gpu.Success
}

func (g *modelGPU) Profile(values []gpu.ProfileValue) (time.Duration, gpu.Return) {
	window := time.Since(g.previous)
	if first := g.previous.IsZero(); first || window < gpu.MinProfileWindow {
		if first {
			g.previous = time.Now()
		}
		return 0, gpu.NotReady
	}
	for i := range values {
		if values[i].Return = gpu.NotSupported; values[i].MetricID == 2 {
			values[i].Return, values[i].Value = gpu.Success, 50
		}
	}
	g.previous = time.Now()
	return window, gpu.Success
}

func (g *modelGPU) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if kind != gpu.RingGPUUtilization {
		return into, gpu.NotFound
	}
	newest := uint64(time.Since(g.boot).Milliseconds()) / 100
	for n := max(newest-9, since/100_000+1); n <= newest; n++ {
		into = append(into, gpu.RingSample{DriverTimeMicroseconds: n * 100_000, Value: int64(n % 100)})
	}
	return into, gpu.Success
}

func (g *modelGPU) Processes(kinds gpu.ProcessKinds, into []gpu.Process) ([]gpu.Process, gpu.Return) {
	if !kinds.Has(gpu.ComputeProcess) {
		return into, gpu.Success
	}
	return append(into, gpu.Process{PID: 4711, MemoryBytes: 1 << 30, MemoryKnown: true, GI: 1, CI: 0}), gpu.Success
}

func (g *modelGPU) Instances(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
	return append(into, gpu.Instance{UUID: "MIG-" + g.uuid, GI: 1, CI: 0}), gpu.Success
}

// liar is a GPU of which one call breaks the contract.
type liar struct {
	*modelGPU
	fields  func(*modelGPU, []gpu.FieldValue) gpu.Return
	get     func(*gpu.Parts) gpu.Return
	profile func(*modelGPU, []gpu.ProfileValue) (time.Duration, gpu.Return)
	samples func(g *modelGPU, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return)

	processes func([]gpu.Process) ([]gpu.Process, gpu.Return)
	instances func([]gpu.Instance) ([]gpu.Instance, gpu.Return)
	parts     func() []gpu.Device
}

func (l *liar) Parts() ([]gpu.Device, gpu.Return) {
	if l.parts == nil {
		return nil, gpu.NotSupported
	}
	return l.parts(), gpu.Success
}

func (l *liar) Processes(kinds gpu.ProcessKinds, into []gpu.Process) ([]gpu.Process, gpu.Return) {
	if l.processes == nil {
		return l.modelGPU.Processes(kinds, into)
	}
	return l.processes(into)
}

func (l *liar) Instances(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
	if l.instances == nil {
		return l.modelGPU.Instances(into)
	}
	return l.instances(into)
}

func (l *liar) Fields(values []gpu.FieldValue) gpu.Return {
	if l.fields == nil {
		return l.modelGPU.Fields(values)
	}
	return l.fields(l.modelGPU, values)
}

func (l *liar) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	if l.get == nil {
		return l.modelGPU.Get(getter, parts)
	}
	return l.get(parts)
}

func (l *liar) Profile(values []gpu.ProfileValue) (time.Duration, gpu.Return) {
	if l.profile == nil {
		return l.modelGPU.Profile(values)
	}
	return l.profile(l.modelGPU, values)
}

func (l *liar) Samples(kind gpu.RingKind, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
	if l.samples == nil {
		return l.modelGPU.Samples(kind, since, into)
	}
	return l.samples(l.modelGPU, since, into)
}

// lyingModel has a liar in place of its first GPU.
type lyingModel struct {
	*model
	liar liar
}

func (m *lyingModel) Devices() ([]gpu.Device, gpu.Return) {
	devices, ret := m.model.Devices()
	devices[0] = &m.liar
	return devices, ret
}

func TestConformanceOfTheModel(t *testing.T) {
	Conformance(t, func(*testing.T) gpu.Driver { return newModel() })
}

// part is a MIG instance of a modelGPU: it has no rings.
type part struct{ gpu.Device }

// onePart has a GPU list the same part each time.
func onePart(uuid, parent string, instance int64) func() []gpu.Device {
	zero := int64(0)
	parts := []gpu.Device{&part{&modelGPU{uuid: uuid, identity: gpu.Identity{UUID: uuid, ParentUUID: parent, GPUInstanceID: &instance, ComputeInstanceID: &zero}}}}
	return func() []gpu.Device { return parts }
}

// TestLies has the suite find each breach of the contract, by the check whose business it is.
func TestLies(t *testing.T) {
	zero := int64(0)
	lies := []struct {
		name, check string
		lie         func(*lyingModel)
	}{
		{"one UUID for two GPUs", "devices", func(m *lyingModel) { m.gpus[1].uuid, m.gpus[1].identity.UUID = "GPU-0", "GPU-0" }},
		{"identity of another GPU", "devices", func(m *lyingModel) { m.gpus[1].identity.UUID = "GPU-7" }},
		{"bus id in NVML's form", "identity", func(m *lyingModel) { m.gpus[0].identity.PCIBusID = "00000000:1A:00.0" }},
		{"zero for not known", "identity", func(m *lyingModel) { m.gpus[0].identity.MemoryTotalBytes = &zero }},
		{"padded text", "identity", func(m *lyingModel) { m.gpus[0].identity.Model = "NVIDIA H200 " }},
		{"an answer to any field", "fields", func(m *lyingModel) {
			m.liar.fields = func(_ *modelGPU, values []gpu.FieldValue) gpu.Return {
				for i := range values {
					values[i].SetUint64(0)
				}
				return gpu.Success
			}
		}},
		{"values beside the request", "fields", func(m *lyingModel) {
			m.liar.fields = func(g *modelGPU, values []gpu.FieldValue) gpu.Return {
				ret := g.Fields(values)
				values[:cap(values)][len(values)].Return = gpu.Success
				return ret
			}
		}},
		{"NaN as a field", "fields", func(m *lyingModel) {
			m.liar.fields = func(g *modelGPU, values []gpu.FieldValue) gpu.Return {
				ret := g.Fields(values)
				values[1].SetUint64(math.Float64bits(math.NaN()))
				values[1].Type = gpu.TypeDouble
				return ret
			}
		}},
		{"codes by position", "fields order", func(m *lyingModel) {
			m.liar.fields = func(g *modelGPU, values []gpu.FieldValue) gpu.Return {
				ret := g.Fields(values)
				values[0].SetUint64(1)
				return ret
			}
		}},
		{"percent over 100", "getters", func(m *lyingModel) {
			m.liar.get = func(parts *gpu.Parts) gpu.Return { parts[0], parts[1] = 101, 0; return gpu.Success }
		}},
		{"more parts than there are", "getters", func(m *lyingModel) {
			m.liar.get = func(parts *gpu.Parts) gpu.Return { *parts = gpu.Parts{}; return gpu.Success }
		}},
		{"an answer to any getter", "unknown getter", func(m *lyingModel) {
			m.liar.get = func(*gpu.Parts) gpu.Return { return gpu.Success }
		}},
		{"a window from nowhere", "profile", func(m *lyingModel) {
			m.liar.profile = func(*modelGPU, []gpu.ProfileValue) (time.Duration, gpu.Return) {
				return time.Second, gpu.Success
			}
		}},
		{"values before there is a window", "profile", func(m *lyingModel) {
			m.liar.profile = func(g *modelGPU, values []gpu.ProfileValue) (time.Duration, gpu.Return) {
				window, ret := g.Profile(values)
				values[1].Value = 0
				return window, ret
			}
		}},
		{"NaN as a metric", "profile", func(m *lyingModel) {
			m.liar.profile = func(g *modelGPU, values []gpu.ProfileValue) (time.Duration, gpu.Return) {
				window, ret := g.Profile(values)
				if ret.OK() {
					values[1].Return, values[1].Value = gpu.Success, math.NaN()
				}
				return window, ret
			}
		}},
		{"newest sample first", "rings", func(m *lyingModel) {
			m.liar.samples = func(_ *modelGPU, _ uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
				return append(into, gpu.RingSample{DriverTimeMicroseconds: 2}, gpu.RingSample{DriverTimeMicroseconds: 1}), gpu.Success
			}
		}},
		{"samples that were seen", "rings", func(m *lyingModel) {
			m.liar.samples = func(g *modelGPU, _ uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
				return g.Samples(gpu.RingGPUUtilization, 0, into)
			}
		}},
		{"samples in place of others", "rings", func(m *lyingModel) {
			m.liar.samples = func(g *modelGPU, since uint64, into []gpu.RingSample) ([]gpu.RingSample, gpu.Return) {
				return g.Samples(gpu.RingGPUUtilization, since, into[:0])
			}
		}},
		{"processes in place of others", "processes", func(m *lyingModel) {
			m.liar.processes = func(into []gpu.Process) ([]gpu.Process, gpu.Return) { return into[:0], gpu.Success }
		}},
		{"processes that could not be read", "processes", func(m *lyingModel) {
			m.liar.processes = func(into []gpu.Process) ([]gpu.Process, gpu.Return) {
				return append(into, gpu.Process{PID: 4711, GI: 1}), gpu.NoPermission
			}
		}},
		{"a process without a number", "processes", func(m *lyingModel) { m.liar.processes = oneProcess(gpu.Process{GI: 1}) }},
		{"not available as a number", "processes", func(m *lyingModel) {
			m.liar.processes = oneProcess(gpu.Process{PID: 1, MemoryBytes: ^uint64(0), MemoryKnown: true, GI: 1})
		}},
		{"half an instance", "processes", func(m *lyingModel) { m.liar.processes = oneProcess(gpu.Process{PID: 1, GI: gpu.NoInstance}) }},
		{"a kind that does not exist", "processes", func(m *lyingModel) { m.liar.processes = oneProcess(gpu.Process{PID: 1, Kind: 7, GI: 1}) }},
		{"an instance that is its GPU", "instances", func(m *lyingModel) { m.liar.instances = twoInstances("GPU-0", "MIG-1", 1) }},
		{"one number twice", "instances", func(m *lyingModel) { m.liar.instances = twoInstances("MIG-1", "MIG-2", 0) }},
		{"processes that were not asked for", "processes", func(m *lyingModel) {
			m.liar.processes = oneProcess(gpu.Process{PID: 1, Kind: gpu.GraphicsProcess, GI: 1})
		}},
		{"a call that is not there and wrote", "fields", func(m *lyingModel) {
			m.liar.fields = func(_ *modelGPU, values []gpu.FieldValue) gpu.Return {
				values[0].SetUint64(0)
				return gpu.FunctionNotFound
			}
		}},
		{"a part without an instance", "parts", func(m *lyingModel) { m.liar.parts = onePart("MIG-7", "GPU-0", 1) }},
		{"a part of another GPU", "parts", func(m *lyingModel) { m.liar.parts = onePart("MIG-GPU-0", "GPU-1", 1) }},
		{"a part that is another instance", "parts", func(m *lyingModel) { m.liar.parts = onePart("MIG-GPU-0", "GPU-0", 2) }},
		{"a part that is new each time", "parts", func(m *lyingModel) {
			m.liar.parts = func() []gpu.Device { return onePart("MIG-GPU-0", "GPU-0", 1)() }
		}},
		{"an event of no kind", "events", func(m *lyingModel) { m.events = gpu.Success }},
		{"an error for an event", "events", func(m *lyingModel) { m.events = gpu.Unknown }},
	}
	for _, c := range lies {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &lyingModel{model: newModel()}
				m.liar.modelGPU = m.gpus[0]
				c.lie(m)
				i := slices.IndexFunc(checks, func(known check) bool { return known.name == c.check })
				if complaints := record(t, func(tb testing.TB) { checks[i].run(tb, m) }); complaints == "" {
					t.Errorf("%s found nothing", c.check)
				}
			})
		})
	}
}

func oneProcess(process gpu.Process) func([]gpu.Process) ([]gpu.Process, gpu.Return) {
	return func(into []gpu.Process) ([]gpu.Process, gpu.Return) { return append(into, process), gpu.Success }
}

// twoInstances are compute instance 0 and another one.
func twoInstances(first, second string, ci uint32) func([]gpu.Instance) ([]gpu.Instance, gpu.Return) {
	return func(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
		return append(into, gpu.Instance{UUID: first, GI: 1}, gpu.Instance{UUID: second, GI: 1, CI: ci}), gpu.Success
	}
}

// recorder takes a check's complaints.
type recorder struct {
	testing.TB
	complaints strings.Builder
}

func (r *recorder) Errorf(format string, arguments ...any) {
	fmt.Fprintf(&r.complaints, format+"\n", arguments...)
}

func (r *recorder) Fatalf(format string, arguments ...any) {
	r.Errorf(format, arguments...)
	runtime.Goexit()
}

func (r *recorder) Error(arguments ...any) { r.Errorf("%s", fmt.Sprint(arguments...)) }
func (r *recorder) Fatal(arguments ...any) { r.Fatalf("%s", fmt.Sprint(arguments...)) }

// record runs a check in a goroutine of its own, which it may end, and returns its complaints.
func record(t *testing.T, run func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r.complaints.String()
}
