// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// scopes are those of the batches of a table that the log and the store got, as tenants.
func (r *running) scopes(table uint8) (logged, stored []string) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	for _, b := range r.kept {
		if b.Identity.Table == table {
			logged = append(logged, b.Scope.Tenant)
		}
	}
	for _, i := range r.submitted {
		if i.Key.Table == table {
			stored = append(stored, i.Scope.Tenant)
		}
	}
	return logged, stored
}

func ofTenant(name string) Source {
	return Source{Name: "dcgm", Protocol: OTLP, Scope: wire.Scope{Tenant: name, Residency: "eu"}}
}

// TestATenantFollowsAnother: what a source pushes is of the tenant that it proves with it; who follows learns what the GPU is
// anew, and nothing of what was before.
func TestATenantFollowsAnother(t *testing.T) {
	r := start(t, nil)
	push := func(tenant string, second int, energy float64, pod string) {
		t.Helper()
		labels := []string{"namespace", "n", "pod", pod}
		if said, err := r.pushFrom(ofTenant(tenant), Labels{}, dcgm("DEV_TOTAL_ENERGY_CONSUMPTION", "GPU-a", second, energy, labels...)); err != nil || said != "" {
			t.Fatalf("push: %q, %v", said, err)
		}
	}
	push("acme", -120, 1000, "train")
	push("acme", -90, 1500, "train")
	push("globex", -60, 1900, "serve")
	push("globex", -30, 2000, "serve")
	r.want(schema.SamplesID, energy, "-120 - 0 -", "-90 30000 0 500", "-60 - 0 -", "-30 30000 0 100")
	r.want(schema.WorkloadID, []string{"ts", "pod", "valid_to"}, "-120 train -", "-60 serve -")
	r.want(schema.GPUInventoryID, []string{"ts", "gpu_uuid"}, "-120 GPU-a", "-60 GPU-a")
	r.want(schema.NodeInventoryID, []string{"ts", "node_name"}, "-120 node-1@dcgm", "-60 node-1@dcgm")
	r.stop()
	for table, want := range map[uint8][]string{
		schema.SamplesID: {"acme", "acme", "globex", "globex"}, schema.WorkloadID: {"acme", "globex"}, schema.NodeInventoryID: {"acme", "globex"},
	} {
		logged, stored := r.scopes(table)
		if !slices.Equal(logged, want) || !slices.Equal(stored, want) {
			t.Errorf("%s: log has %v, store %v, want %v", schema.TableName(table), logged, stored, want)
		}
	}
	r.wantWhole()
}

// TestTenantsAreNotMixed: pieces of a row that are pushed for two tenants at once are two rows, each of its tenant.
func TestTenantsAreNotMixed(t *testing.T) {
	r := start(t, func(c *Config) { c.Gather = 200 * time.Millisecond })
	var pieces sync.WaitGroup
	for i, tenant := range []string{"acme", "globex", "acme", "globex"} {
		pieces.Go(func() {
			metric := []string{"DEV_GPU_UTIL", "DEV_GPU_TEMP", "DEV_POWER_USAGE", "DEV_SM_CLOCK"}[i]
			if said, err := r.pushFrom(ofTenant(tenant), Labels{}, dcgm(metric, fmt.Sprintf("GPU-%d", i/2), 0, 50)); err != nil || said != "" {
				t.Errorf("push: %q, %v", said, err)
			}
		})
	}
	pieces.Wait()
	r.stop()
	logged, _ := r.scopes(schema.SamplesID)
	if slices.Sort(logged); !slices.Contains(logged, "acme") || !slices.Contains(logged, "globex") {
		t.Errorf("batches of %v", logged)
	}
	r.wantWhole()
}
