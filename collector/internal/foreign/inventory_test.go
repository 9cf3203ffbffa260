// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

func TestOwners(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxAhead = 24 * time.Hour })
	pod := func(second int, name string) Reading {
		return dcgm("DEV_GPU_UTIL", "GPU-a", second, 1, "pod", name, "namespace", "ml", "container", "main")
	}
	r.must(pod(0, "a"))
	r.must(pod(30, "a"))
	r.must(pod(3600, "a"))                 // said again
	r.must(pod(3660, "b"))                 // the owner changed
	r.must(pod(3630, "c"))                 // late: nothing follows from it
	r.must(pod(3690, "b"), pod(3690, "d")) // two: nobody has it alone
	r.must(pod(3700, "b"))
	r.must(pod(3720, "")) // nobody
	r.must(pod(3750, "nvidia-dcgm-exporter-7xk2"))
	r.want(schema.WorkloadID, []string{"ts", "valid_from", "valid_to", "owner_kind", "namespace", "pod", "container", "shared"},
		"0 0 - kubernetes ml a main 0", "3600 0 - kubernetes ml a main 0", "3660 0 3660 kubernetes ml a main 0", "3660 3660 - kubernetes ml b main 0",
		"3690 3660 3690 kubernetes ml b main 0", "3700 3700 - kubernetes ml b main 0",
		"3720 3700 3720 kubernetes ml b main 0")
}

func TestInventory(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxAhead = 24 * time.Hour })
	resource := Labels{
		"host.name": "node-1", "cloud.provider": "aws", "cloud.region": "us-east-1", "cloud.availability_zone": "us-east-1a", "host.type": "p5.48xlarge",
		"host.id": "i-1", "k8s.node.name": "ip-10-0-0-9", "k8s.cluster.name": "prod",
	}
	push := func(g Reading) {
		t.Helper()
		if said, err := r.pushAs(resource, g); err != nil || said != "" {
			t.Fatalf("push: %q, %v", said, err)
		}
	}
	whole := []string{"gpu", "3", "modelName", "NVIDIA H100 80GB HBM3", "pci_bus_id", "00000000:0A:00.0", "DCGM_FI_DRIVER_VERSION", "590.48.01"}
	push(dcgm("DEV_GPU_UTIL", "GPU-a", 0, 1, whole...))
	push(dcgm("DEV_GPU_UTIL", "GPU-a", 30, 1, whole...))
	push(dcgm("DEV_GPU_UTIL", "GPU-a", 3600, 1, whole...))
	push(dcgm("DEV_GPU_UTIL", "GPU-a", 3660, 1, append(whole, "GPU_I_ID", "7", "GPU_I_PROFILE", "1g.10gb")...))
	resource["host.name"] = "gateway" // what else it says of a host is not of ours
	push(dcgm("DEV_GPU_UTIL", "GPU-a", 3720, 1, whole...))
	r.want(schema.NodeInventoryID, []string{"ts", "node_name", "reading_source", "provider", "region", "zone_id", "zone_name", "instance_type", "instance_id", "kubernetes_node", "cluster", "driver_version"},
		"0 node-1@dcgm otlp aws us-east-1 - us-east-1a p5.48xlarge i-1 ip-10-0-0-9 prod 590.48.01",
		"3600 node-1@dcgm otlp aws us-east-1 - us-east-1a p5.48xlarge i-1 ip-10-0-0-9 prod 590.48.01",
		"3720 node-1@dcgm otlp aws us-east-1 - - - - ip-10-0-0-9 prod 590.48.01")
	r.want(schema.GPUInventoryID, []string{"ts", "gpu_uuid", "parent_gpu_uuid", "gpu_index", "model", "pci_bus_id", "gpu_instance_id", "mig_profile"},
		"0 GPU-a - 3 NVIDIA H100 80GB HBM3 0000:0a:00.0 - -",
		"3600 GPU-a - 3 NVIDIA H100 80GB HBM3 0000:0a:00.0 - -",
		"3660 GPU-a/gi/7 GPU-a 3 NVIDIA H100 80GB HBM3 0000:0a:00.0 7 1g.10gb")
}

