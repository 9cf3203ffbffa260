// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"io/fs"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/owner"
	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/pods"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
	"github.com/gpufleet/gpufleet/agent/internal/sampler"
)

// Who uses the GPUs, and who is asked.
type (
	// OwnerOptions is what is looked at, and how.
	OwnerOptions = owner.Options
	// OwnerLabels says which labels of a pod tell what.
	OwnerLabels = owner.Labels
	// ProcessView is what can be seen of processes from where the agent runs.
	ProcessView = process.View
	// PodAPI is where the API server of Kubernetes is.
	PodAPI = pods.Config
	// Pod is what is known of a pod.
	Pod = pods.Pod
	// Pods tells what a pod is.
	Pods = owner.Pods
	// Kubelet tells what was given out on a node.
	Kubelet = owner.Kubelet
	// KubeletAnswer is what a kubelet has given out.
	KubeletAnswer = kubelet.Answer
	// Allocation is one device that a container was given.
	Allocation = kubelet.Allocation
)

// DefaultKubeletSocket is where a kubelet listens.
const DefaultKubeletSocket = kubelet.DefaultSocket

// ErrPodGone tells that there is no such pod.
var ErrPodGone = pods.ErrGone

// Owners is whether it is found out who uses the GPUs, and by whom.
type Owners struct {
	OwnerOptions

	Find          bool
	KubeletSocket string // "" asks no kubelet
	API           PodAPI // without an APIServer pods are known by name alone

	// Kubelet and Pods, if not nil, are asked in place of those above.
	Kubelet Kubelet
	Pods    Pods
}

// defaultOwners finds nobody: a node's /proc has to be named, so that a simulated one reads no real one.
func defaultOwners() Owners {
	return Owners{OwnerOptions: OwnerOptions{Labels: owner.DefaultLabels(), Interval: 10 * time.Second}}
}

// LookAtProcesses finds out what can be seen of processes: root is the host's /proc, as it is mounted here.
func LookAtProcesses(root fs.FS) ProcessView { return process.Look(root) }

// Allocate makes an allocation of a device by the name that a device plugin gives it.
func Allocate(namespace, pod, container, deviceID string) (Allocation, error) {
	name, ok := device.Parse(deviceID)
	if !ok {
		return Allocation{}, fmt.Errorf("device %q: not the name of a GPU", deviceID)
	}
	return Allocation{Namespace: namespace, Pod: pod, Container: container, Device: name}, nil
}

// problem tells what cannot be honoured.
func (o Owners) problem() error {
	if !o.Find {
		return nil
	}
	if o.Interval < time.Second {
		return fmt.Errorf("interval of %s between looks at who uses the GPUs: at least 1s", o.Interval)
	}
	return o.Labels.Validate()
}

// watchOwners has it found out who uses the GPUs. It returns who is to be told of what the driver says; nil if nobody.
func (a *Agent) watchOwners() (func(sampler.Usage), error) {
	o := a.cfg.Owners
	if !o.Find {
		return nil, nil
	}
	if o.Kubelet == nil && o.KubeletSocket != "" {
		o.Kubelet = kubelet.New(o.KubeletSocket)
	}
	if o.Pods == nil && o.API.APIServer != "" {
		client, err := pods.New(o.API)
		if err != nil {
			return nil, fmt.Errorf("agent configuration: %w", err)
		}
		o.Pods = client
	}
	w := owner.New(owner.Config{
		Options: o.OwnerOptions, Node: a.cfg.Node.Name, Kubelet: o.Kubelet, Pods: o.Pods, RowEvery: min(a.cfg.InventoryInterval, time.Hour),
		Rows: a.sink, Logger: a.cfg.Logger,
	})
	a.owners = w
	a.watchers = append(a.watchers, w.Run)
	return func(u sampler.Usage) { w.Observe(owner.Usage(u)) }, nil
}
