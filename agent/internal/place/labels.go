// SPDX-License-Identifier: Apache-2.0

package place

import (
	"regexp"
	"strings"
)

// Labels that every cloud's nodes have.
const (
	labelRegion = "topology.kubernetes.io/region"
	labelZone   = "topology.kubernetes.io/zone"
	labelType   = "node.kubernetes.io/instance-type"
)

// normalForm is what topograph wrote: tiers of the fabric, closest first, and the accelerator domain. The second
// set of names is that of its older versions.
func normalForm(labels map[string]string) (p Place) {
	p.TopologyTiers = firstTiers(labels,
		[Tiers]string{"fabric.topograph.run/tier-0", "fabric.topograph.run/tier-1", "fabric.topograph.run/tier-2", "fabric.topograph.run/tier-3"},
		[Tiers]string{"network.topology.nvidia.com/leaf", "network.topology.nvidia.com/spine", "network.topology.nvidia.com/core"})
	p.AcceleratorDomain = firstOf(labels, "accelerator.topograph.run/domain", "network.topology.nvidia.com/accelerator")
	return p
}

// place is what the node's object says besides.
func (n node) place() Place {
	labels := n.Metadata.Labels
	p := Place{KubernetesNode: n.Metadata.Name, Region: labels[labelRegion], ZoneName: labels[labelZone], InstanceType: labels[labelType]}
	p.Provider, p.InstanceID = identify(n.Spec.ProviderID, labels)
	p.Platform = managedPlatform(p.Provider, labels)
	p.ZoneID = zoneID(p, labels)
	p.LifeCycle = labelledLifeCycle(labels)
	p.CapacityReservationID = firstOf(labels, "karpenter.k8s.aws/capacity-reservation-id", "cloud.google.com/reservation-name")
	p.PlacementGroup = firstOf(labels, "kubernetes.azure.com/ppg")
	p.FaultDomain = firstOf(labels, "oci.oraclecloud.com/fault-domain")
	p.PhysicalHost = firstOf(labels, "cloud.google.com/gce-topology-host", "oci.oraclecloud.com/rdma.host_id", "oci.oraclecloud.com/host.id")
	p.Cluster = firstOf(labels, "alpha.eksctl.io/cluster-name", "kubernetes.azure.com/cluster", "cluster.x-k8s.io/cluster-name")
	p.Rack = firstOf(labels, "node.coreweave.cloud/rack", "oci.oraclecloud.com/host.rack_id")
	p.AcceleratorDomain = firstOf(labels, "ds.coreweave.com/nvlink.domain", "topology.k8s.aws/ultraserver-id",
		"topology.k8s.aws/capacity-block-id", "nvidia.com/gpu.clique")
	p.TopologyTiers = firstTiers(labels,
		[Tiers]string{"backend.coreweave.cloud/leafgroup", "ib.coreweave.cloud/superpod", "backend.coreweave.cloud/fabric"},
		[Tiers]string{"ib.coreweave.cloud/leafgroup", "ib.coreweave.cloud/superpod", "ib.coreweave.cloud/fabric"},
		[Tiers]string{"cloud.google.com/gce-topology-subblock", "cloud.google.com/gce-topology-block"},
		[Tiers]string{"oci.oraclecloud.com/rdma.local_block_id", "oci.oraclecloud.com/rdma.network_block_id", "oci.oraclecloud.com/rdma.hpc_island_id"},
		[Tiers]string{"crusoe.ai/pod.id", "crusoe.ai/ib.partition.networkId"},
		awsLayers(labels))
	return p
}

// awsLayers are named from the root, and there are three or four of them: the last that is there is the closest.
func awsLayers(labels map[string]string) (tiers [Tiers]string) {
	const layer = "topology.k8s.aws/network-node-layer-"
	next := 0
	for _, number := range []string{"4", "3", "2", "1"} {
		if labels[layer+number] != "" {
			tiers[next] = layer + number
			next++
		}
	}
	return tiers
}

var (
	azureVM    = regexp.MustCompile(`(?i)^/*subscriptions/[^/]+/resourceGroups/`)
	schemeOnly = regexp.MustCompile(`^([a-z0-9]+)://(.*)$`)
)

