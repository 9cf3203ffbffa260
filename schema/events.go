// SPDX-License-Identifier: Apache-2.0

package schema

import "slices"

// eventsTable holds what happens. A row is never changed: what becomes known later of a fault is a row of
// its own, with the same fault_id, ts and gpu_id: so a view can look for faults of a time or GPU before it
// puts their rows together. The rows of one GPU lie together, as its node's do, and the index finds them.
func eventsTable() Table {
	columns := slices.Concat(
		[]Column{timeColumn("When it happened, or was first seen; the same in all rows of a fault.")},
		stamped(),
		[]Column{
			{Name: ColumnGPU, Type: Uint64, Nullable: true, Meaning: "GPU that it concerns; NULL if it concerns the node."},
			{Name: "kind", Type: Name, Meaning: "What happened: see the list of event kinds in docs/metrics.md."},
			{Name: "source", Type: Name, Meaning: "Who says so: agent, nvml, kernel, counter, cloud, network; of a fault all that say so, with commas between them."},
			{Name: "xid", Type: Uint32, Nullable: true, Meaning: "XID code of a fault; NULL if the driver gave none."},
			{Name: "gpu_instance", Type: Uint32, Nullable: true, Meaning: "MIG GPU instance that it concerns."},
			{Name: "compute_instance", Type: Uint32, Nullable: true, Meaning: "MIG compute instance that it concerns."},
			{Name: "count", Type: Uint64, Nullable: true, Meaning: "How many: ticks missed, batches dropped, errors that a counter gained; see the list of event kinds."},
			{Name: "message", Type: Text, Meaning: "In words."},
		},
		faultColumns(),
		[]Column{
			text("notice_id", "Name of a cloud's notice: rows of one notice share it."),
			{Name: "not_before", Type: TimeMilliseconds, Nullable: true, Meaning: "When what a notice announces will begin at the earliest."},
			text("network_device", "Network device that it concerns, such as mlx5_0."),
			number("network_port", Uint16, "", "Port of the network device."),
		})
	return Table{
		ID: EventsID, Name: "gpu_events", Columns: columns,
		Meaning: "Faults of GPUs and events of agents, one row each, with the time at which they happened.",
		OrderBy: "(node_id, ts)", PartitionBy: "toYYYYMM(ts)", TTLDays: 400, Granularity: 1024,
		Indexes: []Index{{Name: "gpu", Expression: ColumnGPU, Type: "bloom_filter(0.01)"}},
	}
}

// faultColumns are what is known of a fault. They are NULL for what is not one.
func faultColumns() []Column {
	return []Column{
		number(ColumnFault, Uint64, "", "Names a fault: rows of one fault, and the samples kept around it, share it. NULL if this is not a fault."),
		name("severity", "How bad: info, warning or critical."),
		name("class", "What part is at fault: see docs/xid.md."),
		name("action", "What to do: see docs/xid.md."),
		number("sxid", Uint32, "", "SXID code of an NVSwitch."),
		name("subcode", "Unit within an NVLink fault, such as RLW_SRC_TRACK."),
		number("link", Uint16, "", "NVLink that it concerns."),
		text("pci_bus_id", "PCI address of the device, domain:bus:device.function."),
		number("process_id", Uint32, "", "Process that it befell, by the kernel's numbering."),
		text("process_name", "Name of the process."),
		number("recovery_action", Uint8, "", "What the driver itself asks for; codes as in gpu_health."),
		number("kernel_sequence", Uint64, "", "Number of the line in the kernel's log."),
		text("evidence", "What each source said, as a JSON array of objects with source, time and text."),
		name("catalog_version", "Version of the table that severity, class and action come from; ends in + if an operator's overrides were in force."),
		number("occurrences", Uint32, "", "How often the fault happened, by the source that reported it most often: equal reports of a storm are one fault. 1 if once."),
		{Name: "last_seen", Type: TimeMilliseconds, Nullable: true, Meaning: "When the fault was last reported, by any source."},
	}
}

// EventKind is one value of gpu_events.kind.
type EventKind struct {
	Name    string
	Source  string // value of gpu_events.source
	Count   string // what gpu_events.count counts; "" if it is NULL
	Meaning string
}

// Sources of events.
const (
	SourceAgent   = "agent"   // the agent noticed it
	SourceDriver  = "nvml"    // the driver reported it
	SourceKernel  = "kernel"  // the kernel's log said so
	SourceCounter = "counter" // a counter or state of the driver changed
	SourceCloud   = "cloud"   // the cloud's metadata service announced it
	SourceNetwork = "network" // the state of a network port changed
)

// EventKinds lists what can happen. Kinds are added, never renamed.
func EventKinds() []EventKind {
	return slices.Concat(agentEvents, driverEvents, kernelEvents, counterEvents, cloudEvents, networkEvents)
}

