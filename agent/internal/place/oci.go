// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Paths of Oracle's instance metadata service, version 2.
const (
	ociInstance = "/opc/v2/instance/"
	ociHost     = "/opc/v2/host/"
	ociTopology = "/opc/v2/host/rdmaTopologyData"
)

// askOCI also asks for the host, which machines that share one do not have.
func askOCI(ctx context.Context, s service) (Place, []error, error) {
	body, err := s.get(ctx, ociInstance)
	if err != nil {
		return Place{}, nil, err
	}
	p, err := parseOCIInstance(body)
	if err != nil {
		return Place{}, nil, err
	}
	found, failed := many(ctx, s.get, ociHost, ociTopology)
	if err := parseOCIHost(found[ociHost], found[ociTopology], &p); err != nil {
		failed = append(failed, err)
	}
	return p, failed, nil
}

// parseOCIInstance reads what the machine is. Keys and user data are in the answer too, and are not read.
func parseOCIInstance(body []byte) (Place, error) {
	var i struct {
		ID                  string `json:"id"`
		DisplayName         string `json:"displayName"`
		Shape               string `json:"shape"`
		Image               string `json:"image"`
		TenantID            string `json:"tenantId"`
		CanonicalRegionName string `json:"canonicalRegionName"`
		AvailabilityDomain  string `json:"availabilityDomain"`
		OCIADName           string `json:"ociAdName"`
		FaultDomain         string `json:"faultDomain"`
	}
	if err := json.Unmarshal(body, &i); err != nil || !strings.HasPrefix(i.ID, "ocid1.instance.") || i.CanonicalRegionName == "" {
		return Place{}, otherFormat("GET " + ociInstance)
	}
	return Place{
		Provider: OCI, Platform: "oracle_cloud_compute", Region: i.CanonicalRegionName,
		ZoneName: i.AvailabilityDomain, ZoneID: i.OCIADName, // the names are shuffled per tenancy, these are not
		AccountID: i.TenantID, InstanceType: i.Shape, InstanceID: i.ID, InstanceName: i.DisplayName, ImageID: i.Image,
		FaultDomain: i.FaultDomain,
	}, nil
}

// ociRDMA is where a host is in the cluster network. It is only there for tenancies that have a capacity
// topology.
type ociRDMA struct {
	GPUMemoryFabric string `json:"customerGpuMemoryFabric"`
	HPCIsland       string `json:"customerHPCIslandId"`
	Host            string `json:"customerHostId"`
	LocalBlock      string `json:"customerLocalBlock"`
	NetworkBlock    string `json:"customerNetworkBlock"`
}

// parseOCIHost reads where the host is; either part may be nil. The topology is in the host's answer too, on
// services that are new enough.
func parseOCIHost(host, topology []byte, p *Place) error {
	var h struct {
		ID           string  `json:"id"`
		RackID       string  `json:"rackId"`
		NetworkBlock string  `json:"networkBlockId"`
		RDMA         ociRDMA `json:"rdmaTopologyData"`
	}
	if host != nil {
		if err := json.Unmarshal(host, &h); err != nil {
			return fmt.Errorf("GET %s: no host: %w", ociHost, err)
		}
	}
	if topology != nil {
		if err := json.Unmarshal(topology, &h.RDMA); err != nil {
			return fmt.Errorf("GET %s: no topology: %w", ociTopology, err)
		}
	}
	p.Rack, p.PhysicalHost = h.RackID, h.ID
	if h.RDMA.Host != "" {
		p.PhysicalHost = h.RDMA.Host
	}
	p.AcceleratorDomain = h.RDMA.GPUMemoryFabric
	p.TopologyTiers = [Tiers]string{h.RDMA.LocalBlock, h.RDMA.NetworkBlock, h.RDMA.HPCIsland}
	if p.TopologyTiers == ([Tiers]string{}) {
		p.TopologyTiers[1] = h.NetworkBlock // all that is told of older shapes
	}
	return nil
}
