// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// returnDeprecated is NVML_ERROR_DEPRECATED: what the captures show as "Requested functionality has been
// deprecated".
const returnDeprecated gpu.Return = 26

// mostLinks is NVML_NVLINK_MAX_LINKS: a higher scope is no link of any GPU.
const mostLinks = 18

// answer puts the value of one field into v, for one scope.
type answer func(b *board, scope uint32, v *gpu.FieldValue)

// answers is what a model on a driver release answers, by field id. A nil entry is "not supported"; an id
// beyond the end is unknown to the release.
type answers []answer

// newAnswers numbers the fields of a model as its driver release does.
func newAnswers(s *spec, sw *software) answers {
	list := make(answers, sw.fieldLimit)
	groups := []map[string]answer{commonFields(s), countedFields()}
	if s.gpm {
		groups = append(groups, hopperFields(s))
	}
	if s.nvlink5 {
		groups = append(groups, nvlink5Fields(s), smoothingFields(s))
	} else {
		groups = append(groups, nvlink4Fields(s))
	}
	if s.grace {
		groups = append(groups, graceFields(s))
	}
	if sw.inactiveRows {
		groups = append(groups, inactiveRowFields())
	}
	for _, group := range groups {
		for name, a := range group {
			if id, ok := gpu.FieldID(name, sw.numbering); ok && id < sw.fieldLimit {
				list[id] = a
			}
		}
	}
	for _, id := range sw.unknownFields {
		list[id] = refused(gpu.InvalidArgument)
	}
	return list
}

// fill answers the fields that are asked for.
func (list answers) fill(b *board, values []gpu.FieldValue) {
	for i := range values {
		v := &values[i]
		switch {
		case v.FieldID >= uint32(len(list)):
			v.Return = gpu.InvalidArgument
		case list[v.FieldID] == nil:
			v.Return = gpu.NotSupported
		default:
			list[v.FieldID](b, v.ScopeID, v)
		}
	}
}

// number32, number64 and signed answer with a value of that type, whatever the scope.
func number32(value func(b *board) uint32) answer {
	return func(b *board, _ uint32, v *gpu.FieldValue) { v.SetUint32(value(b)) }
}

func number64(value func(b *board) uint64) answer {
	return func(b *board, _ uint32, v *gpu.FieldValue) { v.SetUint64(value(b)) }
}

func constant32(value uint32) answer { return number32(func(*board) uint32 { return value }) }

func signed(value int64) answer {
	return func(_ *board, _ uint32, v *gpu.FieldValue) { v.SetInt32(int32(value)) }
}

func refused(ret gpu.Return) answer {
	return func(_ *board, _ uint32, v *gpu.FieldValue) { v.Return = ret }
}

// perLink answers for one link, and for all of them where the field allows it (all is not nil).
func perLink(links int, one func(b *board, link uint32) uint64, all func(b *board) uint64) answer {
	return func(b *board, scope uint32, v *gpu.FieldValue) {
		switch {
		case scope == gpu.ScopeAll && all != nil:
			v.SetUint64(all(b))
		case scope < uint32(links):
			v.SetUint64(one(b, scope))
		case scope < mostLinks:
			v.Return = gpu.NotSupported
		default:
			v.Return = gpu.InvalidArgument
		}
	}
}

// powerScoped answers the power fields: for the GPU, and for the module where there is one.
func powerScoped(alone, module func(b *board) uint32) answer {
	return func(b *board, scope uint32, v *gpu.FieldValue) {
		switch {
		case scope == 0:
			v.SetUint32(alone(b))
		case scope == 1 && b.spec.grace:
			v.SetUint32(module(b))
		default:
			v.Return = gpu.NotSupported
		}
	}
}

// moduleMilliwatts is the power of a module of two GPUs and a Grace CPU: 467 W where the GPUs draw 166 W each
// (GB200 capture). The other GPU is taken to draw as much as this one.
func moduleMilliwatts(milliwatts uint32) uint32 { return 2*milliwatts + 135_500 + milliwatts/10 }

