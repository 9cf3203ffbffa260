// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"strconv"
)

var pcieMetrics = []Metric{
	{
		Name: "pcie_link_generation", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "PCIe generation of the link now. It falls when the GPU idles: compare under load only.",
		Sources: from(getter("nvmlDeviceGetCurrPcieLinkGeneration", 0)),
	},
	{
		Name: "pcie_link_width", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "PCIe lanes in use now.",
		Sources: from(getter("nvmlDeviceGetCurrPcieLinkGeneration", 1)),
	},
	{
		Name: "pcie_replays", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe replays.",
		Sources: from(field("DEV_PCIE_REPLAY_COUNTER")),
	},
	{
		Name: "pcie_replay_rollovers", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Rollovers of the PCIe replay counter.",
		Sources: from(field("DEV_PCIE_REPLAY_ROLLOVER_COUNTER")),
	},
	{
		Name: "pcie_l0_to_recovery", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe link transitions from L0 to recovery.",
		Sources: from(field("DEV_PCIE_L0_TO_RECOVERY_COUNTER")),
	},
	{
		Name: "pcie_correctable_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe correctable errors.",
		Sources: from(field("DEV_PCIE_COUNT_CORRECTABLE_ERRORS")),
	},
	{
		Name: "pcie_naks_received", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe NAKs received.",
		Sources: from(field("DEV_PCIE_COUNT_NAKS_RECEIVED")),
	},
	{
		Name: "pcie_naks_sent", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe NAKs sent.",
		Sources: from(field("DEV_PCIE_COUNT_NAKS_SENT")),
	},
	{
		Name: "pcie_receiver_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe receiver errors.",
		Sources: from(field("DEV_PCIE_COUNT_RECEIVER_ERROR")),
	},
	{
		Name: "pcie_bad_tlps", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Bad PCIe transaction layer packets.",
		Sources: from(field("DEV_PCIE_COUNT_BAD_TLP")),
	},
	{
		Name: "pcie_bad_dllps", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "Bad PCIe data link layer packets.",
		Sources: from(field("DEV_PCIE_COUNT_BAD_DLLP")),
	},
	{
		Name: "pcie_nonfatal_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe non-fatal errors.",
		Sources: from(field("DEV_PCIE_COUNT_NON_FATAL_ERROR")),
	},
	{
		Name: "pcie_fatal_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe fatal errors.",
		Sources: from(field("DEV_PCIE_COUNT_FATAL_ERROR")),
	},
	{
		Name: "pcie_unsupported_requests", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe unsupported requests.",
		Sources: from(field("DEV_PCIE_COUNT_UNSUPPORTED_REQ")),
	},
	{
		Name: "pcie_lcrc_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe link CRC errors.",
		Sources: from(field("DEV_PCIE_COUNT_LCRC_ERROR")),
	},
	{
		Name: "pcie_lane_errors", Type: Uint32, Kind: Counter, Tier: TierMinute, Unit: "{error}", OTel: "hw.errors",
		Meaning: "PCIe lane errors.",
		Sources: from(field("DEV_PCIE_COUNT_LANE_ERROR")),
	},
}

