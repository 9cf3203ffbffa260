// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/agent/internal/fault"
	"github.com/gpufleet/gpufleet/agent/internal/flight"
	"github.com/gpufleet/gpufleet/agent/internal/kernellog"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// KernelLog is where the kernel's log is, and how far it was read.
type KernelLog struct {
	Device   string // /dev/kmsg; "" reads none
	StateDir string // folder for the position and for states of GPUs that last, so that the next start goes on; "" keeps none
	// UserLines takes lines that programs wrote to the log for the kernel's. It is for drills.
	UserLines bool
}

// newFaults puts the parts together that make faults of what the driver, its counters and the kernel's log say.
func (a *Agent) newFaults() {
	a.devices = fault.NewDevices()
	overrides := cmp.Or(a.cfg.XIDOverrides, &xid.Overrides{})
	a.faults = fault.NewJournal(fault.Config{
		Node: a.cfg.Node.Name, Epoch: a.epoch, Writer: a.journal, Judge: fault.Catalogue{Overrides: overrides}, Devices: a.devices, OnFault: a.faulted, Logger: a.cfg.Logger,
	})
	a.recorder = flight.New(flight.Config{Sink: a.sink, All: a.cfg.Subsecond, Before: a.cfg.Bursts.Before, After: a.cfg.Bursts.After})
}

// watchRows looks for faults in the rows of GPUs.
func (a *Agent) watchRows() {
	a.rows = fault.NewWatch(a.recorder, a.faults, a.devices, a.cfg.Node.BootID, a.stateFile("gpu-states.json"), a.cfg.Logger)
	a.watchers = append(a.watchers, a.rows.Keep)
}

// stateFile is a file that outlives a restart; "" if none does.
func (a *Agent) stateFile(name string) string {
	dir := a.stateDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}

// stateDir is the folder that keeps what is known over restarts; "" if none does. It is made if it is not there.
func (a *Agent) stateDir() string {
	dir := a.cfg.KernelLog.StateDir
	if dir == "" {
		return ""
	}
	if err := os.MkdirAll(dir, 0o750); err != nil { // those who write into it tell what that costs
		a.cfg.Logger.Warn("make the state directory", "error", err)
	}
	return dir
}

// watchKernelLog has the kernel's log read, if it is said where it is.
func (a *Agent) watchKernelLog() error {
	if a.cfg.KernelLog.Device == "" {
		return nil
	}
	cfg := kernellog.Config{
		Device: a.cfg.KernelLog.Device, BootIDFile: kernellog.DefaultBootIDFile, RetryWait: a.cfg.RescanInterval,
		UserLines: a.cfg.KernelLog.UserLines, OnFinding: a.found, OnHealth: a.kernelLogHealth, Logger: a.cfg.Logger,
	}
	if dir := a.stateDir(); dir != "" {
		cfg.StateFile = filepath.Join(dir, "kernel-log.json")
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("agent configuration: %w", err)
	}
	reader := kernellog.New(cfg)
	a.watchers = append(a.watchers, reader.Run)
	return nil
}

// kindOfFinding is the kind of event that a finding in the kernel's log becomes.
var kindOfFinding = map[kernellog.Kind]string{
	kernellog.XID: "xid", kernellog.SXID: "sxid", kernellog.FellOffBus: "gpu_off_bus", kernellog.InitFailed: "gpu_init_failed",
	kernellog.ProbeFailed: "gpu_init_failed", kernellog.XIDsWithheld: "xids_withheld", kernellog.PCIeCorrected: "pcie_corrected",
	kernellog.PCIeNonFatal: "pcie_error", kernellog.PCIeFatal: "pcie_fatal", kernellog.PCIeLinkDown: "pcie_fatal",
	kernellog.ProcessKilled: "process_killed", kernellog.MachineCheck: "machine_check", kernellog.NetworkLinkDown: "network_link_down",
	kernellog.NetworkLinkUp: "network_link_up", kernellog.NetworkFault: "network_fault", kernellog.LogGap: "kernel_log_gap",
	kernellog.Suppressed: "kernel_log_throttled",
}

// found writes what the kernel's log says.
func (a *Agent) found(f kernellog.Finding) {
	if err := a.faults.Write(findingEvent(f)); err != nil {
		a.cfg.Logger.Error("write what the kernel's log says", "line", f.Sequence, "error", err)
	}
}

func findingEvent(f kernellog.Finding) event.Event {
	sequence := int64(f.Sequence)
	return event.Event{
		Time: f.Time, UUID: f.GPUUUID, Kind: kindOfFinding[f.Kind], Source: schema.SourceKernel, XID: f.XID,
		GPUInstance: f.GPUInstance, ComputeInstance: f.ComputeInstance, Count: f.Count, Message: f.Text,
		Fault: &event.Fault{
			Name: fmt.Sprintf("kernel %s %d", f.BootID, f.Sequence), SXID: f.SXID, Link: f.Link, Subcode: f.Subcode, PCIBusID: f.PCIBusID,
			ProcessID: f.ProcessID, ProcessName: f.ProcessName, RecoveryAction: f.RecoveryTo, KernelSequence: &sequence,
		},
	}
}

// kernelLogHealth tells when the log cannot be read: faults that NVML does not report are missing then.
func (a *Agent) kernelLogHealth(h kernellog.Health) {
	if h.Reading {
		a.cfg.Logger.Info("kernel log is read", "device", a.cfg.KernelLog.Device)
		return
	}
	if err := a.journal.Write(event.Event{Kind: "kernel_log_unreadable", Source: schema.SourceKernel, Message: h.Problem}); err != nil {
		a.cfg.Logger.Error("write that the kernel's log cannot be read", "error", err)
	}
}
