// SPDX-License-Identifier: Apache-2.0

package xid

var memoryRows = []Entry{
	{
		Code: 48, Mnemonic: "ROBUST_CHANNEL_GPU_ECC_DBE", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: Memory, Action: ResetGPU, Immediate: "WORKFLOW_XID_48", Investigatory: "WORKFLOW_XID_48",
		Cause: "Memory of the GPU, HBM or SRAM, had an error that ECC cannot correct.",
	},
	{
		Code: 63, Mnemonic: "INFOROM_DRAM_RETIREMENT_EVENT", Generations: everyGPU, VerdictBranch: 565,
		Severity: Warning, Class: Memory, Action: NoAction, Immediate: "IGNORE", Investigatory: "IGNORE",
		Cause: "A row of HBM is to be replaced by a spare one, which happens at the next reset.",
	},
	{
		Code: 64, Mnemonic: "INFOROM_DRAM_RETIREMENT_FAILURE", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: Memory, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
		Cause: "A row of HBM could not be replaced: no spare row is left, or the InfoROM cannot be written. If it comes back after the reset, replace the GPU.",
	},
	{
		Code: 92, Mnemonic: "EXCESSIVE_SBE_INTERRUPTS", Generations: everyGPU,
		Severity: Warning, Class: Memory, Action: Watch, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "ECC corrects errors at a high rate.",
	},
	{
		Code: 94, Mnemonic: "ROBUST_CHANNEL_CONTAINED_ERROR", Generations: everyGPU, VerdictBranch: 565,
		Severity: Warning, Class: Memory, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "IGNORE (sympathetic)",
		Cause: "An uncorrectable error hit one application, and only that. Look for XID 48, 63 or 64 beside it.",
	},
	{
		Code: 95, Mnemonic: "ROBUST_CHANNEL_UNCONTAINED_ERROR", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: Memory, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "IGNORE (sympathetic)",
		Cause: "An uncorrectable error could not be contained: every application on the GPU may have read wrong data. If it comes back after the reset, replace the GPU.",
	},
	{
		Code: 140, Mnemonic: "UNRECOVERABLE_ECC_ERROR_ESCAPE", Generations: everyGPU,
		Severity: Critical, Class: Memory, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
		Cause: "An uncorrectable error kept the driver from taking the bad memory out of use. If it comes back after the reset, replace the GPU.",
	},
	{
		Code: 160, Mnemonic: "CHANNEL_RETIREMENT_EVENT", Generations: blackwellOn, VerdictBranch: 575,
		Severity: Warning, Class: Memory, Action: NoAction, Immediate: "IGNORE", Investigatory: "INVESTIGATE_SW",
		Cause: "A channel of the GPU's memory is retired.",
	},
	{
		Code: 161, Mnemonic: "CHANNEL_RETIREMENT_FAILURE", Generations: blackwellOn, VerdictBranch: 575,
		Severity: Warning, Class: Memory, Action: Watch, Immediate: "IGNORE", Investigatory: "INVESTIGATE_SW",
		Cause: "A channel of the GPU's memory should be retired, and could not be.",
	},
	{
		Code: 168, Mnemonic: "REDUCED_GPU_MEMORY_CAPACITY", Generations: everyGPU,
		Severity: Warning, Class: Memory, Action: Watch,
		Cause: "The region that is reserved for firmware has memory errors, so less memory can be used. It occurs with ECC off: switch it on.",
	},
	{
		Code: 171, Mnemonic: "UNCORRECTABLE_DRAM_ERROR", Generations: everyGPU,
		Severity: Critical, Class: Memory, Action: FollowOther,
		Cause: "Says of an XID 48 that the error was in HBM.",
	},
	{
		Code: 172, Mnemonic: "UNCORRECTABLE_SRAM_ERROR", Generations: everyGPU,
		Severity: Critical, Class: Memory, Action: FollowOther,
		Cause: "Says of an XID 48 that the error was in SRAM. If the GPU reports that its SRAM threshold is exceeded, replace it.",
	},
}