var agentEvents = []EventKind{
	{"agent_started", SourceAgent, "", "The agent of the node started; its epoch began. The message names its version."},
	{"agent_stopped", SourceAgent, "", "The agent was told to stop. An agent that dies writes none: its rows just end."},
	{"gpu_found", SourceAgent, "", "The driver lists a GPU that the agent did not know in this life."},
	{"gpu_lost", SourceAgent, "", "The driver no longer answers for a GPU that it listed before: it has fallen off the bus, or has to be reset. One for each loss."},
	{"gpu_unbound", SourceAgent, "", "The kernel takes the GPU from the driver, as for a virtual machine or to replace it: the agent closes the driver for a moment, and the GPU's rows end. That is no loss."},
	{"gpu_removed", SourceAgent, "", "The GPU no longer belongs to the node: it was unbound, or has been lost and not listed for a day. Its inventory ends; if it comes back it is found anew."},
	{"gpu_stuck", SourceAgent, "", "A driver call for the GPU has not returned for so long that its rows are missing."},
	{"gpu_recovered", SourceAgent, "", "A GPU that was lost or stuck answers again."},
	{"driver_missing", SourceAgent, "", "The GPU driver cannot be opened, or no longer answers for any GPU: nothing is sampled until driver_recovered. One for each outage."},
	{"driver_recovered", SourceAgent, "", "The driver answers again after driver_missing."},
	{"driver_changed", SourceAgent, "", "The driver was loaded again in another version while the agent ran."},
	{"driver_released", SourceAgent, "", "The agent let go of the driver, because it was asked to or the driver is being unbound: nothing is sampled until driver_resumed."},
	{"driver_resumed", SourceAgent, "", "The agent took up the driver again."},
	{"counters_reset", SourceAgent, "", "A counter went down: the driver was loaded again, or the GPU was reset. A new counter_epoch begins."},
	{"clock_set", SourceAgent, "milliseconds", "The node's wall clock was set by so many milliseconds, forwards or backwards: times of rows jump, intervals do not."},
	{"ticks_missed", SourceAgent, "ticks", "The agent could not sample in time: rows are missing for as many ticks as count says."},
	{"batches_dropped", SourceAgent, "batches", "The agent's spool or queue was full while no collector took batches: the oldest were dropped, and their rows are lost."},
	{"batches_rejected", SourceAgent, "batches", "The collector can never store these batches. It keeps them in its quarantine."},
	{"spool_unavailable", SourceAgent, "", "The agent cannot write its spool: batches are kept in memory alone, and lost if it dies."},
	{"spool_recovered", SourceAgent, "", "The spool can be written again after spool_unavailable."},
	{"batches_damaged", SourceAgent, "batches", "Batches could not be read back from the spool: their rows are lost, and the files are kept."},
	{"sampling_reduced", SourceAgent, "cut", "The driver's calls for the GPU took too long, or its ticks could not be held: the agent reads less of it, to spare the workload. Count says what it leaves out: 1 sub-second samples, 2 also performance monitoring, 3 also every second tick. One for each cut."},
	{"sampling_restored", SourceAgent, "", "The agent reads all of the GPU again after sampling_reduced."},
	{"burst_started", SourceAgent, "seconds", "The agent reads some metrics at 10 Hz for as many seconds, into gpu_subsecond. The message says why."},
	{"burst_refused", SourceAgent, "", "A GPU was to be read at 10 Hz, and is not: the message says why not. Only the first refusal since a burst is told."},
	{"config_reloaded", SourceAgent, "", "The agent took up a changed configuration."},
	{"config_rejected", SourceAgent, "", "A changed configuration has errors: the one before stays in force."},
}

var driverEvents = []EventKind{
	{"xid", SourceDriver, "", "The driver reported a fault with an XID code: see the column xid. NULL means that it did not say which."},
	{"ecc_double_bit", SourceDriver, "", "A memory error that ECC could not correct."},
	{"ecc_single_bit_storm", SourceDriver, "", "Many memory errors in a short time, all corrected."},
	{"dram_retired", SourceDriver, "", "Part of the device memory was retired after errors."},
	{"dram_retirement_failed", SourceDriver, "", "Device memory should have been retired, and could not be: a reason to replace the GPU."},
	{"poison_nonfatal", SourceDriver, "", "Poisoned data was read, and contained: the application that read it is ended."},
	{"poison_fatal", SourceDriver, "", "Poisoned data was read, and not contained: the GPU has to be reset."},
	{"power_source", SourceDriver, "", "The GPU's power source changed."},
	{"mig_changed", SourceDriver, "", "MIG was switched on or off, or its instances changed. Other GPU ids appear."},
	{"gpu_unavailable", SourceDriver, "", "The GPU cannot be used until the recovery action has been taken."},
	{"recovery_action", SourceDriver, "action", "The driver asks for another recovery action than before: see recovery_action of gpu_health for the codes."},
	{"unknown", SourceDriver, "", "The driver reported an event that this version does not know."},
}

