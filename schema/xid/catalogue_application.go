// SPDX-License-Identifier: Apache-2.0

package xid

var applicationRows = []Entry{
	{
		Code: 8, Mnemonic: "ROBUST_CHANNEL_FIFO_ERROR_IDLE_TIMEOUT", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CONTACT_SUPPORT",
		Cause: "A channel made no progress for longer than the driver waits; most often a kernel hangs.",
	},
	{
		Code: 11, Mnemonic: "ROBUST_CHANNEL_GR_ERROR_MISSING_HW", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CHECK_APP/CUDA",
		Cause: "The application, or a CUDA library that it uses, sent commands that the GPU has no hardware for.",
	},
	{
		Code: 13, Mnemonic: "ROBUST_CHANNEL_GR_EXCEPTION / ROBUST_CHANNEL_GR_ERROR_SW_NOTIFY", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "WORKFLOW_XID_13",
		Cause: "A kernel accessed memory out of bounds, or ran an illegal instruction. If several applications meet it on the same GPC and TPC, suspect the GPU.",
	},
	{
		Code: 25, Mnemonic: "ROBUST_CHANNEL_GR_ILLEGAL_NOTIFY", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CHECK_APP/CUDA",
		Cause: "The application, or a CUDA library that it uses, sent commands that are not allowed.",
	},
	{
		Code: 31, Mnemonic: "ROBUST_CHANNEL_FIFO_ERROR_MMU_ERR_FLT", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "WORKFLOW_XID_31",
		Cause: "A kernel used an address that is not mapped. If applications that run well elsewhere meet it on one GPU again and again, suspect that GPU.",
	},
	{
		Code: 32, Mnemonic: "ROBUST_CHANNEL_PBDMA_ERROR", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CHECK_APP/CUDA",
		Cause: "The stream of commands reached the GPU damaged. If it comes back with other applications, suspect the PCIe link.",
	},
	{
		Code: 43, Mnemonic: "ROBUST_CHANNEL_RESETCHANNEL_VERIF_ERROR", Generations: everyGPU,
		Severity: Info, Class: ApplicationFault, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "The application made an error and was stopped. The GPU is well.",
	},
	{
		Code: 45, Mnemonic: "ROBUST_CHANNEL_PREEMPTIVE_REMOVAL", Generations: everyGPU,
		Severity: Info, Class: ApplicationFault, Action: FollowOther, Immediate: "WORKFLOW_XID_45", Investigatory: "WORKFLOW_XID_45",
		Cause: "The application's work was taken off the GPU: it ended, was killed, or another fault stopped it. Alone and unexpected: look at the fabric manager.",
	},
	{
		Code: 69, Mnemonic: "ROBUST_CHANNEL_GR_CLASS_ERROR", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CHECK_APP/CUDA",
		Cause: "The application, or a CUDA library that it uses, called an engine's method in a way that the engine does not accept.",
	},
	{
		Code: 80, Mnemonic: "PBDMA_PUSHBUFFER_CRC_MISMATCH", Generations: upToHopper,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CHECK_APP/CUDA",
		Cause: "Commands reached the GPU with a wrong checksum.",
	},
	{
		Code: 137, Mnemonic: "NVLINK_PRIV_ERR", Generations: everyGPU,
		Severity: Warning, Class: ApplicationFault, Action: RestartApp, Immediate: "IGNORE", Investigatory: "XID_137_FLOW",
		Cause: "A peer's memory was accessed over NVLink at an address that is not mapped; most often the application's fault.",
	},
}
