// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelettest"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// minorOf is a GPU with a device file.
func minorOf(uuid string, minor int64, instances ...gpu.Instance) gpuUse {
	return gpuUse{Usage: Usage{UUID: uuid, Minor: &minor, Instances: instances}, at: time.Now()}
}

// ownersBy sums up a look: of each GPU and instance who has it.
func ownersBy(s snapshot) map[string]string {
	all := make(map[string]string)
	for _, f := range s.found {
		var names []string
		for _, o := range f.owners {
			name := o.Kind + " " + o.Reason + o.Namespace + "/" + o.Pod + "/" + o.Container
			if o.Claim != "" {
				name += " by " + o.Claim
			}
			if o.Shared {
				name += " shared"
			}
			names = append(names, name)
		}
		all[f.UUID] = strings.Join(names, ", ")
	}
	return all
}

// TestAnswersOfKubelets: what kubelets of each kind say, over a real socket, is found on the node that they are of.
func TestAnswersOfKubelets(t *testing.T) {
	const free = "none free//"
	cases := map[string]struct {
		gpus []gpuUse
		want map[string]string
	}{
		"gpu": {
			[]gpuUse{minorOf(gpuA, 0), minorOf(gpuB, 1)},
			map[string]string{gpuA: "kubernetes serving/llama-70b-6c9f7d8b54-x2x7k/vllm", gpuB: "kubernetes serving/llama-70b-6c9f7d8b54-x2x7k/vllm"},
		},
		"timeslicing": {
			[]gpuUse{minorOf(gpuA, 0), minorOf(gpuB, 1)},
			map[string]string{gpuA: "kubernetes research/notebook-ada-0/notebook shared, kubernetes research/notebook-ben-0/notebook shared", gpuB: free},
		},
		"mig": {
			[]gpuUse{minorOf(gpuA, 0, gpu.Instance{UUID: migA, GI: 9}), minorOf(gpuB, 1, gpu.Instance{UUID: "MIG-c", GI: 2}, gpu.Instance{UUID: "MIG-d", GI: 3})},
			map[string]string{
				gpuA: "none split//", gpuB: "none split//", "MIG-d": free,
				migA: "kubernetes serving/embed-0/server", "MIG-c": "kubernetes legacy/old-driver/main",
				"MIG-0aa1a2ab-4f0e-5b3c-9c1d-0f1e2d3c4b5b": "kubernetes serving/embed-1/server shared", // the driver did not tell of it yet
			},
		},
		"gke": {
			[]gpuUse{minorOf(gpuA, 0), minorOf(gpuB, 1), minorOf("GPU-c", 2), minorOf("GPU-d", 3, gpu.Instance{UUID: "MIG-1", GI: 1}, gpu.Instance{UUID: "MIG-2", GI: 2})},
			map[string]string{
				gpuA: "kubernetes default/train-0/main", gpuB: "kubernetes default/train-0/main", "GPU-c": "kubernetes default/shared-0/main shared",
				"GPU-d": "none split//", "MIG-1": "kubernetes default/split-0/main", "MIG-2": free,
			},
		},
		"dra": {
			[]gpuUse{
				minorOf(gpuA, 0), minorOf("GPU-c", 2), minorOf("GPU-d", 3),
				minorOf(gpuB, 1, gpu.Instance{UUID: "MIG-1", GI: 3, Placed: true, Profile: 19, Start: 4}, gpu.Instance{UUID: "MIG-2", GI: 4, Placed: true, Profile: 19, Start: 5}),
			},
			map[string]string{
				gpuA: "kubernetes research/trainer-0/main by trainer-0-gpus-8xkzp", gpuB: "none split//", "GPU-d": free, "MIG-2": free,
				"MIG-1": "kubernetes research/trainer-0/main by trainer-0-gpus-8xkzp", "GPU-c": "kubernetes research/sharer/main by shared shared",
			},
		},
	}
	k := kubelettest.New(t)
	k.Start(t)
	client := kubelet.New(k.Socket)
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k.Give(kubelettest.Answer(t, name), nil)
			l := newLooker(Config{
				Options: Options{View: process.View{All: true}, Interval: 10 * time.Second}, Kubelet: client, Logger: slog.New(slog.DiscardHandler),
			})
			if diff := cmp.Diff(c.want, ownersBy(l.look(t.Context(), c.gpus))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
