// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// Paths of Compute Engine's metadata server. Each fact is asked by itself: the whole tree has the secrets with
// which a node joins its cluster.
const (
	gcpRoot        = "/computeMetadata/v1/"
	gcpID          = gcpRoot + "instance/id"
	gcpZone        = gcpRoot + "instance/zone"
	gcpName        = gcpRoot + "instance/name"
	gcpType        = gcpRoot + "instance/machine-type"
	gcpImage       = gcpRoot + "instance/image"
	gcpProject     = gcpRoot + "project/project-id"
	gcpPreemptible = gcpRoot + "instance/scheduling/preemptible"
	gcpTopology    = gcpRoot + "instance/attributes/physical_host_topology"
	gcpCluster     = gcpRoot + "instance/attributes/cluster-name"
	gcpFlavor      = "Metadata-Flavor" // on each request, and on each answer
)

var (
	errHiddenType = errors.New("machine type is not told: Kubernetes Engine's own metadata server hides it from pods; use hostNetwork, or let the agent read its node object")

	gcpNumber   = regexp.MustCompile(`^[0-9]{1,20}$`)
	gcpZonePath = regexp.MustCompile(`^projects/[^/]+/zones/([a-z0-9-]+-[a-z0-9]+)$`)
)

// gcpGet takes only what bears the metadata server's mark.
func gcpGet(s service) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		a, err := s.ask(ctx, http.MethodGet, path, nil)
		if err == nil && a.header.Get(gcpFlavor) != "Google" {
			return nil, otherFormat("GET " + path)
		}
		return a.body, err
	}
}

func askGCP(ctx context.Context, s service) (Place, []error, error) {
	get := gcpGet(s)
	body, err := get(ctx, gcpID)
	if err != nil {
		return Place{}, nil, err
	}
	id := strings.TrimSpace(string(body))
	if !gcpNumber.MatchString(id) {
		return Place{}, nil, otherFormat("GET " + gcpID)
	}
	found, failed := many(ctx, get, gcpZone, gcpName, gcpType, gcpImage, gcpProject, gcpPreemptible, gcpTopology, gcpCluster)
	text := func(path string) string { return strings.TrimSpace(string(found[path])) }
	zone := gcpZonePath.FindStringSubmatch(text(gcpZone))
	if zone == nil {
		return Place{}, failed, otherFormat("GET " + gcpZone)
	}
	p := Place{
		Provider: GCP, Platform: "gcp_compute_engine", Region: zone[1][:strings.LastIndex(zone[1], "-")],
		ZoneName: zone[1], ZoneID: zone[1], // the names are the same for all projects
		AccountID: text(gcpProject), InstanceType: lastPart(text(gcpType)), InstanceID: id, InstanceName: text(gcpName),
		ImageID: text(gcpImage), Cluster: text(gcpCluster),
	}
	if p.Cluster != "" {
		p.Platform = "gcp_kubernetes_engine"
	}
	if p.InstanceType == "" {
		failed = append(failed, errHiddenType)
	}
	if text(gcpPreemptible) == "TRUE" {
		p.LifeCycle = Spot // FALSE may be on demand, flex-start or out of a reservation, which differ in price
	}
	if topology, ok := found[gcpTopology]; ok {
		if err := parseGCPTopology(topology, &p); err != nil {
			failed = append(failed, err)
		}
	}
	return p, failed, nil
}

// lastPart of "projects/7/machineTypes/a3-highgpu-8g" is its name; of nothing it is nothing.
func lastPart(resource string) string {
	if resource == "" {
		return ""
	}
	return path.Base(resource)
}

// parseGCPTopology reads where the host is. On machines with an NVLink domain larger than a node (A4X) the
// sub-block is that domain; on others it is only a part of the network.
func parseGCPTopology(body []byte, p *Place) error {
	var t struct {
		Cluster  string `json:"cluster"`
		Block    string `json:"block"`
		Subblock string `json:"subblock"`
		Host     string `json:"host"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return fmt.Errorf("GET %s: no topology: %w", gcpTopology, err)
	}
	p.TopologyTiers = [Tiers]string{t.Subblock, t.Block, t.Cluster}
	p.PhysicalHost = t.Host
	if strings.HasPrefix(p.InstanceType, "a4x-") {
		p.AcceleratorDomain = t.Subblock
	}
	return nil
}
