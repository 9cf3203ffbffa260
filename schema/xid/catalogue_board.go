// SPDX-License-Identifier: Apache-2.0

package xid

var powerRows = []Entry{
	{
		Code: 54, Mnemonic: "SILENT_RUNNING_PWR_REDUCED_CLOCKING", Generations: Ampere | Hopper | Blackwell,
		Severity: Critical, Class: ThermalPower, Action: InspectHardware, Immediate: "CHECK_MECHANICALS", Investigatory: "CONTACT_SUPPORT",
		Cause: "The board's auxiliary power is not connected.",
	},
	{
		Code: 162, Mnemonic: "PSHC_REENGAGED", Generations: blackwellOn,
		Severity: Info, Class: ThermalPower, Action: NoAction,
		Cause: "The circuit that smooths the GPU's power works again.",
	},
	{
		Code: 163, Mnemonic: "PSHC_DISENGAGED", Generations: blackwellOn,
		Severity: Warning, Class: ThermalPower, Action: Watch,
		Cause: "The circuit that smooths the GPU's power switched itself off, for heat or after a time-out. After a time-out a reset brings it back.",
	},
	{
		Code: 164, Mnemonic: "PSHC_LOW_LIFETIME", Generations: blackwellOn,
		Severity: Warning, Class: ThermalPower, Action: Watch,
		Cause: "The circuit that smooths the GPU's power is near the end of its life.",
	},
	{
		Code: 165, Mnemonic: "PSHC_ZERO_LIFETIME", Generations: blackwellOn,
		Severity: Warning, Class: ThermalPower, Action: InspectHardware,
		Cause: "The circuit that smooths the GPU's power is worn out. Replace the GPU if the data centre cannot bear the swings.",
	},
}

var firmwareRows = []Entry{
	{
		Code: 37, Mnemonic: "ROBUST_CHANNEL_FECS_ERR_UNIMP_FIRMWARE_METHOD", Generations: everyGPU,
		Severity: Info, Class: Firmware, Action: NoAction, Immediate: "IGNORE", Investigatory: "CHECK_APP/CUDA",
		Cause: "The firmware that schedules the graphics engine was asked for a method that it does not have.",
	},
	{
		Code: 38, Mnemonic: "ROBUST_CHANNEL_FECS_ERR_WATCHDOG_TIMEOUT", Generations: everyGPU,
		Severity: Warning, Class: Firmware, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "The firmware that schedules the graphics engine did not answer its watchdog.",
	},
	{
		Code: 61, Mnemonic: "PMU_BREAKPOINT",
		Severity: Warning, Class: Firmware, Action: ResetGPU, Immediate: "CONTACT_SUPPORT",
		Cause: "The power management unit stopped at a breakpoint. NVIDIA lists the code as unused from A100 on.",
	},
	{
		Code: 62, Mnemonic: "PMU_HALT_ERROR", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: Firmware, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
		Cause: "A micro-controller of the GPU, the power management unit, halted.",
	},
	{
		Code: 93, Mnemonic: "INFOROM_ERASE_LIMIT_EXCEEDED", Generations: Ampere,
		Severity: Info, Class: Firmware, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "The InfoROM was not written, because somebody set a limit to its wear.",
	},
	{
		Code: 106, Mnemonic: "SMBPBI_TEST_MESSAGE", Generations: everyGPU,
		Severity: Info, Class: Firmware, Action: NoAction, Immediate: "IGNORE", Investigatory: "IGNORE",
		Cause: "A test message of the interface to the board's management controller.",
	},
	{
		Code: 107, Mnemonic: "SMBPBI_TEST_MESSAGE_SILENT", Generations: everyGPU,
		Severity: Info, Class: Firmware, Action: NoAction, Immediate: "IGNORE", Investigatory: "IGNORE",
		Cause: "A test message of the interface to the board's management controller.",
	},
	{
		Code: 119, Mnemonic: "GSP_RPC_TIMEOUT", Generations: everyGPU,
		Severity: Critical, Class: Firmware, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "INVESTIGATE_SW",
		Cause: "The GPU's system processor (GSP) did not answer a call of the driver in time.",
	},
	{
		Code: 120, Mnemonic: "GSP_ERROR", Generations: everyGPU, VerdictBranch: 565,
		Severity: Critical, Class: Firmware, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "INVESTIGATE_SW",
		Cause: "The firmware of the GPU's system processor (GSP) met an error.",
	},
	{
		Code: 158, Mnemonic: "GPU_FATAL_TIMEOUT", Generations: everyGPU, VerdictBranch: EveryBranch,
		Severity: Critical, Class: Firmware, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
		Cause: "The GPU did not answer in time, and will not recover by itself.",
	},
	{
		Code: 169, Mnemonic: "SEC2_HALT_ERROR", Generations: hopperOn,
		Severity: Critical, Class: Firmware, Action: ResetGPU,
		Cause: "A micro-controller of the GPU, the security processor SEC2, halted.",
	},
}

