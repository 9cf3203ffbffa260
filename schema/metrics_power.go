// SPDX-License-Identifier: Apache-2.0

package schema

var smoothingMetrics = []Metric{
	{
		Name: "power_smoothing_enabled", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "1 if power smoothing is on.",
		Sources: from(field("PWR_SMOOTHING_ENABLED")),
	},
	{
		Name: "power_smoothing_ceiling_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Power smoothing: total module power ceiling in force.",
		Sources: from(scaled(field("PWR_SMOOTHING_APPLIED_TMP_CEIL"), 1000, 1)),
	},
	{
		Name: "power_smoothing_floor_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Power smoothing: total module power floor in force.",
		Sources: from(scaled(field("PWR_SMOOTHING_APPLIED_TMP_FLOOR"), 1000, 1)),
	},
	{
		Name: "power_smoothing_lifetime_remaining_permille", Type: Uint16, Tier: TierMinute, Unit: "‰", Requires: blackwell,
		Meaning: "Life left in the power smoothing circuit, in nvml.h a percentage in 16.16 fixed point.",
		Sources: from(scaled(field("PWR_SMOOTHING_HW_CIRCUITRY_PERCENT_LIFETIME_REMAINING"), 10, 65536)),
	},
	{
		Name: "power_smoothing_preset_profile", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Power smoothing preset profile in force.",
		Sources: from(field("PWR_SMOOTHING_ACTIVE_PRESET_PROFILE")),
	},
	{
		Name: "power_smoothing_privilege_level", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Privilege level at which power smoothing is controlled.",
		Sources: from(field("PWR_SMOOTHING_PRIV_LVL")),
	},
	{
		Name: "power_smoothing_immediate_ramp_down_enabled", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "1 if the power may fall at once when work ends.",
		Sources: from(field("PWR_SMOOTHING_IMM_RAMP_DOWN_ENABLED")),
	},
	{
		Name: "power_smoothing_floor_max_setting", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Highest floor that can be set, a share of the ceiling, as the driver gives it.",
		Sources: from(field("PWR_SMOOTHING_MAX_PERCENT_TMP_FLOOR_SETTING")),
	},
	{
		Name: "power_smoothing_floor_min_setting", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Lowest floor that can be set, a share of the ceiling, as the driver gives it.",
		Sources: from(field("PWR_SMOOTHING_MIN_PERCENT_TMP_FLOOR_SETTING")),
	},
	{
		Name: "power_smoothing_preset_profiles", Type: Uint8, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "How many preset profiles there are.",
		Sources: from(field("PWR_SMOOTHING_MAX_NUM_PRESET_PROFILES")),
	},
	{
		Name: "power_smoothing_override_floor_setting", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Floor that an administrator has set, a share of the ceiling, as the driver gives it; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_PERCENT_TMP_FLOOR"))),
	},
	{
		Name: "power_smoothing_override_ramp_up_milliwatts_per_second", Type: Uint32, Tier: TierMinute, Unit: "mW/s", Requires: blackwell,
		Meaning: "Fastest rise of the power that an administrator has set; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_UP_RATE"))),
	},
	{
		Name: "power_smoothing_override_ramp_down_milliwatts_per_second", Type: Uint32, Tier: TierMinute, Unit: "mW/s", Requires: blackwell,
		Meaning: "Fastest fall of the power that an administrator has set; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_DOWN_RATE"))),
	},
	{
		Name: "power_smoothing_override_ramp_down_hysteresis_milliseconds", Type: Uint32, Tier: TierMinute, Unit: "ms", Requires: blackwell,
		Meaning: "Wait before the power falls that an administrator has set; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_DOWN_HYST_VAL"))),
	},
	{
		Name: "power_smoothing_primary_floor_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Primary power floor in force.",
		Sources: from(scaled(field("PWR_SMOOTHING_PRIMARY_POWER_FLOOR"), 1000, 1)),
	},
	{
		Name: "power_smoothing_secondary_floor_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Secondary power floor, which holds while there is work.",
		Sources: from(scaled(field("PWR_SMOOTHING_SECONDARY_POWER_FLOOR"), 1000, 1)),
	},
	{
		Name: "power_smoothing_activation_offset_min_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Smallest offset above the secondary floor at which the primary one takes over.",
		Sources: from(scaled(field("PWR_SMOOTHING_MIN_PRIMARY_FLOOR_ACT_OFFSET"), 1000, 1)),
	},
	{
		Name: "power_smoothing_activation_point_min_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Lowest power at which the primary floor takes over.",
		Sources: from(scaled(field("PWR_SMOOTHING_MIN_PRIMARY_FLOOR_ACT_POINT"), 1000, 1)),
	},
	{
		Name: "power_smoothing_window_unit_milliseconds", Type: Uint32, Tier: TierMinute, Unit: "ms", Requires: blackwell,
		Meaning: "Unit in which the lengths of the averaging windows are set.",
		Sources: from(field("PWR_SMOOTHING_WINDOW_MULTIPLIER")),
	},
	{
		Name: "power_smoothing_delayed_supported", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "1 if the GPU has delayed power smoothing.",
		Sources: from(field("PWR_SMOOTHING_DELAYED_PWR_SMOOTHING_SUPPORTED")),
	},
	{
		Name: "power_smoothing_override_secondary_floor_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Secondary power floor that an administrator has set; NULL if there is none.",
		Sources: from(ifSet(scaled(field("PWR_SMOOTHING_ADMIN_OVERRIDE_SECONDARY_POWER_FLOOR"), 1000, 1))),
	},
	{
		Name: "power_smoothing_override_activation_window", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Length of the window that decides which floor holds, as an administrator has set it, in window units; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_PRIMARY_FLOOR_ACT_WIN_MULT"))),
	},
	{
		Name: "power_smoothing_override_target_window", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Length of the window that sets the primary floor, as an administrator has set it, in window units; NULL if there is none.",
		Sources: from(ifSet(field("PWR_SMOOTHING_ADMIN_OVERRIDE_PRIMARY_FLOOR_TAR_WIN_MULT"))),
	},
	{
		Name: "power_smoothing_override_activation_offset_milliwatts", Type: Uint32, Tier: TierMinute, Unit: "mW", Requires: blackwell,
		Meaning: "Offset above the secondary floor at which the primary one takes over, as an administrator has set it; NULL if there is none.",
		Sources: from(ifSet(scaled(field("PWR_SMOOTHING_ADMIN_OVERRIDE_PRIMARY_FLOOR_ACT_OFFSET"), 1000, 1))),
	},
	{
		Name: "power_smoothing_state_of_charge_enabled", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "1 if power smoothing by state of charge is on.",
		Sources: from(field("PWR_SMOOTHING_SOC_POWER_SMOOTHING_ENABLED")),
	},
}