// schemes are how the cloud controllers begin a node's providerID.
var schemes = map[string]string{
	"aws": AWS, "azure": Azure, "gce": GCP, "oci": OCI, "nebius": Nebius, "lambda": Lambda, "crusoe": Crusoe, "coreweave": CoreWeave,
	"digitalocean": "digitalocean", "hcloud": "hetzner", "ibm": "ibm_cloud", "vultr": "vultr", "scaleway": "scaleway_cloud", "linode": "akamai_cloud",
}

// identify reads whose the node is and what its instance is called. CoreWeave is known by its labels alone.
func identify(providerID string, labels map[string]string) (provider, instance string) {
	if strings.HasPrefix(providerID, "ocid1.instance.") {
		return OCI, providerID
	}
	if parts := schemeOnly.FindStringSubmatch(providerID); parts != nil {
		provider, instance = schemes[parts[1]], parts[2]
	}
	switch provider {
	case AWS: // aws:///us-east-1a/i-0123456789abcdef0
		instance = instance[strings.LastIndex(instance, "/")+1:]
	case Azure: // azure:///subscriptions/…: the machine's id is not in it
		if !azureVM.MatchString(instance) {
			provider = ""
		}
		instance = ""
	case GCP: // gce://project/zone/name: a name, not an id
		instance = ""
	case "":
		instance = ""
	}
	if provider == "" && labels["node.coreweave.cloud/state"]+labels["node.coreweave.cloud/type"]+labels["backend.coreweave.cloud/flavor"]+labels["node.coreweave.cloud/reserved"] != "" {
		provider = CoreWeave
	}
	return provider, instance
}

// managedPlatform is the provider's own Kubernetes, if the labels are those that it sets. What OpenTelemetry's
// conventions have no value for is named in their way.
func managedPlatform(provider string, labels map[string]string) string {
	marks := map[string]struct{ prefix, platform string }{
		AWS: {"eks.amazonaws.com/", "aws_eks"}, Azure: {"kubernetes.azure.com/", "azure.aks"},
		GCP: {"cloud.google.com/gke-", "gcp_kubernetes_engine"}, OCI: {"oci.oraclecloud.com/", "oracle_cloud_oke"},
		CoreWeave: {"node.coreweave.cloud/", "coreweave_cks"}, Crusoe: {"crusoe.ai/", "crusoe_cmk"},
	}
	mark, ok := marks[provider]
	if !ok {
		return ""
	}
	for label := range labels {
		if strings.HasPrefix(label, mark.prefix) {
			return mark.platform
		}
	}
	return ""
}

// zoneID is the zone's id where it is told, or where zones have but one name for all accounts.
func zoneID(p Place, labels map[string]string) string {
	switch p.Provider {
	case AWS:
		return labels["topology.k8s.aws/zone-id"]
	case GCP, CoreWeave:
		return p.ZoneName
	}
	return ""
}

// labelledLifeCycle is how the node is rented, as far as its node pool or its autoscaler says.
func labelledLifeCycle(labels map[string]string) string {
	switch {
	case strings.EqualFold(labels["karpenter.k8s.aws/capacity-reservation-type"], "capacity-block"),
		labels["eks.amazonaws.com/capacityType"] == "CAPACITY_BLOCK":
		return CapacityBlock
	case labels["cloud.google.com/gke-spot"] == "true", labels["cloud.google.com/gke-preemptible"] == "true",
		labels["kubernetes.azure.com/scalesetpriority"] == "spot", labels["oci.oraclecloud.com/oke-is-preemptible"] == "true",
		labels["eks.amazonaws.com/capacityType"] == "SPOT", labels["karpenter.sh/capacity-type"] == "spot":
		return Spot
	case labels["cloud.google.com/reservation-name"] != "", labels["karpenter.sh/capacity-type"] == "reserved":
		return Reserved
	case labels["eks.amazonaws.com/capacityType"] == "ON_DEMAND", labels["karpenter.sh/capacity-type"] == "on-demand":
		return OnDemand
	}
	return ""
}

// firstOf is the value of the first of the labels that the node has.
func firstOf(labels map[string]string, names ...string) string {
	for _, name := range names {
		if value := labels[name]; value != "" {
			return value
		}
	}
	return ""
}

// firstTiers takes the tiers from the first set of labels of which the node has any.
func firstTiers(labels map[string]string, sets ...[Tiers]string) (tiers [Tiers]string) {
	for _, names := range sets {
		for i, name := range names {
			tiers[i] = labels[name]
		}
		if tiers != ([Tiers]string{}) {
			return tiers
		}
	}
	return tiers
}