var driverRows = []Entry{
	{
		Code: 14, Mnemonic: "ROBUST_CHANNEL_FAKE_ERROR", Generations: everyGPU,
		Severity: Info, Class: Driver, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "Somebody injected a fault for a test.",
	},
	{
		Code: 66, Mnemonic: "ROBUST_CHANNEL_FECS_ERR_REG_ACCESS_VIOLATION", Generations: everyGPU,
		Severity: Info, Class: Driver, Action: NoAction, Immediate: "IGNORE", Investigatory: "INVESTIGATE_SW",
		Cause: "The driver accessed a register that it may not.",
	},
	{
		Code: 67, Mnemonic: "ROBUST_CHANNEL_FECS_ERR_VERIF_VIOLATION", Generations: everyGPU,
		Severity: Info, Class: Driver, Action: NoAction, Immediate: "IGNORE", Investigatory: "CONTACT_SUPPORT",
		Cause: "An access of the driver did not pass its verification.",
	},
	{
		Code: 78, Mnemonic: "VGPU_START_ERROR", Generations: everyGPU,
		Severity: Warning, Class: Driver, Action: Watch, Immediate: "UPDATE_SWFW", Investigatory: "UPDATE_SWFW",
		Cause: "A virtual GPU could not start: the drivers of guest and host do not fit, or the guest cannot have this type.",
	},
	{
		Code: 143, Mnemonic: "GPU_INIT_ERROR", Generations: hopperOn, VerdictBranch: 575,
		Severity: Critical, Class: Driver, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "CONTACT_SUPPORT",
		Cause: "The driver could not initialise the GPU.",
	},
	{
		Code: 154, Mnemonic: "GPU_RECOVERY_ACTION_CHANGED", Generations: everyGPU,
		Severity: Warning, Class: Driver, Action: FollowOther, Immediate: "XID_154", Investigatory: "N/A Informational only regarding another Xid",
		Cause: "The driver says what has to be done about other faults of the GPU. The line names the action.",
	},
}

var securityRows = []Entry{
	{
		Code: 110, Mnemonic: "SEC_FAULT_ERROR", Generations: hopperOn, VerdictBranch: 565,
		Severity: Critical, Class: Security, Action: ResetGPU, Immediate: "RESET_GPU", Investigatory: "INVESTIGATE_SW",
		Cause: "The GPU locked itself after a security fault. Without a change of hardware before, suspect the GPU; it may need a cold reset.",
	},
	{
		Code: 151, Mnemonic: "ROBUST_CHANNEL_KEY_ROTATION_ERROR", Generations: hopperOn,
		Severity: Warning, Class: Security, Action: RestartVM, Immediate: "RESTART_VM", Investigatory: "CONTACT_SUPPORT",
		Cause: "Confidential computing could not change its keys.",
	},
	{
		Code: 166, Mnemonic: "NVLINK_SECURE_CRYPTO_ERR", Generations: blackwellOn,
		Severity: Warning, Class: Security, Action: Watch,
		Cause: "Confidential computing met traffic on an NVLink that was not encrypted yet.",
	},
	{
		Code: 170, Mnemonic: "NVLINK_SECURE_OTHER", Generations: blackwellOn,
		Severity: Warning, Class: Security, Action: Watch,
		Cause: "An NVLink raised an interrupt that confidential computing does not expect.",
	},
}