func limitMilliwatts(b *board) uint32       { return uint32(b.spec.limitWatts * 1000) }
func moduleLimitMilliwatts(b *board) uint32 { return uint32(b.spec.limitWatts*2000) + 100_000 }

// commonFields are those that every model from A100 on answers. That the error counters by location other
// than device memory, and the retired pages, are not among them is what the captures show.
func commonFields(s *spec) map[string]answer {
	powerLimit := powerScoped(limitMilliwatts, moduleLimitMilliwatts)
	instant := powerScoped((*board).milliwatts, func(b *board) uint32 { return moduleMilliwatts(b.milliwatts()) })
	return map[string]answer{
		"DEV_MEMORY_TEMP":                number32(func(b *board) uint32 { return uint32(math.Round(b.hbm)) }),
		"DEV_POWER_INSTANT":              instant,
		"DEV_POWER_MIN_LIMIT":            constant32(uint32(s.minimumWatts * 1000)),
		"DEV_POWER_MAX_LIMIT":            powerLimit,
		"DEV_POWER_DEFAULT_LIMIT":        powerLimit,
		"DEV_POWER_CURRENT_LIMIT":        powerLimit,
		"DEV_POWER_REQUESTED_LIMIT":      powerLimit,
		"DEV_NVLINK_LINK_COUNT":          constant32(uint32(s.links)),
		"DEV_NVLINK_SPEED_MBPS_COMMON":   constant32(s.linkMegabytes),
		"DEV_NVLINK_GET_SPEED":           perLink(s.links, func(b *board, link uint32) uint64 { return b.linkUp(link) * uint64(b.spec.linkMegabytes) }, nil),
		"DEV_NVLINK_GET_STATE":           perLink(s.links, (*board).linkUp, nil),
		"DEV_NVLINK_GET_VERSION":         perLink(s.links, func(b *board, _ uint32) uint64 { return b.spec.linkVersion() }, nil),
		"DEV_NVLINK_GET_POWER_STATE":     perLink(s.links, func(*board, uint32) uint64 { return 0 }, nil),
		"DEV_RESET_STATUS":               refused(returnDeprecated),
		"DEV_DRAIN_AND_RESET_STATUS":     refused(returnDeprecated),
		"DEV_GET_GPU_RECOVERY_ACTION":    number32(func(b *board) uint32 { return b.fault.recovery }),
		"DEV_REMAPPED_COR":               number32(func(b *board) uint32 { return uint32(b.lifetime(saltRemapped, 0.0004)) }),
		"DEV_REMAPPED_UNC":               number32(func(b *board) uint32 { return b.fault.remapped }),
		"DEV_REMAPPED_PENDING":           number32(func(b *board) uint32 { return bit(b.fault.remapPending) }),
		"DEV_REMAPPED_FAILURE":           constant32(0),
		"DEV_TEMPERATURE_GPU_MAX_TLIMIT": signed(s.gpuMaxCelsius),
		"DEV_TEMPERATURE_MEM_MAX_TLIMIT": signed(s.memoryMaxCelsius),
	}
}

