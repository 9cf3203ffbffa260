// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

func (r *rig) split(index int, sevenths ...int) []gpu.Device {
	r.t.Helper()
	if err := r.node.Inject(Fault{Kind: SplitGPU, GPU: index, Sevenths: sevenths}); err != nil {
		r.t.Fatal(err)
	}
	parts, ret := r.devices[index].(gpu.Splitter).Parts()
	if !ret.OK() || len(parts) != len(sevenths) {
		r.t.Fatalf("%d parts, %v, want %d", len(parts), ret, len(sevenths))
	}
	return parts
}

func TestSplitGPU(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1, Workload: Burn})
	r.pass(10 * time.Second)
	parts := r.split(2, 3, 3)
	if event, ret := r.driver.NextEvent(time.Second); !ret.OK() || event.Kind != gpu.EventMIGConfig || event.UUID != r.devices[2].UUID() {
		t.Errorf("event %+v, %v, want one of the new split", event, ret)
	}
	var whole, values gpu.Parts
	if ret := r.devices[2].Get(gpu.GetMemoryInfo, &whole); !ret.OK() {
		t.Fatal(ret)
	}
	for _, p := range parts {
		identity, ret := p.Identity()
		if !ret.OK() || identity.MIGProfile != "3g.40gb" || *identity.MemoryTotalBytes != whole[0]/2 {
			t.Errorf("part %+v, %v, want half of the memory", identity, ret)
		}
		if ret := p.Get(gpu.GetMemoryInfo, &values); !ret.OK() || math.Abs(float64(values[3]-whole[3]/2)) > mebibyte {
			t.Errorf("memory %v, %v, want half of what the GPU uses, %d", values[:4], ret, whole[3])
		}
	}
	if ret := r.devices[2].Get(gpu.GetUtilizationRates, &values); ret != gpu.NotSupported {
		t.Errorf("a GPU that is split tells its utilisation: %v", ret)
	}
	if _, ret := r.devices[2].(gpu.Ring).Samples(gpu.RingTotalPower, 0, nil); ret != gpu.NotSupported {
		t.Errorf("a GPU that is split has rings: %v", ret)
	}
	if processes, ret := r.devices[2].(gpu.Processes).Processes(gpu.AllProcesses, nil); !ret.OK() || len(processes) != 1 || processes[0].GI != 1 {
		t.Errorf("processes %+v, %v, want one on the first instance", processes, ret)
	}
}

func TestPartsAreBusyByThemselves(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1, Workload: Burn})
	parts := r.split(0, 4, 2)
	active := func(d gpu.Device) float64 {
		t.Helper()
		values := []gpu.ProfileValue{{MetricID: metricSM}, {MetricID: metricNVLinkGot}}
		if _, ret := d.(gpu.Profiler).Profile(values); ret != gpu.NotReady {
			t.Errorf("the first call: %v", ret)
		}
		r.pass(time.Second)
		if window, ret := d.(gpu.Profiler).Profile(values); !ret.OK() || window != time.Second {
			t.Errorf("window %s, %v", window, ret)
		}
		if d != r.devices[0] && values[1].Return != gpu.NotSupported {
			t.Errorf("an instance has NVLink: %v", values[1])
		}
		return values[0].Value
	}
	all, first, second := active(r.devices[0]), active(parts[0]), active(parts[1])
	if first == second || first <= 0 || second <= 0 || first > all+5 || second > all+5 {
		t.Errorf("the instances are busy for %.1f %% and %.1f %%, the GPU for %.1f %%", first, second, all)
	}
}

func TestPartThatIsGone(t *testing.T) {
	r := newRig(t, NodeConfig{Model: A100, Seed: 1})
	before := r.split(0, 2, 2, 3)
	after := r.split(0, 2, 1)
	if after[0] != before[0] {
		t.Error("an instance that stayed is another device")
	}
	var values gpu.Parts
	if ret := before[2].Get(gpu.GetMemoryInfo, &values); ret != gpu.NotFound {
		t.Errorf("an instance that is gone answers %v", ret)
	}
	if ret := before[0].Get(gpu.GetMemoryInfo, &values); !ret.OK() {
		t.Errorf("an instance that stayed answers %v", ret)
	}
	r.split(0)
	if ret := before[0].Get(gpu.GetMemoryInfo, &values); ret != gpu.NotFound {
		t.Errorf("the GPU is whole, and its instance answers %v", ret)
	}
	if identity, _ := r.devices[0].Identity(); *identity.MIGEnabled != 0 {
		t.Error("a GPU that is whole says that it is split")
	}
}
