// SPDX-License-Identifier: Apache-2.0

package schema

var eccMetrics = []Metric{
	{
		Name: "ecc_volatile_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded, all locations.",
		Sources: from(field("DEV_ECC_SBE_VOL_TOTAL")),
	},
	{
		Name: "ecc_volatile_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded, all locations.",
		Sources: from(field("DEV_ECC_DBE_VOL_TOTAL")),
	},
	{
		Name: "ecc_volatile_l1_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded: L1 cache.",
		Sources: from(field("DEV_ECC_SBE_VOL_L1")),
	},
	{
		Name: "ecc_volatile_l1_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: L1 cache.",
		Sources: from(field("DEV_ECC_DBE_VOL_L1")),
	},
	{
		Name: "ecc_volatile_l2_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded: L2 cache.",
		Sources: from(field("DEV_ECC_SBE_VOL_L2")),
	},
	{
		Name: "ecc_volatile_l2_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: L2 cache.",
		Sources: from(field("DEV_ECC_DBE_VOL_L2")),
	},
	{
		Name: "ecc_volatile_dram_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded: device memory.",
		Sources: from(field("DEV_ECC_SBE_VOL_DEV")),
	},
	{
		Name: "ecc_volatile_dram_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: device memory.",
		Sources: from(field("DEV_ECC_DBE_VOL_DEV")),
	},
	{
		Name: "ecc_volatile_register_file_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded: register file.",
		Sources: from(field("DEV_ECC_SBE_VOL_REG")),
	},
	{
		Name: "ecc_volatile_register_file_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: register file.",
		Sources: from(field("DEV_ECC_DBE_VOL_REG")),
	},
	{
		Name: "ecc_volatile_texture_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors since the driver was loaded: texture memory.",
		Sources: from(field("DEV_ECC_SBE_VOL_TEX")),
	},
	{
		Name: "ecc_volatile_texture_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: texture memory.",
		Sources: from(field("DEV_ECC_DBE_VOL_TEX")),
	},
	{
		Name: "ecc_volatile_cbu_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors since the driver was loaded: convergence barrier unit.",
		Sources: from(field("DEV_ECC_DBE_VOL_CBU")),
	},
	{
		Name: "ecc_lifetime_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU, all locations.",
		Sources: from(field("DEV_ECC_SBE_AGG_TOTAL")),
	},
	{
		Name: "ecc_lifetime_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU, all locations.",
		Sources: from(field("DEV_ECC_DBE_AGG_TOTAL")),
	},
	{
		Name: "ecc_lifetime_l1_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU: L1 cache.",
		Sources: from(field("DEV_ECC_SBE_AGG_L1")),
	},
	{
		Name: "ecc_lifetime_l1_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: L1 cache.",
		Sources: from(field("DEV_ECC_DBE_AGG_L1")),
	},
	{
		Name: "ecc_lifetime_l2_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU: L2 cache.",
		Sources: from(field("DEV_ECC_SBE_AGG_L2")),
	},
	{
		Name: "ecc_lifetime_l2_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: L2 cache.",
		Sources: from(field("DEV_ECC_DBE_AGG_L2")),
	},
	{
		Name: "ecc_lifetime_dram_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU: device memory.",
		Sources: from(field("DEV_ECC_SBE_AGG_DEV")),
	},
	{
		Name: "ecc_lifetime_dram_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: device memory.",
		Sources: from(field("DEV_ECC_DBE_AGG_DEV")),
	},
	{
		Name: "ecc_lifetime_register_file_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU: register file.",
		Sources: from(field("DEV_ECC_SBE_AGG_REG")),
	},
	{
		Name: "ecc_lifetime_register_file_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: register file.",
		Sources: from(field("DEV_ECC_DBE_AGG_REG")),
	},
	{
		Name: "ecc_lifetime_texture_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Corrected memory errors over the life of the GPU: texture memory.",
		Sources: from(field("DEV_ECC_SBE_AGG_TEX")),
	},
	{
		Name: "ecc_lifetime_texture_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: texture memory.",
		Sources: from(field("DEV_ECC_DBE_AGG_TEX")),
	},
	{
		Name: "ecc_lifetime_cbu_uncorrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Uncorrected memory errors over the life of the GPU: convergence barrier unit.",
		Sources: from(field("DEV_ECC_DBE_AGG_CBU")),
	},
	{
		Name: "sram_lifetime_parity_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected parity errors over the life of the GPU. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 0)),
	},
	{
		Name: "sram_lifetime_secded_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected SEC-DED errors over the life of the GPU. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 1)),
	},
	{
		Name: "sram_lifetime_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM corrected errors over the life of the GPU. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 2)),
	},
	{
		Name: "sram_volatile_parity_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected parity errors since the driver was loaded. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 3)),
	},
	{
		Name: "sram_volatile_secded_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected SEC-DED errors since the driver was loaded. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 4)),
	},
	{
		Name: "sram_volatile_corrected_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM corrected errors since the driver was loaded. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 5)),
	},
	{
		Name: "sram_l2_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected errors over the life of the GPU: L2 cache. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 6)),
	},
	{
		Name: "sram_sm_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected errors over the life of the GPU: multiprocessors. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 7)),
	},
	{
		Name: "sram_pcie_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected errors over the life of the GPU: PCIe. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 8)),
	},
	{
		Name: "sram_microcontroller_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected errors over the life of the GPU: microcontrollers. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 9)),
	},
	{
		Name: "sram_other_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "SRAM uncorrected errors over the life of the GPU: elsewhere. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 10)),
	},
	{
		Name: "sram_threshold_exceeded", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "1 if the SRAM error threshold was exceeded: a reason to replace the GPU. Needs root.",
		Sources: from(getter("nvmlDeviceGetSramEccErrorStatus", 11)),
	},
}
