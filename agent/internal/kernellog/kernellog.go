// SPDX-License-Identifier: Apache-2.0

// Package kernellog reads the kernel's log and tells what in it concerns GPUs: XIDs and SXIDs, which NVML does not
// all report, GPUs that fell off the bus, PCIe errors, processes that the kernel killed. It promises that each line
// is looked at once for each boot, over restarts of the agent; that lines which the kernel overwrote before they
// were read are counted and reported; and that no line, however damaged, stops it. A log that cannot be read stops
// nothing either: that is told once, and tried again.
//
//	/dev/kmsg → record → line → Finding → Config.OnFinding
//
// All of it happens in the goroutine of Run.
package kernellog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// Config is what is read, and who is told.
type Config struct {
	Device     string        // DefaultDevice
	BootIDFile string        // DefaultBootIDFile
	StateFile  string        // how far the log was read, for the next start; "" keeps nothing
	RetryWait  time.Duration // before a log that cannot be read is tried again
	// UserLines takes lines that programs wrote to the log for the kernel's. It is for drills: whoever may write to
	// the log can then make any GPU look broken.
	UserLines bool

	// OnFinding is told what was found, in the order of the log. While it does not return nothing is read, and the
	// kernel's own ring holds what comes; so it may wait, but not for ever.
	OnFinding func(Finding)
	// OnHealth is told when reading begins to work, or ceases to. It must not block.
	OnHealth func(Health)
	Logger   *slog.Logger
}

// Where Linux has what is read.
const (
	DefaultDevice     = "/dev/kmsg"
	DefaultBootIDFile = "/proc/sys/kernel/random/boot_id"
)

// Validate tells what is missing.
func (c Config) Validate() error {
	var problems []error
	for name, missing := range map[string]bool{
		"device": c.Device == "", "file of the boot id": c.BootIDFile == "", "OnFinding": c.OnFinding == nil,
		"OnHealth": c.OnHealth == nil, "logger": c.Logger == nil,
	} {
		if missing {
			problems = append(problems, fmt.Errorf("kernel log: no %s is given", name))
		}
	}
	if c.RetryWait < time.Second {
		problems = append(problems, fmt.Errorf("kernel log: wait of %v before a retry: want at least 1s", c.RetryWait))
	}
	return errors.Join(problems...)
}

// Kind is what was found.
type Kind string

// The kinds. What else is set in a Finding depends on them.
const (
	XID             Kind = "xid"                  // Line, XID
	SXID            Kind = "sxid"                 // Line, SXID
	FellOffBus      Kind = "gpu_fell_off_bus"     // the driver says so without an XID 79
	InitFailed      Kind = "gpu_init_failed"      // the driver found a GPU and could not start it
	ProbeFailed     Kind = "gpu_probe_failed"     // the kernel could not give a GPU to the driver
	XIDsWithheld    Kind = "xids_withheld"        // the driver writes only one of every Count errors of its firmware from now on
	PCIeCorrected   Kind = "pcie_corrected"       // Subcode: the names of the errors
	PCIeNonFatal    Kind = "pcie_nonfatal"        // the same
	PCIeFatal       Kind = "pcie_fatal"           // the same
	PCIeLinkDown    Kind = "pcie_link_down"       // of the port above a GPU or network card
	ProcessKilled   Kind = "process_killed"       // ProcessID; Subcode: out_of_memory, memory_error
	MachineCheck    Kind = "machine_check"        // of CPU or host memory
	NetworkLinkDown Kind = "network_link_down"    // Subcode: the interface, or the reason
	NetworkLinkUp   Kind = "network_link_up"      // Subcode: the interface
	NetworkFault    Kind = "network_fault"        // of an InfiniBand or Ethernet card of NVIDIA
	LogGap          Kind = "kernel_log_gap"       // Count lines before this are unknown; Subcode: why
	Suppressed      Kind = "kernel_log_throttled" // Count findings of one second were not reported: there were too many
)

// Reasons of gaps, in Finding.Subcode.
const (
	GapOverrun    = "overrun"    // the kernel overwrote lines while they were waiting to be read
	GapStart      = "start"      // lines were overwritten before the agent first looked at this boot's log
	GapRestart    = "restart"    // lines were overwritten while the agent was away
	GapUnreadable = "unreadable" // a record could not be read
)