var nvlinkMetrics = []Metric{
	{
		Name: "nvlink_active_links", Type: Uint8, Tier: TierMinute, Unit: "{link}",
		Meaning: "NVLinks that are up.",
		Sources: from(linksIn("DEV_NVLINK_GET_STATE", 1)),
	},
	{
		Name: "nvlink_sleeping_links", Type: Uint8, Tier: TierMinute, Unit: "{link}",
		Meaning: "NVLinks that sleep.",
		Sources: from(linksIn("DEV_NVLINK_GET_STATE", 2)),
	},
	{
		Name: "nvlink_blocked_links", Type: Uint8, Tier: TierMinute, Unit: "{link}",
		Meaning: "NVLinks that are up, but closed to traffic.",
		Sources: from(linksIn("DEV_NVLINK_GET_STATE", 3)),
	},
	{
		Name: "nvlink_low_power_links", Type: Uint8, Tier: TierMinute, Unit: "{link}",
		Meaning: "NVLinks in their low power state.",
		Sources: from(linksIn("DEV_NVLINK_GET_POWER_STATE", 1)),
	},
	{
		Name: "nvlink_version", Type: Uint8, Kind: State, Tier: TierMinute, Unit: "1",
		Meaning: "NVLink version by its code in nvml.h: 4 is 3.0, 5 is 3.1, 6 is 4.0, 7 is 5.0, 8 is 6.0. The highest of the links.",
		Sources: from(perLink("DEV_NVLINK_GET_VERSION", Max)),
	},
	{
		Name: "nvlink_data_rate", Type: Uint32, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Data rate of one NVLink after error correction, the slowest, as the driver gives it: nvml.h names no unit.",
		Sources: from(perLink("DEV_NVLINK_GET_DATA_RATE", Min)),
	},
	{
		Name: "nvlink_speed_megabytes_per_second", Type: Uint32, Tier: TierMinute, Unit: "MBy/s",
		Meaning: "Speed of one NVLink, the slowest.",
		Sources: from(perLink("DEV_NVLINK_GET_SPEED", Min), field("DEV_NVLINK_SPEED_MBPS_COMMON")),
	},
	{
		Name: "nvlink_replay_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: upToH200, OTel: "hw.errors",
		Meaning: "NVLink replays, all links.",
		Sources: from(perLink("DEV_NVLINK_ERROR_DL_REPLAY", Sum), field("DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL")),
	},
	{
		Name: "nvlink_recovery_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: upToH200, OTel: "hw.errors",
		Meaning: "NVLink recoveries, all links.",
		Sources: from(perLink("DEV_NVLINK_ERROR_DL_RECOVERY", Sum), field("DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL")),
	},
	{
		Name: "nvlink_crc_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: upToH200, OTel: "hw.errors",
		Meaning: "NVLink CRC errors, all links.",
		Sources: from(perLink("DEV_NVLINK_ERROR_DL_CRC", Sum), field("DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL")),
	},
	{
		Name: "nvlink_crc_data_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: upToH200, OTel: "hw.errors",
		Meaning: "NVLink data CRC errors, all links.",
		Sources: from(field("DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL")),
	},
	{
		Name: "nvlink_ecc_data_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: upToH200, OTel: "hw.errors",
		Meaning: "NVLink data ECC errors, all links.",
		Sources: from(field("DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL")),
	},
	{
		Name: "nvlink5_tx_packets", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{packet}", Requires: blackwell,
		Meaning: "Packets sent, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_XMIT_PACKETS", Sum)),
	},
	{
		Name: "nvlink5_rx_packets", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{packet}", Requires: blackwell,
		Meaning: "Packets received, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RCV_PACKETS", Sum)),
	},
	{
		Name: "nvlink5_malformed_packets", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Malformed packets, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_MALFORMED_PACKET_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_buffer_overruns", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Receive buffer overruns, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_BUFFER_OVERRUN_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_rx_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Packets received with an error, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RCV_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_rx_remote_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Packets marked bad by the far end, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RCV_REMOTE_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_rx_general_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Other receive errors, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RCV_GENERAL_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_local_integrity_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Local link integrity errors, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_tx_discards", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Packets discarded before sending, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_XMIT_DISCARDS", Sum)),
	},
	{
		Name: "nvlink5_recoveries_successful", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{event}", Requires: blackwell,
		Meaning: "Successful link recoveries, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS", Sum)),
	},
	{
		Name: "nvlink5_recoveries_failed", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{event}", Requires: blackwell,
		Meaning: "Failed link recoveries, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS", Sum)),
	},
	{
		Name: "nvlink5_recoveries", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{event}", Requires: blackwell,
		Meaning: "Link recoveries, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS", Sum)),
	},
	{
		Name: "nvlink5_effective_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Errors after error correction, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_EFFECTIVE_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_symbol_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Symbol errors, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_SYMBOL_ERRORS", Sum)),
	},
	{
		Name: "nvlink5_plr_blocks", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{block}", Requires: blackwell,
		Meaning: "Blocks sent under physical layer retransmission, all links.",
		Sources: from(perLink("DEV_NVLINK_PLR_XMIT_BLOCKS", Sum)),
	},
	{
		Name: "nvlink5_plr_retry_blocks", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{block}", Requires: blackwell,
		Meaning: "Blocks sent again by physical layer retransmission, all links.",
		Sources: from(perLink("DEV_NVLINK_PLR_XMIT_RETRY_BLOCKS", Sum)),
	},
	{
		Name: "nvlink5_effective_bit_error_rate", Type: Float64, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Bit error rate after error correction, worst link.",
		Sources: from(bitErrorRate("DEV_NVLINK_COUNT_EFFECTIVE_BER")),
	},
	{
		Name: "nvlink5_symbol_bit_error_rate", Type: Float64, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Symbol bit error rate, worst link.",
		Sources: from(bitErrorRate("DEV_NVLINK_COUNT_SYMBOL_BER")),
	},
	{
		Name: "nvlink5_raw_bit_error_rate", Type: Float64, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Bit error rate before error correction, worst link.",
		Sources: from(bitErrorRate("DEV_NVLINK_COUNT_RAW_BER_V2"), bitErrorRate("DEV_NVLINK_COUNT_RAW_BER")),
	},
	{
		Name: "nvlink5_raw_lane0_bit_error_rate", Type: Float64, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Bit error rate before error correction on lane 0, worst link.",
		Sources: from(bitErrorRate("DEV_NVLINK_COUNT_RAW_BER_LANE0_V2"), bitErrorRate("DEV_NVLINK_COUNT_RAW_BER_LANE0")),
	},
	{
		Name: "nvlink5_raw_lane1_bit_error_rate", Type: Float64, Tier: TierMinute, Unit: "1", Requires: blackwell,
		Meaning: "Bit error rate before error correction on lane 1, worst link.",
		Sources: from(bitErrorRate("DEV_NVLINK_COUNT_RAW_BER_LANE1_V2"), bitErrorRate("DEV_NVLINK_COUNT_RAW_BER_LANE1")),
	},
	{
		Name: "nvlink5_raw_lane0_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Errors before error correction on lane 0, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RAW_ERRORS_LANE0", Sum)),
	},
	{
		Name: "nvlink5_raw_lane1_errors", Type: Uint64, Kind: Counter, Tier: TierMinute, Unit: "{error}", Requires: blackwell,
		Meaning: "Errors before error correction on lane 1, all links.",
		Sources: from(perLink("DEV_NVLINK_COUNT_RAW_ERRORS_LANE1", Sum)),
	},
}

// nvlink5Metrics are the bins of the forward error correction history: bin k counts the blocks in
// which k symbols were corrected.
func nvlink5Metrics() []Metric {
	bins := make([]Metric, 16)
	for k := range bins {
		bins[k] = Metric{
			Name: fmt.Sprintf("nvlink5_fec_history_%02d", k), Type: Uint64, Kind: Counter, Tier: TierMinute,
			Unit: "{block}", Requires: blackwell,
			Meaning: fmt.Sprintf("Blocks in which forward error correction mended %d symbols, all links.", k),
			Sources: from(perLink("DEV_NVLINK_COUNT_FEC_HISTORY_"+strconv.Itoa(k), Sum)),
		}
	}
	return bins
}
