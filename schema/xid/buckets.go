// SPDX-License-Identifier: Apache-2.0

package xid

// Bucket is a piece of advice in NVIDIA's own word; "" where NVIDIA gives none.
type Bucket string

// Buckets lists NVIDIA's pieces of advice that the catalogue uses, put briefly. NVIDIA's page has the steps.
func Buckets() []Word {
	return []Word{
		{"CHECK_APP/CUDA", "Look for the mistake in the application and the CUDA libraries that it uses."},
		{"CHECK_MECHANICALS", "Check that the board and its cables sit well."},
		{"CHECK_NVLINK_FAILURE_FLOW", "If a link of the partition went down within 30 seconds before, it is a consequence; else report it."},
		{"CHECK_UVM", "Reset the GPU if unified memory or vGPU is in use; else ignore it."},
		{"CONTACT_SUPPORT", "Ask whoever supports the hardware."},
		{"IGNORE", "Nothing to do."},
		{"IGNORE (sympathetic)", "A consequence of another error: resolve that one. Alone, report it."},
		{"INVESTIGATE_HOST", "A consequence of something else on the host, or out of band: look at its other logs."},
		{"INVESTIGATE_LINK_SI", "Look at the signal integrity of the link."},
		{"INVESTIGATE_LINK_SI_AND_CABLES", "Look at the signal integrity of the link, at cables, transceivers, seating and heat."},
		{"INVESTIGATE_PEER_DEVICE", "Look at the device at the far end of the link."},
		{"INVESTIGATE_SW", "Look for the mistake in software, the user's or NVIDIA's."},
		{"INVESTIGATE_SW_USER", "Find out which software or person did it, if nobody meant it."},
		{"INVESTIGATE_SW_USER_LINK_SI", "Find out which software or person did it; then look at the signal integrity of the link."},
		{"N/A Informational only regarding another Xid", "Resolve the other XID."},
		{"REPORT_ISSUE (if seen >1 per day)", "Report it if it comes more than once a day."},
		{"RESET_GPU", "Reset the GPU; the machine need not be restarted."},
		{"RESTART_APP", "Restart the application; the GPU needs no reset."},
		{"RESTART_BM", "Restart the machine."},
		{"RESTART_VM", "Restart the virtual machine that has the GPU."},
		{"SYMPATHETIC_REPORT_SOLO", "A consequence of another error: resolve that one. Alone, report it."},
		{"UPDATE_SWFW", "Update software and firmware."},
		{"WORKFLOW_NVLINK5_ERR", "Decode the line: see the table of XIDs 144 to 150."},
		{"WORKFLOW_NVLINK_ERR", "The registers in the line tell link faults from consequences; ECC faults of one link that repeat are the hardware's."},
		{"WORKFLOW_XID_13", "If it repeats on the same GPC and TPC, run diagnostics; else look at the application."},
		{"WORKFLOW_XID_31", "If it repeats on the same GPU, run diagnostics; else look at the application."},
		{"WORKFLOW_XID_45", "Alone, restart the fabric manager; else resolve the other XID."},
		{"WORKFLOW_XID_48", "Reset the GPU; with XID 63 or 64, drain it before. Run field diagnostics if SRAM errors exceed their threshold."},
		{"XID_137_FLOW", "Find the illegal access with a debugger; most often it is the application's."},
		{"XID_154", "Do what the line says."},
		{"XID_154_EVAL", "If an XID 154 came with it, do what that says; else restart the application."},
	}
}