// Finding is one thing that the log says. Pointers are nil, and texts empty, where it does not say it.
type Finding struct {
	Kind     Kind
	Time     time.Time // when the kernel wrote the line, by the clock that the node has now
	BootID   string    // together with Sequence it names the line for good
	Sequence uint64
	Backlog  bool   // it was in the log already when reading began
	Text     string // the line: printable, at most maxTextBytes

	PCIBusID        string // of the GPU, NVSwitch, port or card, as in gpu_inventory
	GPUUUID         string // if the driver named it
	GPUInstance     *int64 // of MIG
	ComputeInstance *int64
	ProcessID       *int64
	ProcessName     string
	XID, SXID       *int64
	Subcode         string // unit of NVLink 5, names of PCIe errors, interface, reason
	Link            *int64 // of NVLink
	RecoveryFrom    *int64 // of XID 154: see xid.LookupRecovery
	RecoveryTo      *int64
	Count           *int64    // lines or findings that are missing
	Line            *xid.Line // of XIDs and SXIDs: its Lookup says what it means
}

// Health tells whether the log is read.
type Health struct {
	Reading bool
	Problem string // what is wrong and what would mend it; may be set while Reading, too
}

// Stats counts since the start. They may be read while Run runs.
type Stats struct {
	Records     atomic.Uint64 // that were read
	Unreadable  atomic.Uint64 // of them, or instead of them: not in the kernel's format, or too large
	MissedLines atomic.Uint64 // that were overwritten before they were read
	Findings    atomic.Uint64 // that were reported
	Throttled   atomic.Uint64 // that were not
}

// Reader reads the log of one node.
type Reader struct {
	cfg    Config
	stats  Stats
	open   func(path string) (device, error)
	clock  *stamper
	parser *parser
	state  *stateFile
	health Health
	told   bool // a Health

	bootID       string // "" before begin
	buffer       []byte
	last         uint64 // sequence of the record that was read last, perhaps in an earlier life, if known
	known        bool
	resumed      bool   // last is from the state file, and no record after it was seen yet
	seen         uint64 // the highest sequence that the device gave, if hasSeen
	hasSeen      bool
	live         bool   // all that was in the log when the session began has been read
	gapReason    string // of the next gap, if something is known of it
	unsaved      bool   // a finding was reported since the position was saved
	stateProblem string
	throttle     throttle
}

// New makes a reader. The config is one that Validate passes.
func New(cfg Config) *Reader {
	r := &Reader{
		cfg: cfg, open: openDevice, clock: newStamper(readClocks), state: newStateFile(cfg.StateFile), buffer: make([]byte, firstBufferBytes),
	}
	r.parser = newParser(r.report)
	return r
}

// Stats are the counters.
func (r *Reader) Stats() *Stats { return &r.stats }

// Run reads until the context ends. It has no other end: see Config.OnHealth.
func (r *Reader) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		again, err := r.session(ctx)
		if again || ctx.Err() != nil {
			continue
		}
		r.tell(Health{Problem: err.Error()})
		wait := time.NewTimer(r.cfg.RetryWait)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	r.parser.flush()
	r.throttle.end(r.deliver)
	r.save()
	return nil
}

// session opens the device and reads it until it fails. again asks for the next session at once.
func (r *Reader) session(ctx context.Context) (again bool, err error) {
	if err := r.begin(); err != nil {
		return false, err
	}
	dev, err := r.open(r.cfg.Device)
	if err != nil {
		return false, explain(r.cfg.Device, err)
	}
	// What waits for the device is woken by closing it.
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		dev.Close() //nolint:errcheck // it was only read
	})
	defer func() {
		if stop() {
			dev.Close() //nolint:errcheck // it was only read
			return
		}
		<-closed
	}()
	r.live = false
	r.tell(Health{Reading: true, Problem: r.stateProblem})
	err = r.follow(dev)
	if errors.Is(err, errStateAhead) {
		return true, nil
	}
	return false, explain(r.cfg.Device, err)
}

// tell reports health when it changes, and once at the beginning.
func (r *Reader) tell(h Health) {
	if r.told && h == r.health {
		return
	}
	if h.Problem != "" && h.Problem != r.health.Problem {
		r.cfg.Logger.Warn("kernel log", "problem", h.Problem, "reading", h.Reading)
	}
	r.health, r.told = h, true
	r.cfg.OnHealth(h)
}
