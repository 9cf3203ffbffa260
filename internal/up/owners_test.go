// SPDX-License-Identifier: Apache-2.0

package up

import (
	"errors"
	"testing"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// Every GPU of a simulated node that serves was given to a pod, about which the API server knows all; no other node
// has a kubelet.
func TestSimulatedClusters(t *testing.T) {
	for kind, pods := range map[sim.Workload]bool{sim.Training: false, sim.Inference: true, sim.Idle: false} {
		n, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 5, Workload: kind})
		if err != nil {
			t.Fatal(err)
		}
		var o agent.Owners
		simulatedOwners(n, &o)
		if !o.Find || o.Proc == nil || (o.Kubelet != nil) != pods || (o.Pods != nil) != pods {
			t.Errorf("workload %d: %+v", kind, o)
		}
		if !pods {
			continue
		}
		answer, err := o.Kubelet.List(t.Context())
		if err != nil || len(answer.Allocations) != n.GPUs() {
			t.Fatalf("%d allocations, %v", len(answer.Allocations), err)
		}
		for i, a := range answer.Allocations {
			pod, err := o.Pods.Get(t.Context(), a.Namespace, a.Pod)
			if a.Device.UUID != n.UUIDs()[i] || err != nil || pod.UID == "" || pod.Labels["team"] == "" || pod.Labels["model"] == "" || pod.Deployment == "" {
				t.Errorf("GPU %d: %+v, %+v, %v", i, a, pod, err)
			}
		}
		if _, err := o.Pods.Get(t.Context(), "serving", "other"); !errors.Is(err, agent.ErrPodGone) {
			t.Error(err)
		}
	}
}
