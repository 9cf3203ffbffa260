// SPDX-License-Identifier: Apache-2.0

package h100

import (
	"fmt"
	"slices"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// fact is one figure of the capture, as the capture prints it.
type fact struct {
	column     string // of a table; of a metric its name, without what tells totals and increments apart
	name       string // what the capture calls it, see the prefixes below
	idle, load string // in its two snapshots
	read       reader
}

// A name is that of a field of `nvidia-smi --query-gpu`, or begins with one of these.
const (
	inQuery  = "-q: "      // path in `nvidia-smi -q`
	inHead   = "head: "    // line of the capture's own head
	inVer    = "version: " // line of `nvidia-smi --version`
	ofNVLink = "nvlink: "  // count or lowest speed of the lines of `nvidia-smi nvlink -s`
)

// When `nvidia-smi --query-gpu` ran. `nvidia-smi -q` ran in the same second each time.
const (
	idleAt = "2026/07/14 08:12:38.696"
	loadAt = "2026/07/14 08:12:53.353"
)

// uuid is that of the GPU, as the capture masks it.
const uuid = "GPU-00000000-0000-0000-0000-000000000000"

// set puts the figure into a column.
func (f fact) set(r row, column, text string) error {
	cell, err := f.read(text)
	if err != nil {
		return fmt.Errorf("%s = %q: %w", f.name, text, err)
	}
	r[column] = cell
	return nil
}

func (f fact) text(load bool) string {
	if load {
		return f.load
	}
	return f.idle
}

func (f fact) metric() (schema.Metric, error) {
	all := schema.Metrics()
	i := slices.IndexFunc(all, func(m schema.Metric) bool { return m.Name == f.column })
	if i < 0 {
		return schema.Metric{}, fmt.Errorf("%s: there is no metric %s", f.name, f.column)
	}
	return all[i], nil
}

// sample puts the figure where gpu_samples has it. A counter's increment is known from the second
// reading on.
func (f fact) sample(r row, load bool) error {
	m, err := f.metric()
	if err != nil {
		return err
	}
	c, ok := m.SamplesColumn()
	switch {
	case !ok:
		return nil
	case m.Kind == schema.Counter:
		return f.increment(r, c.Name, load)
	default:
		return f.set(r, c.Name, f.text(load))
	}
}

// health puts the figure where gpu_health has it.
func (f fact) health(r row, load bool) error {
	m, err := f.metric()
	if err != nil {
		return err
	}
	for _, c := range m.HealthColumns() {
		if m.Kind == schema.Counter && !c.Counter {
			err = f.increment(r, c.Name, load)
		} else {
			err = f.set(r, c.Name, f.text(load))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// increment is what a counter gained from the first snapshot to the second.
func (f fact) increment(r row, column string, load bool) error {
	if !load {
		return nil
	}
	before, err := f.read(f.idle)
	if err != nil {
		return fmt.Errorf("%s = %q: %w", f.name, f.idle, err)
	}
	now, err := f.read(f.load)
	if err != nil {
		return fmt.Errorf("%s = %q: %w", f.name, f.load, err)
	}
	r[column] = integer(now.Int - before.Int)
	return nil
}

// second is one line of `nvidia-smi dmon`. Power is the driver's average over a second, cut to whole
// watts; sm and mem are the shares of time that gpu_utilization and memory_busy are. What dmon says of
// encoder, decoder, JPEG and optical flow (0 throughout) is read once a minute and not carried over.
type second struct {
	watts, celsius, memoryCelsius                 int64 // pwr, gtemp, mtemp
	smPercent, memoryPercent                      int64 // sm, mem
	encoder, decoder, jpeg, optical               int64 // enc, dec, jpg, ofa
	memoryClockMegahertz, processorClockMegahertz int64 // mclk, pclk
}

var idleSeconds = []second{
	{69, 41, 47, 0, 0, 0, 0, 0, 0, 2619, 345},
	{69, 41, 47, 0, 0, 0, 0, 0, 0, 2619, 345},
	{69, 41, 47, 0, 0, 0, 0, 0, 0, 2619, 345},
	{69, 41, 48, 0, 0, 0, 0, 0, 0, 2619, 345},
	{69, 41, 47, 0, 0, 0, 0, 0, 0, 2619, 345},
}

var loadSeconds = []second{
	{631, 63, 57, 100, 10, 0, 0, 0, 0, 2619, 1980},
	{634, 63, 58, 100, 10, 0, 0, 0, 0, 2619, 1980},
	{633, 64, 58, 100, 9, 0, 0, 0, 0, 2619, 1980},
	{634, 64, 59, 100, 9, 0, 0, 0, 0, 2619, 1980},
	{636, 65, 59, 100, 9, 0, 0, 0, 0, 2619, 1980},
}

func (s second) row(r row) row {
	for column, value := range map[string]int64{
		"power_average_watts": s.watts, "gpu_temperature_celsius": s.celsius, "memory_temperature_celsius": s.memoryCelsius,
		"gpu_utilization_permille": s.smPercent * 10, "memory_busy_permille": s.memoryPercent * 10,
		"memory_clock_megahertz": s.memoryClockMegahertz, "sm_clock_megahertz": s.processorClockMegahertz,
	} {
		r[column] = batch.Cell{Int: value, OK: true}
	}
	return r
}

// metricFacts become columns of gpu_samples and gpu_health, as the schema says.
var metricFacts = []fact{
	{"gpu_utilization_permille", "utilization.gpu", "0 %", "100 %", percent},
	{"memory_busy_permille", "utilization.memory", "0 %", "11 %", percent},
	{"memory_used_bytes", "memory.used", "0 MiB", "19818 MiB", mebibytes},
	{"gpu_temperature_celsius", "temperature.gpu", "41", "59", plain},
	{"memory_temperature_celsius", "temperature.memory", "48", "54", plain},
	{"temperature_margin_celsius", "temperature.gpu.tlimit", "46", "26", plain},
	{"sm_clock_megahertz", "clocks.current.sm", "345 MHz", "1980 MHz", megahertz},
	{"memory_clock_megahertz", "clocks.current.memory", "2619 MHz", "2619 MHz", megahertz},
	{"clocks_event_reasons", "clocks_event_reasons.active", "0x0000000000000001", "0x0000000000000000", bits},
	{"power_instant_watts", "power.draw.instant", "69.62 W", "625.68 W", watts},
	{"power_average_watts", "power.draw.average", "69.85 W", "631.95 W", watts},

	// nvml.h: the counters of power cap and sync boost are the fields PERF_POLICY_POWER and _SYNC_BOOST.
	{"throttle_power_microseconds", "clocks_event_reasons_counters.sw_power_cap", "0 us", "0 us", microseconds},
	{"throttle_sync_boost_microseconds", "clocks_event_reasons_counters.sync_boost", "0 us", "0 us", microseconds},
	{"throttle_software_thermal_microseconds", "clocks_event_reasons_counters.sw_thermal_slowdown", "0 us", "0 us", microseconds},
	{"throttle_hardware_thermal_microseconds", "clocks_event_reasons_counters.hw_thermal_slowdown", "0 us", "0 us", microseconds},
	{"throttle_power_brake_microseconds", "clocks_event_reasons_counters.hw_power_brake_slowdown", "0 us", "0 us", microseconds},

	{"performance_state", "pstate", "P0", "P0", oneOf("P0")},
	{"recovery_action", "gpu_recovery_action", "None", "None", oneOf("None")},
	{"encoder_utilization_permille", "utilization.encoder", "0 %", "0 %", percent},
	{"decoder_utilization_permille", "utilization.decoder", "0 %", "0 %", percent},
	{"jpeg_utilization_permille", "utilization.jpeg", "0 %", "0 %", percent},
	{"optical_flow_utilization_permille", "utilization.ofa", "0 %", "0 %", percent},
	{"bar1_used_bytes", inQuery + "BAR1 Memory Usage / Used", "1 MiB", "19819 MiB", mebibytes},
	{"memory_total_bytes", "memory.total", "81559 MiB", "81559 MiB", mebibytes},
	{"memory_reserved_bytes", "memory.reserved", "479 MiB", "479 MiB", mebibytes},
	{"power_limit_watts", inQuery + "GPU Power Readings / Current Power Limit", "700.00 W", "700.00 W", watts},
	{"power_limit_enforced_watts", "enforced.power.limit", "700.00 W", "700.00 W", watts},
	{"power_limit_requested_watts", "power.limit", "700.00 W", "700.00 W", watts},
	{"power_limit_default_watts", "power.default_limit", "700.00 W", "700.00 W", watts},

	{"graphics_clock_megahertz", "clocks.current.graphics", "345 MHz", "1980 MHz", megahertz},
	{"video_clock_megahertz", "clocks.current.video", "765 MHz", "1545 MHz", megahertz},
	{"edpp_multiplier_permille", "edpp_multiplier", "100.00 %", "100.00 %", percent},

	{"ecc_volatile_corrected_errors", "ecc.errors.corrected.volatile.total", "0", "0", plain},
	{"ecc_volatile_uncorrected_errors", "ecc.errors.uncorrected.volatile.total", "0", "0", plain},
	{"ecc_volatile_dram_corrected_errors", "ecc.errors.corrected.volatile.dram", "0", "0", plain},
	{"ecc_volatile_dram_uncorrected_errors", "ecc.errors.uncorrected.volatile.dram", "0", "0", plain},
	{"ecc_lifetime_corrected_errors", "ecc.errors.corrected.aggregate.total", "0", "0", plain},
	{"ecc_lifetime_uncorrected_errors", "ecc.errors.uncorrected.aggregate.total", "0", "0", plain},
	{"ecc_lifetime_dram_corrected_errors", "ecc.errors.corrected.aggregate.dram", "0", "0", plain},
	{"ecc_lifetime_dram_uncorrected_errors", "ecc.errors.uncorrected.aggregate.dram", "0", "0", plain},
	{"sram_lifetime_parity_errors", "ecc.errors.uncorrected.aggregate.sram.parity", "0", "0", plain},
	{"sram_lifetime_secded_errors", "ecc.errors.uncorrected.aggregate.sram.secded", "0", "0", plain},
	{"sram_lifetime_corrected_errors", "ecc.errors.corrected.aggregate.sram", "0", "0", plain},
	{"sram_volatile_parity_errors", "ecc.errors.uncorrected.volatile.sram.parity", "0", "0", plain},
	{"sram_volatile_secded_errors", "ecc.errors.uncorrected.volatile.sram.secded", "0", "0", plain},
	{"sram_volatile_corrected_errors", "ecc.errors.corrected.volatile.sram", "0", "0", plain},
	{"sram_l2_errors", "ecc.errors.uncorrected.aggregate.sram.l2", "0", "0", plain},
	{"sram_sm_errors", "ecc.errors.uncorrected.aggregate.sram.sm", "0", "0", plain},
	{"sram_pcie_errors", "ecc.errors.uncorrected.aggregate.sram.pcie", "0", "0", plain},
	{"sram_microcontroller_errors", "ecc.errors.uncorrected.aggregate.sram.mcu", "0", "0", plain},
	{"sram_other_errors", "ecc.errors.uncorrected.aggregate.sram.other", "0", "0", plain},
	{"sram_threshold_exceeded", "ecc.errors.uncorrected.aggregate.sram.thresholdExceeded", "No", "No", oneOf("No", "Yes")},

	{"remapped_rows_corrected", "remapped_rows.correctable", "0", "0", plain},
	{"remapped_rows_uncorrected", "remapped_rows.uncorrectable", "0", "0", plain},
	{"row_remap_pending", "remapped_rows.pending", "No", "No", oneOf("No", "Yes")},
	{"row_remap_failure", "remapped_rows.failure", "No", "No", oneOf("No", "Yes")},
	{"row_remap_banks_max", "remapped_rows.histogram.max", "2560", "2560", plain},
	{"row_remap_banks_high", "remapped_rows.histogram.high", "0", "0", plain},
	{"row_remap_banks_partial", "remapped_rows.histogram.partial", "0", "0", plain},
	{"row_remap_banks_low", "remapped_rows.histogram.low", "0", "0", plain},
	{"row_remap_banks_none", "remapped_rows.histogram.none", "0", "0", plain},
	{"pcie_link_generation", "pcie.link.gen.current", "5", "5", plain},
	{"pcie_link_width", "pcie.link.width.current", "16", "16", plain},
	{"pcie_replays", inQuery + "PCI / Replays Since Reset", "9", "9", plain},
	{"pcie_replay_rollovers", inQuery + "PCI / Replay Number Rollovers", "0", "0", plain},
	{"fabric_state", "fabric.state", "Completed", "Completed", oneOf("Not Supported", "Not Started", "In Progress", "Completed")},
	{"fabric_status", "fabric.status", "Success", "Success", oneOf("Success")},
}

// linkFacts were read once, before the idle snapshot.
var linkFacts = []fact{
	{"nvlink_active_links", ofNVLink + "count", "18", "18", plain},
	{"nvlink_speed_megabytes_per_second", ofNVLink + "speed", "26.562 GB/s", "26.562 GB/s", gigabytesPerSecond},
}

// gpuFacts become the row of gpu_inventory. Slot, tray and host are not among them: nvidia-smi -q calls
// them N/A, and the agent leaves them out for a GPU that is in no such rack. Nor is the fabric's cluster,
// whose UUID is all zeros.
var gpuFacts = []fact{
	{"gpu_uuid", "uuid", uuid, uuid, text},
	{"gpu_index", "index", "0", "0", plain},
	{"gpu_minor", inQuery + "Minor Number", "0", "0", plain},
	{"module_id", "platform.module_id", "7", "7", plain},
	{"model", "name", "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", text},
	{"architecture", inQuery + "Product Architecture", "Hopper", "Hopper", text},
	{"compute_capability", "compute_cap", "9.0", "9.0", text},
	{"serial_number", "serial", "0000000000000", "0000000000000", text},
	{"board_part_number", inQuery + "Board Part Number", "692-2G520-0200-000", "692-2G520-0200-000", text},
	{"pci_bus_id", "pci.bus_id", "00000000:00:09.0", "00000000:00:09.0", busID},
	{"vbios_version", "vbios_version", "96.00.A5.00.01", "96.00.A5.00.01", text},
	{"inforom_version", "inforom.img", "G520.0200.00.05", "G520.0200.00.05", text},
	{"gsp_firmware_version", inQuery + "GSP Firmware Version", "590.48.01", "590.48.01", text},
	{"memory_total_bytes", "memory.total", "81559 MiB", "81559 MiB", mebibytes},
	{"memory_reserved_bytes", "memory.reserved", "479 MiB", "479 MiB", mebibytes},
	{"power_limit_milliwatts", "enforced.power.limit", "700.00 W", "700.00 W", milliwatts},
	{"power_limit_default_milliwatts", "power.default_limit", "700.00 W", "700.00 W", milliwatts},
	{"power_limit_min_milliwatts", "power.min_limit", "200.00 W", "200.00 W", milliwatts},
	{"power_limit_max_milliwatts", "power.max_limit", "700.00 W", "700.00 W", milliwatts},
	{"sm_clock_max_megahertz", "clocks.max.sm", "1980 MHz", "1980 MHz", megahertz},
	{"memory_clock_max_megahertz", "clocks.max.memory", "2619 MHz", "2619 MHz", megahertz},
	{"slowdown_celsius", inQuery + "Temperature / GPU Slowdown T.Limit Temp", "-2 C", "-2 C", celsius},
	{"shutdown_celsius", inQuery + "Temperature / GPU Shutdown T.Limit Temp", "-8 C", "-8 C", celsius},
	{"gpu_max_celsius", inQuery + "Temperature / GPU Max Operating T.Limit Temp", "0 C", "0 C", celsius},
	{"memory_max_celsius", inQuery + "Temperature / Memory Max Operating T.Limit Temp", "0 C", "0 C", celsius},
	{"ecc_enabled", "ecc.mode.current", "Enabled", "Enabled", oneOf("Disabled", "Enabled")},
	{"mig_enabled", "mig.mode.current", "Disabled", "Disabled", oneOf("Disabled", "Enabled")},
	{"persistence_enabled", "persistence_mode", "Enabled", "Enabled", oneOf("Disabled", "Enabled")},
	{"nvlink_count", ofNVLink + "count", "18", "18", plain},
	{"pcie_max_generation", "pcie.link.gen.max", "5", "5", plain},
	{"pcie_max_width", "pcie.link.width.max", "16", "16", plain},
	{"fabric_clique_id", "fabric.cliqueId", "0", "0", plain},
}

// nodeFacts become the row of node_inventory.
var nodeFacts = []fact{
	{"operating_system", inHead + "os", "linux (Ubuntu 22.04.5 LTS)", "linux (Ubuntu 22.04.5 LTS)", inParentheses},
	{"kernel_version", inHead + "kernel", "5.15.0-185-generic", "5.15.0-185-generic", text},
	{"driver_version", "driver_version", "590.48.01", "590.48.01", text},
	{"nvml_version", inVer + "NVML version", "590.48", "590.48", text},
	{"cuda_version", inVer + "CUDA Version", "13.1", "13.1", text},
	{"gpu_count", "count", "1", "1", plain},
}