var kernelEvents = []EventKind{
	{"sxid", SourceKernel, "", "An NVSwitch reported a fault with an SXID code: see the column sxid."},
	{"gpu_off_bus", SourceKernel, "", "The kernel's log says that a GPU has fallen off the bus, without an XID code."},
	{"gpu_init_failed", SourceKernel, "", "The driver could not initialise a GPU."},
	{"pcie_error", SourceKernel, "", "The PCIe bus reported an error of a GPU or of the port above it. The message says whether it was corrected."},
	{"pcie_corrected", SourceKernel, "", "The PCIe bus reported an error of a GPU or of the port above it that it corrected itself. No fault, but many of them are a sign of one."},
	{"xids_withheld", SourceKernel, "errors", "The driver writes only one of as many errors of its firmware from now on: faults may be missing."},
	{"process_killed", SourceKernel, "", "The kernel killed a process, for want of memory or for an error in it. The message says which."},
	{"machine_check", SourceKernel, "", "The kernel reported an error of the CPU or of the host's memory."},
	{"network_link_down", SourceKernel, "", "The driver of a network card says that its link is down."},
	{"network_link_up", SourceKernel, "", "The driver of a network card says that its link is up."},
	{"network_fault", SourceKernel, "", "The driver of a network card reported a fault of the card, its firmware or its module."},
	{"kernel_log_throttled", SourceKernel, "findings", "So many findings came in one second that as many as count says were not written."},
	{"kernel_log_gap", SourceKernel, "lines", "Lines of the kernel's log were overwritten before they were read: faults may be missing."},
	{"kernel_log_unreadable", SourceKernel, "", "The agent may not read the kernel's log: faults that NVML does not report are missing."},
}

var counterEvents = []EventKind{
	{"ecc_uncorrectable", SourceCounter, "errors", "The driver's count of uncorrectable memory errors went up."},
	{"row_remapped", SourceCounter, "rows", "Rows of device memory were remapped after errors."},
	{"row_remap_pending", SourceCounter, "", "A row remapping waits for a reset of the GPU."},
	{"row_remap_failed", SourceCounter, "", "A row could not be remapped: a reason to replace the GPU."},
	{"sram_threshold", SourceCounter, "", "Uncorrectable SRAM errors exceeded the driver's threshold: a reason to replace the GPU."},
	{"nvlink_error", SourceCounter, "errors", "Counts of NVLink errors went up that cost data or a link: recoveries, failed recoveries."},
	{"pcie_fatal", SourceCounter, "errors", "The count of fatal PCIe errors went up."},
	{"throttle_started", SourceCounter, "", "Clocks are held down by heat, by the hardware or by the power brake. The message says by which."},
	{"throttle_ended", SourceCounter, "milliseconds", "Clocks are no longer held down after throttle_started; count is how long they were."},
}

var cloudEvents = []EventKind{
	{"interruption_notice", SourceCloud, "", "The cloud will take the node away: see not_before."},
	{"rebalance_notice", SourceCloud, "", "The cloud expects to take the node away."},
	{"maintenance_scheduled", SourceCloud, "", "The cloud will work on the node: see not_before."},
	{"maintenance_started", SourceCloud, "", "The cloud works on the node."},
	{"maintenance_ended", SourceCloud, "", "A notice of maintenance is gone: the work is done, or was called off."},
}

var networkEvents = []EventKind{
	{"port_down", SourceNetwork, "", "A port that was up is down. Of a flapping port only when it stays down."},
	{"port_up", SourceNetwork, "", "A port that was down is up again. Of a flapping port only when it stays up."},
	{"port_flapping", SourceNetwork, "losses", "A port lost its link again and again; losses too short to be seen are counted too. It stays flapping until it has been quiet."},
	{"port_steady", SourceNetwork, "losses", "A flapping port has been quiet for long enough; count is how often it lost its link in all."},
	{"port_degraded", SourceNetwork, "", "A port runs slower than it did before, or than the configuration expects."},
	{"port_restored", SourceNetwork, "", "A port runs as fast as it should again after port_degraded."},
	{"port_missing", SourceNetwork, "", "A network device that was there is gone."},
	{"port_found", SourceNetwork, "", "A network device that was gone is there again; the message says in which state."},
	{"port_removed", SourceNetwork, "", "A network device has been gone for a day: it has no more rows. If it comes back it is found anew."},
	{"port_stuck", SourceNetwork, "", "A read of a network device's state has not returned for so long that its rows are missing."},
	{"port_unstuck", SourceNetwork, "", "Reads of a network device return again after port_stuck."},
}
