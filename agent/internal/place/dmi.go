// SPDX-License-Identifier: Apache-2.0

package place

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// What the firmware's tables say on a cloud's machines. They are only a hint whom to ask, except where a
// provider writes its own name there.
const (
	azureChassis = "7783-7084-3265-9085-8269-3286-77" // "MSFT AZURE VM" in a code of old; also Azure Stack
	ociChassis   = "OracleCloud.com"
	awsVendor    = "Amazon EC2"
	gcpProduct   = "Google Compute Engine"
)

var (
	awsInstanceID   = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
	awsInstanceType = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`)
)

// readDMI is what the firmware says of the cloud; a zero Place if nothing.
func readDMI(folder string) Place {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return "" // some are for root alone, and a container may have none
		}
		return strings.TrimSpace(string(text[:min(len(text), maxValueBytes)]))
	}
	switch {
	case read("sys_vendor") == awsVendor:
		return awsFirmware(read("product_name"), read("board_asset_tag"))
	case read("chassis_asset_tag") == azureChassis:
		return Place{Provider: Azure, Platform: "azure.vm"}
	case read("chassis_asset_tag") == ociChassis:
		return Place{Provider: OCI, Platform: "oracle_cloud_compute"}
	case read("product_name") == gcpProduct:
		return Place{Provider: GCP, Platform: "gcp_compute_engine"}
	}
	return Place{}
}

// awsFirmware: on Nitro the product is the instance type and the board's tag is the instance, so that they are
// known even where the metadata service is shut. Older machines say other things, which do not look so.
func awsFirmware(product, tag string) Place {
	p := Place{Provider: AWS, Platform: "aws_ec2"}
	if awsInstanceType.MatchString(product) {
		p.InstanceType = product
	}
	if awsInstanceID.MatchString(tag) {
		p.InstanceID = tag
	}
	return p
}
