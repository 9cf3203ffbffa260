// SPDX-License-Identifier: Apache-2.0

package xid

var nvlinkRows = []Entry{
	{
		Code: 74, Mnemonic: "NVLINK_ERROR", Generations: upToHopper, VerdictBranch: 565,
		Severity: Critical, Class: NVLink, Action: ResetGPU, Immediate: "WORKFLOW_NVLINK_ERR", Investigatory: "CONTACT_SUPPORT",
		Cause: "An NVLink failed: the link itself, or the GPU or NVSwitch at its other end.",
	},
	{
		Code: 108, Mnemonic: "NVLINK_REMOTE_TRANSLATION_ERROR", Generations: everyGPU,
		Severity: Info, Class: NVLink, Action: NoAction, Immediate: "IGNORE", Investigatory: "XID_137_FLOW",
		Cause: "A peer's memory was accessed over NVLink at an address that is not mapped; drivers report it as XID 137 instead.",
	},
	{
		Code: 121, Mnemonic: "C2C_ERROR", Generations: GraceBlackwell,
		Severity: Info, Class: NVLink, Action: Watch, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "Errors on the C2C link to the Grace CPU, all corrected. A reset at a service window trains the link anew; VBIOS 97.00.90 may help.",
	},
	{
		Code: 136, Mnemonic: "ALI_TRAINING_FAIL", Generations: Hopper, VerdictBranch: 565,
		Severity: Critical, Class: NVLink, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "INVESTIGATE_LINK_SI",
		Cause: "An NVLink could not be trained.",
	},
	nvlink5Entry(144, "NVLINK_SAW_ERROR", "SAW"),
	nvlink5Entry(145, "NVLINK_RLW_ERROR", "RLW, which meets losses and time-outs of the far end"),
	nvlink5Entry(146, "NVLINK_TLW_ERROR", "TLW"),
	nvlink5Entry(147, "NVLINK_TREX_ERROR", "TREX"),
	nvlink5Entry(148, "NVLINK_NVLPW_CTRL_ERROR", "NVLPW_CTRL"),
	nvlink5Entry(149, "NVLINK_NETIR_ERROR", "NETIR: a link went down here or at the far end, or has many bit errors"),
	nvlink5Entry(150, "NVLINK_MSE_ERROR", "MSE, the link's micro-controller"),
	{
		Code: 155, Mnemonic: "NVLINK_SW_DEFINED_ERROR", Generations: blackwellOn, VerdictBranch: 565,
		Severity: Warning, Class: NVLink, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "INVESTIGATE_SW_USER",
		Cause: "Software took an NVLink down on purpose, or put it to sleep.",
	},
	{
		Code: 159, Mnemonic: "ROBUST_CHANNEL_CHI_NON_DATA_ERROR", Generations: blackwellOn, VerdictBranch: EveryBranch,
		Severity: Warning, Class: NVLink, Action: Watch, Immediate: "CHECK_UVM", Investigatory: "SYMPATHETIC_REPORT_SOLO",
		Cause: "An error on the C2C link that is not one of data. If unified memory or vGPU is in use, reset the GPU.",
	},
	{
		Code: 173, Mnemonic: "C2C_FATAL_LINK_FAILURE", Generations: GraceBlackwell,
		Severity: Critical, Class: NVLink, Action: RebootNode,
		Cause: "The C2C link to the Grace CPU is lost. The code is not in NVIDIA's workbook yet.",
	},
}

// nvlink5Entry is the row of one of the codes whose lines have to be decoded: what it means stands in the line.
func nvlink5Entry(code uint32, mnemonic, unit string) Entry {
	return Entry{
		Code: code, Mnemonic: mnemonic, Generations: blackwellOn, VerdictBranch: 565,
		Severity: Warning, Class: NVLink, Action: Decode, Immediate: "WORKFLOW_NVLINK5_ERR", Investigatory: "WORKFLOW_NVLINK5_ERR",
		Cause: "An error in a unit of NVLink 5: " + unit + ".",
	}
}

var pcieRows = []Entry{
	{
		Code: 79, Mnemonic: "ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: PCIe, Action: RebootNode, Immediate: "RESTART_BM", Investigatory: "CONTACT_SUPPORT",
		Cause: "The driver no longer reaches the GPU over PCIe: the board, its power, a riser, heat, or the host.",
	},
	{
		Code: 167, Mnemonic: "PCIE_FATAL_TIMEOUT", Generations: hopperOn,
		Severity: Critical, Class: PCIe, Action: RebootNode,
		Cause: "A PCIe access to the GPU timed out for good.",
	},
}
