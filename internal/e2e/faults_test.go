// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/sim"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// kernelLog stands for /dev/kmsg. It is a pipe: what is written to it in one piece is read in one piece, if the next
// is not written before.
type kernelLog struct {
	t        *testing.T
	path     string
	file     *os.File
	sequence int
}

func newKernelLog(t *testing.T) *kernelLog {
	t.Helper()
	k := &kernelLog{t: t, path: filepath.Join(t.TempDir(), "kmsg")}
	if err := unix.Mkfifo(k.path, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if k.file, err = os.OpenFile(k.path, os.O_RDWR, 0); err != nil { // a pipe that somebody reads and writes has no end
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.file.Close() })
	return k
}

// line writes a record of the kernel's.
func (k *kernelLog) line(text string) {
	k.t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		k.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(k.file, "4,%d,%d,-;%s\n", k.sequence, now.Nano()/1000, text); err != nil {
		k.t.Fatal(err)
	}
	k.sequence++
}

// TestFaults: what the driver and the kernel's log say of one fault is one row, with what to do. XID 119 is one that
// NVML does not report.
func TestFaults(t *testing.T) {
	db := clickhousetest.Start(t)
	address, stop := startCollector(t, collectorConfig(t, db.Writer))
	kernel := newKernelLog(t)
	node, err := sim.NewNode(sim.NodeConfig{Model: sim.H100, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	f := startFleet(t, fleetConfig{
		nodes: 1, seed: 7, collector: address, interval: 200 * time.Millisecond, flush: 500 * time.Millisecond,
		change: func(c *agent.Config) {
			c.Open = func() (gpu.Driver, error) { return node.Driver(), nil }
			c.KernelLog.Device, c.KernelLog.StateDir = kernel.path, t.TempDir()
		},
	})
	awaitAnswer(t, db.Reader, "SELECT uniq(gpu_uuid) FROM fleet_gpus", "8")
	bus := clickhousetest.Query(t, db.Reader, "SELECT pci_bus_id FROM fleet_gpus WHERE gpu_index = 2")
	uuid := clickhousetest.Query(t, db.Reader, "SELECT gpu_uuid FROM fleet_gpus WHERE gpu_index = 2")
	if err := node.Inject(sim.Fault{Kind: sim.XID, GPU: 2, Code: 31}); err != nil {
		t.Fatal(err)
	}
	kernel.line("NVRM: Xid (PCI:" + bus + "): 31, pid=4711, name=python3, Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPC0 FAULT_PDE ACCESS_TYPE_VIRT_READ")
	awaitAnswer(t, db.Reader, "SELECT kind, source, severity, class, action, gpu_uuid, process_id, process_name, length(JSONExtractArrayRaw(evidence)), kernel_sequence FROM fleet_faults WHERE xid = 31",
		"xid\tkernel,nvml\twarning\tapplication\trestart_app\t"+uuid+"\t4711\tpython3\t2\t0")
	kernel.line("NVRM: Xid (PCI:" + bus + "): 119, pid=4711, name=python3, Timeout after 6s of waiting for RPC response from GPU2 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20800a4c 0x28).")
	awaitAnswer(t, db.Reader, "SELECT source, severity, class, action, gpu_uuid FROM fleet_faults WHERE xid = 119", "kernel\tcritical\tfirmware\treset_gpu\t"+uuid)
	f.wantExactlyOnce(db.Reader)
	if got := clickhousetest.Query(t, db.Reader, "SELECT count(), uniq(fault_id) FROM gpu_events WHERE fault_id IS NOT NULL AND xid IN (31, 119)"); got != "2\t2" {
		t.Errorf("rows and faults %q: want two of each", got)
	}
	stop()
}
