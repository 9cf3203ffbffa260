// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// TestUnboundGPUStaysUntilTheDriverIsClosed: and one that is bound is seen by whoever opens the driver then.
func TestUnboundGPUStaysUntilTheDriverIsClosed(t *testing.T) {
	r := newRig(t, NodeConfig{Model: H100, Seed: 1})
	uuid := r.devices[3].UUID()
	has := func(d gpu.Driver) bool {
		devices, _ := d.Devices()
		return slices.ContainsFunc(devices, func(d gpu.Device) bool { return d.UUID() == uuid })
	}
	inject := func(kind FaultKind) {
		t.Helper()
		if err := r.node.Inject(Fault{Kind: kind, GPU: 3}); err != nil {
			t.Fatal(err)
		}
	}
	binder := r.driver.(gpu.Binder)
	if _, ret := binder.NextBinding(0); ret != gpu.Timeout {
		t.Errorf("nothing happened: %v", ret)
	}
	inject(UnbindGPU)
	inject(UnbindGPU) // it is unbound once
	if binding, ret := binder.NextBinding(time.Second); !ret.OK() || binding.UUID != uuid || binding.Bound {
		t.Errorf("binding %+v, %v", binding, ret)
	}
	if _, ret := binder.NextBinding(0); ret != gpu.Timeout || !has(r.driver) {
		t.Errorf("%v; the driver that is open has it: %t", ret, has(r.driver))
	}
	without := r.node.Driver()
	defer without.Close()
	if has(without) {
		t.Error("a driver that was opened later has the GPU")
	}
	inject(BindGPU)
	if binding, ret := without.(gpu.Binder).NextBinding(time.Second); !ret.OK() || binding.UUID != uuid || !binding.Bound || has(without) {
		t.Errorf("binding %+v, %v; it has the GPU: %t", binding, ret, has(without))
	}
	again := r.node.Driver()
	defer again.Close()
	if !has(again) {
		t.Error("the GPU is bound again, and not there")
	}
}
