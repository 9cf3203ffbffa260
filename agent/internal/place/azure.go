// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// azureInstance is the path of Azure's instance metadata service.
const azureInstance = "/metadata/instance?api-version="

// azureVersions are asked one after the other: a cloud that lags behind says 400 to a version that it does not
// have. The first has physicalZone.
func azureVersions() []string { return []string{"2023-11-15", "2021-12-13", "2019-06-01"} }

func askAzure(ctx context.Context, s service) (Place, []error, error) {
	var body []byte
	var err error
	for _, version := range azureVersions() {
		body, err = s.get(ctx, azureInstance+version)
		if !hasStatus(err, http.StatusBadRequest) {
			break
		}
	}
	if err != nil {
		return Place{}, nil, err
	}
	p, err := parseAzureInstance(body)
	return p, nil, err
}

var uuidPattern = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// azureCompute is the part of the answer that says where and what the machine is. User data, keys and tags are
// in the answer too, and are not read.
type azureCompute struct {
	Name                string `json:"name"`
	VMID                string `json:"vmId"`
	VMSize              string `json:"vmSize"`
	Location            string `json:"location"`
	Zone                string `json:"zone"`
	PhysicalZone        string `json:"physicalZone"`
	Provider            string `json:"provider"`
	SubscriptionID      string `json:"subscriptionId"`
	ResourceID          string `json:"resourceId"`
	Priority            string `json:"priority"`
	PlacementGroupID    string `json:"placementGroupId"`
	PlatformFaultDomain string `json:"platformFaultDomain"`
	Host                struct {
		ID string `json:"id"`
	} `json:"host"`
	HostGroup struct {
		ID string `json:"id"`
	} `json:"hostGroup"`
	StorageProfile struct {
		ImageReference azureImage `json:"imageReference"`
	} `json:"storageProfile"`
}

type azureImage struct {
	ID        string `json:"id"`
	Publisher string `json:"publisher"`
	Offer     string `json:"offer"`
	SKU       string `json:"sku"`
	Version   string `json:"version"`
}

// name is the id of an image of one's own, or the four parts by which Azure's tools name one of the market.
func (i azureImage) name() string {
	if i.ID != "" || i.Publisher == "" {
		return i.ID
	}
	return strings.Join([]string{i.Publisher, i.Offer, i.SKU, i.Version}, ":")
}

// parseAzureInstance reads what the machine is. Other services have a "compute" too, so the identity must be one.
func parseAzureInstance(body []byte) (Place, error) {
	var answer struct {
		Compute azureCompute `json:"compute"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Place{}, otherFormat("GET /metadata/instance")
	}
	c := answer.Compute
	if !uuidPattern.MatchString(c.VMID) || c.Location == "" ||
		(c.Provider != "Microsoft.Compute" && !strings.HasPrefix(c.ResourceID, "/subscriptions/")) {
		return Place{}, otherFormat("GET /metadata/instance")
	}
	p := Place{
		Provider: Azure, Platform: "azure.vm", Region: c.Location, ZoneID: c.PhysicalZone, AccountID: c.SubscriptionID,
		InstanceType: c.VMSize, InstanceID: c.VMID, InstanceName: c.Name, ImageID: c.StorageProfile.ImageReference.name(),
		LifeCycle: azureLifeCycle(c.Priority), PlacementGroup: c.PlacementGroupID, FaultDomain: c.PlatformFaultDomain,
		HostGroup: c.HostGroup.ID, PhysicalHost: c.Host.ID,
	}
	if c.Zone != "" {
		p.ZoneName = c.Location + "-" + c.Zone // as Azure's Kubernetes writes it; "1" alone means nothing
	}
	return p, nil
}

// azureLifeCycle: no priority at all is not said to be regular.
func azureLifeCycle(priority string) string {
	switch strings.ToLower(priority) {
	case "spot", "low": // low is what spot was called in scale sets
		return Spot
	case "regular":
		return OnDemand
	}
	return ""
}