// countedFields count since the driver was loaded, or over the GPU's life.
func countedFields() map[string]answer {
	energy := number64(func(b *board) uint64 { return b.count.energy / 1000 })
	return map[string]answer{
		"DEV_TOTAL_ENERGY_CONSUMPTION":                    energy,
		"DEV_ENERGY":                                      energy,
		"DEV_PERF_POLICY_POWER":                           number64(func(b *board) uint64 { return b.count.powerCap }),
		"DEV_PERF_POLICY_THERMAL":                         number64(func(b *board) uint64 { return b.count.thermal }),
		"DEV_PERF_POLICY_SYNC_BOOST":                      number64(func(*board) uint64 { return 0 }),
		"DEV_PERF_POLICY_BOARD_LIMIT":                     number64(func(*board) uint64 { return 0 }),
		"DEV_PERF_POLICY_LOW_UTILIZATION":                 number64(func(b *board) uint64 { return b.count.lowUtilization }),
		"DEV_PERF_POLICY_RELIABILITY":                     number64(func(*board) uint64 { return 0 }),
		"DEV_PERF_POLICY_TOTAL_APP_CLOCKS":                number64(func(b *board) uint64 { return b.count.belowMaximum }),
		"DEV_PERF_POLICY_TOTAL_BASE_CLOCKS":               number64(func(b *board) uint64 { return b.count.belowBase }),
		"DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN":       number64(func(b *board) uint64 { return b.count.softwareThermal }),
		"DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN":       number64(func(b *board) uint64 { return b.count.hardwareThermal }),
		"DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN": number64(func(*board) uint64 { return 0 }),
		"DEV_PCIE_COUNT_TX_BYTES":                         number32(func(b *board) uint32 { return uint32(b.count.pcieSent) }),
		"DEV_PCIE_COUNT_RX_BYTES":                         number32(func(b *board) uint32 { return uint32(b.count.pcieGot) }),
		"DEV_PCIE_REPLAY_COUNTER":                         sinceLoad32(saltReplays, 0.03),
		"DEV_PCIE_REPLAY_ROLLOVER_COUNTER":                constant32(0),
		"DEV_PCIE_L0_TO_RECOVERY_COUNTER":                 sinceLoad32(saltRecoveries, 0.01),
		"DEV_ECC_SBE_VOL_TOTAL":                           number64((*board).corrected),
		"DEV_ECC_SBE_VOL_DEV":                             number64((*board).correctedDRAM),
		"DEV_ECC_SBE_AGG_TOTAL":                           number64((*board).correctedLifetime),
		"DEV_ECC_SBE_AGG_DEV":                             number64((*board).correctedDRAMLifetime),
		"DEV_ECC_DBE_VOL_TOTAL":                           number64(func(b *board) uint64 { return b.fault.uncorrected }),
		"DEV_ECC_DBE_VOL_DEV":                             number64(func(b *board) uint64 { return b.fault.uncorrected }),
		"DEV_ECC_DBE_AGG_TOTAL":                           number64(func(b *board) uint64 { return b.fault.uncorrectedLifetime }),
		"DEV_ECC_DBE_AGG_DEV":                             number64(func(b *board) uint64 { return b.fault.uncorrectedLifetime }),
	}
}

// hopperFields came with Hopper: the power average (not on GA100: nvml.h), the limits as margins, the PCIe
// error counters.
func hopperFields(s *spec) map[string]answer {
	average := func(b *board) uint32 { return b.rings.averageMilliwatts(b.quantum) }
	fields := map[string]answer{
		"DEV_POWER_AVERAGE":               powerScoped(average, func(b *board) uint32 { return moduleMilliwatts(average(b)) }),
		"DEV_TEMPERATURE_SHUTDOWN_TLIMIT": signed(s.shutdownCelsius),
		"DEV_TEMPERATURE_SLOWDOWN_TLIMIT": signed(s.slowdownCelsius),
	}
	for i, name := range []string{
		"CORRECTABLE_ERRORS", "NAKS_RECEIVED", "RECEIVER_ERROR", "BAD_TLP", "NAKS_SENT", "BAD_DLLP",
		"NON_FATAL_ERROR", "FATAL_ERROR", "UNSUPPORTED_REQ", "LCRC_ERROR", "LANE_ERROR",
	} {
		perHour := []float64{0.05, 0.01, 0.02, 0.01, 0.01, 0.01, 0, 0, 0.02, 0.005, 0}[i]
		fields["DEV_PCIE_COUNT_"+name] = sinceLoad32(saltPCIe+uint64(i), perHour)
	}
	return fields
}

// linkVersion is nvml.h's code of the NVLink version.
func (s *spec) linkVersion() uint64 {
	switch {
	case s.nvlink5:
		return 7
	case s.gpm:
		return 6
	default:
		return 4
	}
}

// inactiveRowFields came with the newest headers (go-nvml v0.13.4-1).
func inactiveRowFields() map[string]answer {
	return map[string]answer{
		"DEV_REMAPPED_ROWS_COR_INACTIVE": constant32(0),
		"DEV_REMAPPED_ROWS_UNC_INACTIVE": number32(func(b *board) uint32 { return bit(b.fault.remapPending) }),
	}
}

