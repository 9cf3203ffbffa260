// SPDX-License-Identifier: Apache-2.0

package hardware

import "strings"

// Providers, as the agents name them.
const (
	AWS    = "aws"
	Azure  = "azure"
	GCP    = "gcp"
	Oracle = "oci"
	Nebius = "nebius"
)

// Where instance types are from.
const (
	fromKarpenterAWS = "karpenter-provider-aws, generated tables, 2026-07-20"
	fromKarpenterAz  = "karpenter-provider-azure, generated table, 2026-06-18; network: general knowledge"
	fromAWSDocs      = "AWS documentation of EKS; ec2instances.info has another number of GPUs, which is wrong"
	fromSkyPilotGCP  = "SkyPilot catalogue v8; network: general knowledge"
	fromOracle       = "OCI price list by way of OpenCost and SkyPilot v8; network: general knowledge"
	fromNebius       = "SkyPilot catalogue v8"
)

const (
	a100x40, a100x80, h100, h200 = "A100 SXM 40GB", "A100 SXM 80GB", "H100 SXM 80GB", "H200 SXM 141GB"
	b200, gb200, b300, gb300     = "B200 SXM 180GB", "GB200 186GB", "B300 SXM 288GB", "GB300 288GB"
)

var instances = []Instance{
	{AWS, "p3.2xlarge", "V100 SXM2 16GB", 1, 0, 0, fromKarpenterAWS, false},
	{AWS, "p3.8xlarge", "V100 SXM2 16GB", 4, 0, 0, fromKarpenterAWS, false},
	{AWS, "p3.16xlarge", "V100 SXM2 16GB", 8, 0, 0, fromKarpenterAWS, false},
	{AWS, "p3dn.24xlarge", "V100 SXM2 32GB", 8, 0, 0, fromKarpenterAWS, false},
	{AWS, "p4d.24xlarge", a100x40, 8, 400, 0, fromKarpenterAWS, true},
	{AWS, "p4de.24xlarge", a100x80, 8, 400, 0, fromKarpenterAWS, true},
	{AWS, "p5.4xlarge", h100, 1, 100, 0, fromKarpenterAWS, true},
	{AWS, "p5.48xlarge", h100, 8, 3200, 0, fromKarpenterAWS, true},
	{AWS, "p5e.48xlarge", h200, 8, 3200, 0, fromKarpenterAWS, true},
	{AWS, "p5en.48xlarge", h200, 8, 3200, 0, fromKarpenterAWS, true},
	{AWS, "p6-b200.48xlarge", b200, 8, 3200, 0, fromKarpenterAWS, true},
	{AWS, "p6-b300.48xlarge", b300, 8, 6400, 0, fromKarpenterAWS, true},
	{AWS, "p6e-gb200.36xlarge", gb200, 4, 3200, 72, fromAWSDocs, false}, // the figure of the network is disputed
	{Azure, "Standard_ND96asr_v4", a100x40, 8, 1600, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND96amsr_A100_v4", a100x80, 8, 1600, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC24ads_A100_v4", "A100 PCIe 80GB", 1, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC48ads_A100_v4", "A100 PCIe 80GB", 2, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC96ads_A100_v4", "A100 PCIe 80GB", 4, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND96isr_H100_v5", h100, 8, 3200, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND96is_H100_v5", h100, 8, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND96isr_H200_v5", h200, 8, 3200, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND96asr_A100_v4", a100x40, 8, 1600, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC40ads_H100_v5", "H100 NVL 94GB", 1, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC80adis_H100_v5", "H100 NVL 94GB", 2, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC4as_T4_v3", "T4", 1, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC8as_T4_v3", "T4", 1, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC16as_T4_v3", "T4", 1, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_NC64as_T4_v3", "T4", 4, 0, 0, fromKarpenterAz, false},
	{Azure, "Standard_ND128isr_NDR_GB200_v6", gb200, 4, 1600, 72, fromKarpenterAz, false},
	{GCP, "a2-highgpu-1g", a100x40, 1, 0, 0, fromSkyPilotGCP, false},
	{GCP, "a2-highgpu-8g", a100x40, 8, 100, 0, fromSkyPilotGCP, false},
	{GCP, "a2-ultragpu-8g", a100x80, 8, 100, 0, fromSkyPilotGCP, false},
	{GCP, "a3-highgpu-8g", h100, 8, 1000, 0, fromSkyPilotGCP, false},
	{GCP, "a3-megagpu-8g", h100, 8, 1800, 0, fromSkyPilotGCP, false},
	{GCP, "a3-ultragpu-8g", h200, 8, 3600, 0, fromSkyPilotGCP, false},
	{GCP, "a4-highgpu-8g", b200, 8, 3600, 0, fromSkyPilotGCP, false},
	{GCP, "a4x-highgpu-4g", gb200, 4, 0, 72, fromSkyPilotGCP, false},
	{Oracle, "BM.GPU4.8", a100x40, 8, 1600, 0, fromOracle, false},
	{Oracle, "BM.GPU.A100-v2.8", a100x80, 8, 1600, 0, fromOracle, false},
	{Oracle, "BM.GPU.A10.4", "A10", 4, 0, 0, fromOracle, false},
	{Oracle, "VM.GPU.A10.1", "A10", 1, 0, 0, fromOracle, false},
	{Oracle, "VM.GPU.A10.2", "A10", 2, 0, 0, fromOracle, false},
	{Oracle, "BM.GPU.L40S.4", "L40S", 4, 0, 0, fromOracle, false},
	{Oracle, "BM.GPU.H100.8", h100, 8, 3200, 0, fromOracle, false},
	{Oracle, "BM.GPU.H200.8", h200, 8, 0, 0, fromOracle, false},
	{Oracle, "BM.GPU.B200.8", b200, 8, 0, 0, fromOracle, false},
	{Oracle, "BM.GPU.B300.8", b300, 8, 0, 0, fromOracle, false},
	{Oracle, "BM.GPU.GB200.4", gb200, 4, 1600, 72, fromOracle, false},
	{Oracle, "BM.GPU.GB300.4", gb300, 4, 0, 72, fromOracle, false},
	{Nebius, "gpu-h100-sxm 8gpu", h100, 8, 0, 0, fromNebius, false},
	{Nebius, "gpu-h200-sxm 8gpu", h200, 8, 0, 0, fromNebius, false},
	{Nebius, "gpu-b200-sxm 8gpu", b200, 8, 0, 0, fromNebius, false},
}

// Provider brings the names that feeds and drivers have for a provider into one.
func Provider(name string) string {
	switch name = strings.ToLower(strings.TrimSpace(name)); name {
	case "oracle_cloud", "oracle":
		return Oracle
	case "google", "gce", "google_cloud":
		return GCP
	case "microsoft":
		return Azure
	case "amazon":
		return AWS
	default:
		return name
	}
}
