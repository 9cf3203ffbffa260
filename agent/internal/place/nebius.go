// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

const nebiusInstance = "/v1/instance-data"

func askNebius(ctx context.Context, s service) (Place, []error, error) {
	body, err := s.get(ctx, nebiusInstance)
	if err != nil {
		return Place{}, nil, err
	}
	p, err := parseNebius(body)
	return p, nil, err
}

// parseNebius reads what the machine is. How it is rented is not told.
func parseNebius(body []byte) (Place, error) {
	var i struct {
		ID              string   `json:"id"`
		ParentID        string   `json:"parent_id"`
		Name            string   `json:"name"`
		Platform        string   `json:"platform"`
		Preset          string   `json:"preset"`
		Region          string   `json:"region"`
		GPUClusterID    string   `json:"gpu_cluster_id"`
		InstanceGroupID string   `json:"nvl_instance_group_id"`
		TopologyPath    []string `json:"infiniband_topology_path"`
	}
	if err := json.Unmarshal(body, &i); err != nil || !strings.HasPrefix(i.ID, "computeinstance-") || i.ParentID == "" {
		return Place{}, otherFormat("GET " + nebiusInstance)
	}
	p := Place{
		Provider: Nebius, Platform: "nebius_compute", Region: i.Region, AccountID: i.ParentID, InstanceType: i.Platform,
		InstanceID: i.ID, InstanceName: i.Name, PlacementGroup: i.GPUClusterID, AcceleratorDomain: i.InstanceGroupID,
	}
	if i.Preset != "" {
		p.InstanceType += "_" + i.Preset // the price is that of both
	}
	slices.Reverse(i.TopologyPath) // it comes root first
	copy(p.TopologyTiers[:], i.TopologyPath)
	return p, nil
}
