// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handClock is a clock that a test moves.
type handClock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newHandClock() *handClock {
	return &handClock{now: time.Date(2026, 7, 14, 8, 12, 38, 0, time.UTC)}
}

func (c *handClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is a node of its own with its driver opened, on a clock that the test moves.
type rig struct {
	*handClock
	t       testing.TB
	node    *Node
	driver  gpu.Driver
	devices []gpu.Device
}

func newRig(tb testing.TB, cfg NodeConfig) *rig {
	tb.Helper()
	r := &rig{handClock: newHandClock(), t: tb}
	cfg.Clock = r.time
	node, err := NewNode(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	r.node, r.driver = node, node.Driver()
	tb.Cleanup(func() {
		if ret := r.driver.Close(); !ret.OK() {
			tb.Errorf("closing the driver: %v", ret)
		}
	})
	devices, ret := r.driver.Devices()
	if !ret.OK() || len(devices) != node.GPUs() {
		tb.Fatalf("listing the devices: %d of them, %v", len(devices), ret)
	}
	r.devices = devices
	return r
}

func (r *rig) inject(f Fault) {
	r.t.Helper()
	if err := r.node.Inject(f); err != nil {
		r.t.Fatal(err)
	}
}

// numbering is that of the node's driver.
func (r *rig) numbering() gpu.Numbering { return r.node.software.numbering }

// ask reads one field with a scope; the answer's return code is the field's own.
func (r *rig) ask(index int, name string, scope uint32) gpu.FieldValue {
	r.t.Helper()
	id, ok := gpu.FieldID(name, r.numbering())
	if !ok {
		r.t.Fatalf("field %s has no number in the %v numbering", name, r.numbering())
	}
	values := []gpu.FieldValue{{FieldID: id, ScopeID: scope}}
	if ret := r.devices[index].Fields(values); !ret.OK() {
		r.t.Fatalf("fields of GPU %d: %v", index, ret)
	}
	return values[0]
}

// field reads one field that must be answered.
func (r *rig) field(index int, name string) int64 {
	r.t.Helper()
	v := r.ask(index, name, 0)
	value, ok := v.Int()
	if !v.Return.OK() || !ok {
		r.t.Fatalf("field %s of GPU %d: %v", name, index, v.Return)
	}
	return value
}

// get reads one getter that must be answered.
func (r *rig) get(index int, getter gpu.Getter) gpu.Parts {
	r.t.Helper()
	var parts gpu.Parts
	if ret := r.devices[index].Get(getter, &parts); !ret.OK() {
		r.t.Fatalf("%s of GPU %d: %v", gpu.Getters[getter].Symbol, index, ret)
	}
	return parts
}

// profile reads metrics over the given time.
func (r *rig) profile(index int, window time.Duration, ids ...uint32) []float64 {
	r.t.Helper()
	values := make([]gpu.ProfileValue, len(ids))
	for i, id := range ids {
		values[i].MetricID = id
	}
	profiler := r.devices[index].(gpu.Profiler)
	if _, ret := profiler.Profile(values); ret != gpu.NotReady && !ret.OK() {
		r.t.Fatalf("beginning a window on GPU %d: %v", index, ret)
	}
	r.pass(window)
	if _, ret := profiler.Profile(values); !ret.OK() {
		r.t.Fatalf("ending a window on GPU %d: %v", index, ret)
	}
	results := make([]float64, len(ids))
	for i, v := range values {
		results[i] = v.Value
	}
	return results
}

// ring reads a ring buffer from since on.
func (r *rig) ring(index int, kind gpu.RingKind, since uint64) ([]gpu.RingSample, gpu.Return) {
	return r.devices[index].(gpu.Ring).Samples(kind, since, nil)
}
