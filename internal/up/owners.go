// SPDX-License-Identifier: Apache-2.0

package up

import (
	"context"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/sim"
)

// simulatedOwners has an agent find out who uses the GPUs of a simulated node: its jobs by its /proc, its pods by
// the kubelet and the API server that it would have.
func simulatedOwners(n *sim.Node, o *agent.Owners) {
	o.Find, o.Environment = true, true
	o.Proc, o.View = n.Proc(), agent.ProcessView{All: true, Resolves: true}
	if n.Workload() == sim.Inference {
		o.Kubelet, o.Pods = cluster{n}, cluster{n}
	}
}

// cluster is what Kubernetes knows of a simulated node.
type cluster struct{ node *sim.Node }

// List implements agent.Kubelet.
func (c cluster) List(context.Context) (agent.KubeletAnswer, error) {
	var answer agent.KubeletAnswer
	uuids := c.node.UUIDs()
	for _, pod := range c.node.Pods() {
		for _, i := range pod.GPUs {
			given, err := agent.Allocate(pod.Namespace, pod.Name, pod.Container, uuids[i])
			if err != nil {
				return agent.KubeletAnswer{}, err
			}
			answer.Allocations = append(answer.Allocations, given)
		}
	}
	return answer, nil
}

// Close implements agent.Kubelet.
func (cluster) Close() error { return nil }

// Get implements agent.Pods.
func (c cluster) Get(_ context.Context, namespace, name string) (agent.Pod, error) {
	for _, pod := range c.node.Pods() {
		if pod.Namespace == namespace && pod.Name == name {
			return agent.Pod{
				Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Started: pod.Started, Deployment: pod.Deployment,
				Labels: map[string]string{"team": pod.Team, "model": pod.Model}, Containers: map[string]string{pod.ContainerID: pod.Container},
				Address: pod.Address, Page: "http://" + pod.Address + ":8000/metrics",
			}, nil
		}
	}
	return agent.Pod{}, agent.ErrPodGone
}
