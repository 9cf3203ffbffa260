// SPDX-License-Identifier: Apache-2.0

package schema

// EventKind is one value of gpu_events.kind.
type EventKind struct {
	Name    string
	Source  string // value of gpu_events.source
	Count   string // what gpu_events.count counts; "" if it is NULL
	Meaning string
}

// Sources of events.
const (
	SourceAgent  = "agent" // the agent noticed it
	SourceDriver = "nvml"  // the driver reported it
)

// EventKinds lists what can happen. Kinds are added, never renamed.
func EventKinds() []EventKind {
	return []EventKind{
		{"agent_started", SourceAgent, "", "The agent of the node started; its epoch began. The message names its version."},
		{"agent_stopped", SourceAgent, "", "The agent was told to stop. An agent that dies writes none: its rows just end."},
		{"gpu_found", SourceAgent, "", "The driver lists a GPU that the agent did not know in this life."},
		{"gpu_lost", SourceAgent, "", "The driver no longer answers for a GPU that it listed before: it has fallen off the bus, or has to be reset. One for each loss."},
		{"gpu_stuck", SourceAgent, "", "A driver call for the GPU has not returned for so long that its rows are missing."},
		{"gpu_recovered", SourceAgent, "", "A GPU that was lost or stuck answers again."},
		{"driver_missing", SourceAgent, "", "The GPU driver cannot be opened, or no longer answers for any GPU: nothing is sampled until driver_recovered. One for each outage."},
		{"driver_recovered", SourceAgent, "", "The driver answers again after driver_missing."},
		{"driver_changed", SourceAgent, "", "The driver was loaded again in another version while the agent ran."},
		{"counters_reset", SourceAgent, "", "A counter went down: the driver was loaded again, or the GPU was reset. A new counter_epoch begins."},
		{"ticks_missed", SourceAgent, "ticks", "The agent could not sample in time: rows are missing for as many ticks as count says."},
		{"batches_dropped", SourceAgent, "batches", "The agent's queue was full while no collector took batches: the oldest were dropped, and their rows are lost."},
		{"batches_rejected", SourceAgent, "batches", "The collector can never store these batches. It keeps them in its quarantine."},
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
}
