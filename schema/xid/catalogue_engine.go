// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"fmt"
	"strconv"
)

// engineRows are the faults of compute and copy engines.
func engineRows() []Entry {
	list := []Entry{
		{
			Code: 44, Mnemonic: "ROBUST_CHANNEL_GR_FAULT_DURING_CTXSW", Generations: everyGPU,
			Severity: Warning, Class: Engine, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
			Cause: "The graphics engine met a fault while it switched contexts.",
		},
		{
			Code: 46, Mnemonic: "ROBUST_CHANNEL_GPU_TIMEOUT_ERROR", Generations: everyGPU,
			Severity: Critical, Class: Engine, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
			Cause: "The GPU stopped processing and did not come back in time.",
		},
		{
			Code: 109, Mnemonic: "ROBUST_CHANNEL_CTXSW_TIMEOUT_ERROR", Generations: everyGPU, VerdictBranch: 570,
			Severity: Critical, Class: Engine, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
			Cause: "The GPU did not switch to another context in time.",
		},
		{
			Code: 141, Mnemonic: "ROBUST_CHANNEL_FAST_PATH_ERROR", Generations: hopperOn,
			Severity: Info, Class: Engine, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
			Cause: "CUDA's fast path to the GPU met an error.",
		},
		{
			Code: 152, Mnemonic: "ROBUST_CHANNEL_DLA_SMMU_ERROR",
			Severity: Info, Class: Engine, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
			Cause: "A deep learning accelerator (DLA) used an address that is not mapped. Data centre GPUs have none.",
		},
		{
			Code: 153, Mnemonic: "ROBUST_CHANNEL_DLA_TIMEOUT",
			Severity: Info, Class: Engine, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
			Cause: "A deep learning accelerator (DLA) did not answer in time. Data centre GPUs have none.",
		},
		{
			Code: 156, Mnemonic: "RESOURCE_RETIREMENT_EVENT", Generations: hopperOn, VerdictBranch: 565,
			Severity: Warning, Class: Engine, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "IGNORE",
			Cause: "A part of the GPU, such as a TPC, is retired after errors. The reset replaces it by a spare one.",
		},
		{
			Code: 157, Mnemonic: "RESOURCE_RETIREMENT_FAILURE", Generations: hopperOn,
			Severity: Warning, Class: Engine, Action: Watch, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
			Cause: "A part of the GPU should be retired, and no spare one is left. Work goes on, and may meet the fault again.",
		},
	}
	return append(list, copyEngineRows()...)
}

// copyEngineRows are the rows of copy engines 0 to 19: the same fault, one code for each.
func copyEngineRows() []Entry {
	codes := [...]uint32{39, 40, 41, 70, 71, 72, 75, 76, 77, 85, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135}
	const ofBlackwell = 10 // the first copy engine that older GPUs do not have
	list := make([]Entry, len(codes))
	for i, code := range codes {
		list[i] = Entry{
			Code: code, Mnemonic: fmt.Sprintf("ROBUST_CHANNEL_CE%d_ERROR", i), Generations: everyGPU,
			Severity: Warning, Class: Engine, Action: RestartApp, Immediate: "RESTART_APP", Investigatory: "CONTACT_SUPPORT",
			Cause: "Copy engine " + strconv.Itoa(i) + " met an error.",
		}
		if i >= ofBlackwell {
			list[i].Generations = blackwellOn
		}
	}
	return list
}