// notSet is NVML_POWER_SMOOTHING_ADMIN_OVERRIDE_NOT_SET.
const notSet = math.MaxUint32

// smoothingFields are the power smoothing of B200 and GB200, in the units of nvml.h: W, and percent in 16.16
// fixed point.
func smoothingFields(s *spec) map[string]answer {
	fields := map[string]answer{
		"PWR_SMOOTHING_ENABLED":                                 constant32(0),
		"PWR_SMOOTHING_APPLIED_TMP_CEIL":                        constant32(uint32(s.limitWatts)),
		"PWR_SMOOTHING_APPLIED_TMP_FLOOR":                       constant32(0),
		"PWR_SMOOTHING_HW_CIRCUITRY_PERCENT_LIFETIME_REMAINING": constant32(100 << 16),
		"PWR_SMOOTHING_ACTIVE_PRESET_PROFILE":                   constant32(0),
		"PWR_SMOOTHING_PRIV_LVL":                                constant32(0),
		"PWR_SMOOTHING_IMM_RAMP_DOWN_ENABLED":                   constant32(0),
		"PWR_SMOOTHING_MAX_PERCENT_TMP_FLOOR_SETTING":           constant32(90 << 16),
		"PWR_SMOOTHING_MIN_PERCENT_TMP_FLOOR_SETTING":           constant32(50 << 16),
		"PWR_SMOOTHING_MAX_NUM_PRESET_PROFILES":                 constant32(5),
		"PWR_SMOOTHING_ADMIN_OVERRIDE_PERCENT_TMP_FLOOR":        constant32(notSet),
		"PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_UP_RATE":             constant32(notSet),
		"PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_DOWN_RATE":           constant32(notSet),
		"PWR_SMOOTHING_ADMIN_OVERRIDE_RAMP_DOWN_HYST_VAL":       constant32(notSet),
		"PWR_SMOOTHING_PRIMARY_POWER_FLOOR":                     constant32(0),
		"PWR_SMOOTHING_DELAYED_PWR_SMOOTHING_SUPPORTED":         constant32(0),
	}
	if s.smoothing != gpu.Success {
		for name := range fields {
			fields[name] = refused(s.smoothing)
		}
	}
	fields["DEV_MMA_STALL_PERCENT"] = number32(func(b *board) uint32 { return uint32(9 * b.demand.tensor) })
	return fields
}

// graceFields are those of a GPU that shares a module with a Grace CPU.
func graceFields(s *spec) map[string]answer {
	const links, megabytes = 10, 44712
	up := func(*board, uint32) uint64 { return 1 }
	return map[string]answer{
		"DEV_C2C_LINK_COUNT":            constant32(links),
		"DEV_C2C_LINK_GET_STATUS":       perLink(links, up, nil),
		"DEV_C2C_LINK_GET_MAX_BW":       constant32(megabytes),
		"DEV_C2C_LINK_ERROR_INTR":       sinceLoad64(saltC2C, 0.001),
		"DEV_C2C_LINK_ERROR_REPLAY":     sinceLoad64(saltC2C+1, 0.02),
		"DEV_C2C_LINK_ERROR_REPLAY_B2B": sinceLoad64(saltC2C+2, 0.002),
		"DEV_C2C_LINK_POWER_STATE":      constant32(0),
		"DEV_POWER_SYNC_BALANCING_FREQ": number32(func(b *board) uint32 { return uint32(uint64(b.done.sm * s.maxMegahertz / float64(quantaPerSecond))) }),
		"DEV_POWER_SYNC_BALANCING_AF":   number32(func(b *board) uint32 { return uint32(uint64(b.done.tensor * 1000 / float64(quantaPerSecond))) }),
	}
}

// fecField is the name of one bin of the forward error correction history.
func fecField(bin int) string { return fmt.Sprintf("DEV_NVLINK_COUNT_FEC_HISTORY_%d", bin) }

func bit(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}