func TestSemanticConventions(t *testing.T) {
	r := start(t, nil)
	resource := Labels{"host.name": "node-9", "cloud.provider": "gcp", "cloud.availability_zone": "europe-west4-a", "hw.type": "gpu"}
	reading := func(metric, unit string, value float64, labels ...string) Reading {
		g := dcgm("", "", 0, value)
		g.Metric, g.Unit, g.Labels = metric, unit, Labels{"hw.id": "0", "hw.model": "NVIDIA L4"}
		for i := 0; i < len(labels); i += 2 {
			g.Labels[labels[i]] = labels[i+1]
		}
		return g
	}
	said, err := r.pushAs(resource, reading("hw.gpu.utilization", "1", 0.5), reading("hw.power", "W", 71.2), reading("hw.temperature", "Cel", 44),
		reading("hw.gpu.io", "By", 4096, "network.io.direction", "receive"), reading("hw.gpu.memory.utilization", "1", 0.4))
	if err != nil || said != "" {
		t.Fatalf("push: %q, %v", said, err)
	}
	r.want(schema.SamplesID, []string{"gpu_utilization_permille", "power_instant_watts", "gpu_temperature_celsius", "pcie_rx_bytes_delta"}, "500 71 44 -")
	r.want(schema.HealthID, []string{"pcie_rx_bytes_total"}, "4096")
	r.want(schema.GPUInventoryID, []string{"gpu_uuid", "model"}, "node-9@dcgm/0 NVIDIA L4")
	r.want(schema.NodeInventoryID, []string{"node_name", "zone_id"}, "node-9@dcgm europe-west4-a")
}

// TestIdsOfTheirHosts: what a gateway puts into one resource is of several hosts, each with a GPU of the same id.
func TestIdsOfTheirHosts(t *testing.T) {
	r := start(t, nil)
	of := func(host, label string, value float64) Reading {
		g := dcgm("", "", 0, value)
		g.Metric, g.Unit, g.Labels = "hw.gpu.utilization", "1", Labels{"hw.id": "0", "hw.type": "gpu", label: host}
		return g
	}
	r.must(of("node-1", "host.name", 0.1), of("node-2", "host.name", 0.2), of("node-3:9400", "instance", 0.3))
	rows := strings.Split(r.rows(schema.SamplesID, "gpu_utilization_permille"), "\n")
	gpus := strings.Split(r.rows(schema.GPUInventoryID, "gpu_uuid"), "\n")
	slices.Sort(rows)
	slices.Sort(gpus)
	if !slices.Equal(rows, []string{"100", "200", "300"}) || !slices.Equal(gpus, []string{"node-1@dcgm/0", "node-2@dcgm/0", "node-3@dcgm/0"}) {
		t.Errorf("rows %q of GPUs %q", rows, gpus)
	}
}

// TestOwnersOfOneName are as many as differ in anything that names them: nobody has the GPU alone.
func TestOwnersOfOneName(t *testing.T) {
	semantic := func(second int, labels ...string) Reading {
		g := dcgm("", "", second, 0.5)
		g.Metric, g.Labels = "hw.gpu.utilization", Labels{"hw.id": "GPU-a", "host.name": "node-1", "k8s.pod.name": "a"}
		for i := 0; i < len(labels); i += 2 {
			g.Labels[labels[i]] = labels[i+1]
		}
		return g
	}
	for label, reading := range map[string]func(second int, labels ...string) Reading{
		"namespace": func(second int, labels ...string) Reading {
			return dcgm("DEV_GPU_UTIL", "GPU-a", second, 1, append(labels, "pod", "a")...)
		},
		"pod_uid": func(second int, labels ...string) Reading {
			return dcgm("DEV_GPU_UTIL", "GPU-a", second, 1, append(labels, "pod", "a")...)
		},
		"exported_pod_uid": func(second int, labels ...string) Reading {
			return dcgm("DEV_GPU_UTIL", "GPU-a", second, 1, append(labels, "exported_pod", "a")...)
		},
		"k8s.namespace.name": semantic, "k8s.pod.uid": semantic,
	} {
		r := start(t, nil)
		r.must(reading(0, label, "x"), reading(1, label, "y"))
		r.must(reading(2, label, "x"), reading(2, label, "y"))
		r.must(reading(3, label, "x"))
		if got, want := r.rows(schema.WorkloadID, "ts", "valid_from", "valid_to"), "1 1 -\n2 1 2\n3 3 -"; got != want {
			t.Errorf("%s: owners\n%s\nwant\n%s", label, got, want)
		}
		r.stop()
	}
}
