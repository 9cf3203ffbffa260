// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/gpu/gputest"
)

func TestConformance(t *testing.T) {
	for model := A100; model <= GB200; model++ {
		for _, sw := range specs[model].software {
			for _, kind := range []Workload{Training, Idle} {
				t.Run(model.String()+" "+sw.driver, func(t *testing.T) {
					gputest.Conformance(t, func(t *testing.T) gpu.Driver {
						t.Helper()
						node, err := NewNode(NodeConfig{
							Model: model, Seed: 3, Workload: kind, Driver: sw.driver, FaultsPerGPUHour: 20,
						})
						if err != nil {
							t.Fatal(err)
						}
						if err := node.Inject(Fault{Kind: SplitGPU, GPU: 1, Sevenths: []int{3, 2, 1}}); err != nil {
							t.Fatal(err)
						}
						return node.Driver()
					})
				})
			}
		}
	}
}
