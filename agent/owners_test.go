// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// onePod is a cluster in which one pod has the first GPU of a node.
type onePod struct{ given agent.Allocation }

func (c onePod) List(context.Context) (agent.KubeletAnswer, error) {
	return agent.KubeletAnswer{Allocations: []agent.Allocation{c.given}}, nil
}

func (onePod) Close() error { return nil }

func (onePod) Get(_ context.Context, namespace, name string) (agent.Pod, error) {
	return agent.Pod{Namespace: namespace, Name: name, UID: "uid-1", Labels: map[string]string{"team": "search"}}, nil
}

// TestOwnersAreStored: what runs on the GPUs of a node, and who was given one, is in gpu_workload.
func TestOwnersAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 1, Workload: sim.Burn})
		if err != nil {
			t.Fatal(err)
		}
		devices, _ := node.Driver().Devices()
		given, err := agent.Allocate("ml", "train-0", "main", devices[0].UUID())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		recorded := sampledNode(ctx, t, func(cfg *agent.Config) {
			cfg.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
			cfg.Owners.Find, cfg.Owners.Proc, cfg.Owners.View = true, node.Proc(), agent.ProcessView{All: true, Resolves: true}
			cfg.Owners.Kubelet, cfg.Owners.Pods = onePod{given}, onePod{given}
		}, func(*agent.Agent) {})
		rows, _ := texts(recorded, schema.WorkloadID)
		if len(rows) != 18 { // eight processes and a pod, at the start and at the end
			t.Fatalf("%d rows:\n%s", len(rows), strings.Join(rows, "\n"))
		}
		for text, want := range map[string]int{" process ": 16, " gpu_burn ": 16, " kubernetes ": 2, " ml train-0 uid-1 main ": 2, " search ": 2} {
			if got := strings.Count(strings.Join(rows, "\n"), text); got != want {
				t.Errorf("%d rows with %q, want %d:\n%s", got, text, want, strings.Join(rows, "\n"))
			}
		}
	})
}

// TestNobodyIsLookedForUnlessTold: a library that is used for something else opens no /proc and asks no kubelet.
func TestNobodyIsLookedForUnlessTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		recorded := sampledNode(ctx, t, func(*agent.Config) {}, func(*agent.Agent) {})
		if rows, _ := texts(recorded, schema.WorkloadID); len(rows) > 0 {
			t.Errorf("%q", rows)
		}
	})
}

func TestOwnersThatCannotBeFound(t *testing.T) {
	for reason, change := range map[string]func(*agent.Owners){
		"interval of 1ms": func(o *agent.Owners) { o.Interval = time.Millisecond },
		`label ""`:        func(o *agent.Owners) { o.Labels.Team = []string{""} },
		"plain text":      func(o *agent.Owners) { o.API.APIServer = "http://10.0.0.1" },
	} {
		cfg := agent.DefaultConfig()
		cfg.Node.Name, cfg.Tee, cfg.Open = "node-1", func(*wire.Batch) {}, func() (gpu.Driver, error) { return nil, nil }
		cfg.Owners.Find = true
		change(&cfg.Owners)
		if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want %q", err, reason)
		}
	}
	if _, err := agent.Allocate("n", "p", "c", "0000:3b:00.2"); err == nil || !strings.Contains(fmt.Sprint(err), "0000:3b:00.2") {
		t.Errorf("a device that is no GPU: %v", err)
	}
}
