// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parsed is what a parser reports of lines that come a millisecond apart. A line "+1s" lets time pass.
func parsed(t testing.TB, lines ...string) []Finding {
	t.Helper()
	var found []Finding
	p := newParser(func(f Finding, _ time.Duration) { found = append(found, f) })
	since := time.Hour
	for i, line := range lines {
		since += time.Millisecond
		if wait, err := time.ParseDuration(line); err == nil {
			since += wait
			continue
		}
		p.passed(since)
		p.line(Finding{Sequence: uint64(i)}, since, line)
	}
	p.flush()
	if _, ok := p.oldest(); ok || !p.due().IsZero() {
		t.Error("something is held back for ever")
	}
	return found
}

var withoutLine = cmp.Options{cmpopts.IgnoreFields(Finding{}, "Line"), cmpopts.EquateEmpty()}

func TestParser(t *testing.T) {
	const (
		uuid   = "GPU-455d8f70-2051-db6c-0430-ffc457bff834"
		bus    = "0000:3b:00.0"
		fell   = "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus."
		aer    = "nvidia 0000:3b:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)"
		device = "nvidia 0000:3b:00.0:   device [10de:2330] error status/mask=00000041/0000a000"
		rx     = "nvidia 0000:3b:00.0:    [ 0] RxErr                  (First)"
		tlp    = "nvidia 0000:3b:00.0:    [ 6] BadTLP                "
	)
	for _, tt := range []struct {
		name  string
		lines []string
		want  []Finding
	}{
		{"XID of a process", []string{xid79}, []Finding{
			{Kind: XID, Text: xid79, PCIBusID: bus, XID: new(int64(79)), ProcessID: new(int64(12)), ProcessName: "python3"},
		}},
		{"XID without a process, of a GPU that was named", []string{
			"NVRM: GPU at PCI:0000:3b:00: " + uuid, "NVRM: GPU Board Serial Number: 1324023049334",
			"NVRM: Xid (PCI:0000:3b:00): 48, pid='<unknown>', name=<unknown>, Ch 00000076, errorString CTX SWITCH TIMEOUT, Info 0x3c046",
		}, []Finding{{
			Kind: XID, Sequence: 2, PCIBusID: bus, GPUUUID: uuid, XID: new(int64(48)),
			Text: "NVRM: Xid (PCI:0000:3b:00): 48, pid='<unknown>', name=<unknown>, Ch 00000076, errorString CTX SWITCH TIMEOUT, Info 0x3c046",
		}}},
		{"XID of a MIG instance", []string{"NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:01): 94, pid=7194, name=a, Contained: x"}, []Finding{{
			Kind: XID, Text: "NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:01): 94, pid=7194, name=a, Contained: x", PCIBusID: bus, XID: new(int64(94)),
			GPUInstance: new(int64(5)), ComputeInstance: new(int64(1)), ProcessID: new(int64(7194)), ProcessName: "a",
		}}},
		{"XID of NVLink 5", []string{"NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_DOWN  Fatal   XC0 i0 Link 08 (0x00450011 0x00000000)"}, []Finding{{
			Kind: XID, Text: "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_DOWN  Fatal   XC0 i0 Link 08 (0x00450011 0x00000000)",
			PCIBusID: "0018:01:00.0", XID: new(int64(149)), Subcode: "NETIR_LINK_DOWN", Link: new(int64(8)),
		}}},
		{"the driver's verdict", []string{"NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x1 (GPU Reset Required)"}, []Finding{{
			Kind: XID, Text: "NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x1 (GPU Reset Required)",
			PCIBusID: bus, XID: new(int64(154)), RecoveryFrom: new(int64(4)), RecoveryTo: new(int64(1)),
		}}},
		{"SXID, its further words left out", []string{
			"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
			"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Severity 1 Engine instance 30 Sub-engine instance 00",
			"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Data {0x50610002, 0x10100030, 0x00000000}",
		}, []Finding{{
			Kind: SXID, Text: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", PCIBusID: "0000:c1:00.0",
			SXID: new(int64(20034)), Link: new(int64(30)),
		}}},
		{"an SXID's further words alone", []string{"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12033, Severity 1 Engine instance 00 Sub-engine instance 00"}, []Finding{{
			Kind: SXID, Text: "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12033, Severity 1 Engine instance 00 Sub-engine instance 00",
			PCIBusID: "0000:c1:00.0", SXID: new(int64(12033)),
		}}},
		{"fell off the bus, said twice", []string{xid79, fell, "NVRM: GPU 0000:3b:00.0: GPU serial number is 123."}, []Finding{
			{Kind: XID, Text: xid79, PCIBusID: bus, XID: new(int64(79)), ProcessID: new(int64(12)), ProcessName: "python3"},
		}},
		{"fell off the bus, without an XID", []string{fell, fell}, []Finding{{Kind: FellOffBus, Text: fell, PCIBusID: bus}}},
		{"fell off the bus, twice", []string{fell, "+1m", fell}, []Finding{
			{Kind: FellOffBus, Text: fell, PCIBusID: bus}, {Kind: FellOffBus, Text: fell, PCIBusID: bus, Sequence: 2},
		}},
		{"an XID 79 of another GPU", []string{"NVRM: Xid (PCI:0000:3c:00): 79, x", fell}, []Finding{
			{Kind: XID, Text: "NVRM: Xid (PCI:0000:3c:00): 79, x", PCIBusID: "0000:3c:00.0", XID: new(int64(79))},
			{Kind: FellOffBus, Text: fell, PCIBusID: bus, Sequence: 1},
		}},
		{"fell off the bus, in three lines", []string{
			"NVRM: The NVIDIA GPU 0000:3b:00.0", "NVRM: (PCI ID: 10de:2330) installed in this system has", "usb 1-1: new device",
			"NVRM: fallen off the bus and is not responding to commands.",
		}, []Finding{{
			Kind: FellOffBus, PCIBusID: bus,
			Text: "NVRM: The NVIDIA GPU 0000:3b:00.0 (PCI ID: 10de:2330) installed in this system has fallen off the bus and is not responding to commands.",
		}}},
		{"fell off the bus, in one line", []string{"NVRM: The NVIDIA GPU 0000:3b:00.0 fallen off the bus and is not responding to commands."}, []Finding{
			{Kind: FellOffBus, PCIBusID: bus, Text: "NVRM: The NVIDIA GPU 0000:3b:00.0 fallen off the bus and is not responding to commands."},
		}},
		{"not supported, which begins the same", []string{
			"NVRM: The NVIDIA GPU 0000:3b:00.0 (PCI ID: 10de:1d01)", "NVRM: installed in this system is not supported by open nvidia.ko", "NVRM: x", "NVRM: x", "NVRM: x",
		}, nil},
		{"the end of another message comes too late", []string{
			"NVRM: The NVIDIA GPU 0000:3b:00.0", "+1s", "NVRM: fallen off the bus and is not responding to commands.",
		}, nil},
		{"initialisation failed", []string{
			"NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x62:0x65:1860)", "NVRM: GPU 0000:3b:00.0: rm_init_adapter failed, device minor number 0",
		}, []Finding{{Kind: InitFailed, Text: "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x62:0x65:1860)", PCIBusID: bus, Subcode: "0x62:0x65:1860"}}},
		{"initialisation failed, first line lost", []string{"NVRM: GPU 0000:3b:00.0: rm_init_adapter failed, device minor number 0"}, []Finding{
			{Kind: InitFailed, Text: "NVRM: GPU 0000:3b:00.0: rm_init_adapter failed, device minor number 0", PCIBusID: bus},
		}},
		{"probe failed, older kernels", []string{"nvidia: probe of 0000:3b:00.0 failed with error -1", "NVRM: The NVIDIA probe routine failed for 1 device(s)."}, []Finding{
			{Kind: ProbeFailed, Text: "nvidia: probe of 0000:3b:00.0 failed with error -1", PCIBusID: bus, Subcode: "error -1"},
		}},
		{"probe failed, newer kernels", []string{"nvidia 0000:3b:00.0: probe with driver nvidia failed with error -1"}, []Finding{
			{Kind: ProbeFailed, Text: "nvidia 0000:3b:00.0: probe with driver nvidia failed with error -1", PCIBusID: bus, Subcode: "error -1"},
		}},
		{"probe failed, only the sum", []string{"NVRM: The NVIDIA probe routine failed for 2 device(s)."}, []Finding{
			{Kind: ProbeFailed, Text: "NVRM: The NVIDIA probe routine failed for 2 device(s).", Count: new(int64(2))},
		}},
		{"errors are withheld", []string{"NVRM: Rate limiting GSP RPC error prints for GPU at PCI:0000:3b:00 (printing 1 of every 30).  The GPU likely needs to be reset."}, []Finding{{
			Kind: XIDsWithheld, PCIBusID: bus, Count: new(int64(30)),
			Text: "NVRM: Rate limiting GSP RPC error prints for GPU at PCI:0000:3b:00 (printing 1 of every 30).  The GPU likely needs to be reset.",
		}}},
		{"PCIe errors, put together", []string{"nvidia 0000:3b:00.0: AER: Correctable error message received from 0000:3b:00.0", aer, device, rx, tlp}, []Finding{{
			Kind: PCIeCorrected, Sequence: 1, PCIBusID: bus, Subcode: "RxErr, BadTLP",
			Text: aer + " |   device [10de:2330] error status/mask=00000041/0000a000 |    [ 0] RxErr                  (First) |    [ 6] BadTLP",
		}}},
		{"PCIe errors of two devices, mixed", []string{
			aer, "pcieport 0000:00:01.0: AER: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)",
			rx, "pcieport 0000:00:01.0: AER:    [14] CmpltTO                (First)",
		}, []Finding{
			{Kind: PCIeCorrected, PCIBusID: bus, Subcode: "RxErr", Text: aer + " |    [ 0] RxErr                  (First)"},
			{
				Kind: PCIeFatal, Sequence: 1, PCIBusID: "0000:00:01.0", Subcode: "CmpltTO",
				Text: "pcieport 0000:00:01.0: AER: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID) | AER:    [14] CmpltTO                (First)",
			},
		}},
		{"PCIe errors, the older form", []string{
			"pcieport 0000:00:1c.5: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Physical Layer, id=00e5(Receiver ID)", "pcieport 0000:00:1c.5:    [ 0] Receiver Error ",
		}, []Finding{{
			Kind: PCIeNonFatal, PCIBusID: "0000:00:1c.5", Subcode: "Receiver Error",
			Text: "pcieport 0000:00:1c.5: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Physical Layer, id=00e5(Receiver ID) |    [ 0] Receiver Error",
		}}},
		{"PCIe errors, one after the other", []string{aer, rx, aer, tlp}, []Finding{
			{Kind: PCIeCorrected, PCIBusID: bus, Subcode: "RxErr", Text: aer + " |    [ 0] RxErr                  (First)"},
			{Kind: PCIeCorrected, Sequence: 2, PCIBusID: bus, Subcode: "BadTLP", Text: aer + " |    [ 6] BadTLP"},
		}},
		{"PCIe errors that firmware handled first", []string{
			"nvidia 0000:3b:00.0: AER: aer_status: 0x00004000, aer_mask: 0x00400000", "nvidia 0000:3b:00.0: AER:    [14] CmpltTO                (First)",
			"nvidia 0000:3b:00.0: AER: aer_layer=Transaction Layer, aer_agent=Requester ID", "nvidia 0000:3b:00.0: AER: aer_uncor_severity: 0x00462030",
		}, []Finding{{
			Kind: PCIeNonFatal, PCIBusID: bus, Subcode: "CmpltTO",
			Text: "nvidia 0000:3b:00.0: AER: aer_status: 0x00004000, aer_mask: 0x00400000 | AER:    [14] CmpltTO                (First) | AER: aer_layer=Transaction Layer, aer_agent=Requester ID | AER: aer_uncor_severity: 0x00462030",
		}}},
		{"PCIe errors that firmware handled first, fatal", []string{
			"nvidia 0000:3b:00.0: AER: aer_status: 0x00040000, aer_mask: 0x00000000", "nvidia 0000:3b:00.0: AER: aer_uncor_severity: 0x00462030",
		}, []Finding{{
			Kind: PCIeFatal, PCIBusID: bus, Text: "nvidia 0000:3b:00.0: AER: aer_status: 0x00040000, aer_mask: 0x00000000 | AER: aer_uncor_severity: 0x00462030",
		}}},
		{"PCIe errors that firmware handled first, corrected", []string{"nvidia 0000:3b:00.0: AER: aer_status: 0x00000001, aer_mask: 0x0000a000"}, []Finding{
			{Kind: PCIeCorrected, PCIBusID: bus, Text: "nvidia 0000:3b:00.0: AER: aer_status: 0x00000001, aer_mask: 0x0000a000"},
		}},
		{"PCIe errors of a disk", []string{"nvme 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)"}, nil},
		{"a port lost its link", []string{"pcieport 0000:15:01.0: pciehp: Slot(11): Link Down", "pcieport 0000:15:01.0: pciehp: Slot(11-1): Card not present", "pcieport 0000:15:01.0: pciehp: Slot(11): Link Up"}, []Finding{
			{Kind: PCIeLinkDown, PCIBusID: "0000:15:01.0", Subcode: "link down", Text: "pcieport 0000:15:01.0: pciehp: Slot(11): Link Down"},
			{Kind: PCIeLinkDown, Sequence: 1, PCIBusID: "0000:15:01.0", Subcode: "card not present", Text: "pcieport 0000:15:01.0: pciehp: Slot(11-1): Card not present"},
		}},
		{"out of memory", []string{
			"Out of memory: Killed process 4711 (python3) total-vm:123kB, anon-rss:1kB", "Memory cgroup out of memory: Killed process 4712 (a (b) c) total-vm:123kB",
			"Out of memory: Killed process 4713, UID 48, (httpd).", "Out of memory (oom_kill_allocating_task): Killed process 4714 (x) total-vm:1kB", "Out of paper",
		}, []Finding{
			{Kind: ProcessKilled, ProcessID: new(int64(4711)), ProcessName: "python3", Subcode: "out_of_memory", Text: "Out of memory: Killed process 4711 (python3) total-vm:123kB, anon-rss:1kB"},
			{Kind: ProcessKilled, Sequence: 1, ProcessID: new(int64(4712)), ProcessName: "a (b", Subcode: "out_of_memory", Text: "Memory cgroup out of memory: Killed process 4712 (a (b) c) total-vm:123kB"},
			{Kind: ProcessKilled, Sequence: 2, ProcessID: new(int64(4713)), ProcessName: "httpd", Subcode: "out_of_memory", Text: "Out of memory: Killed process 4713, UID 48, (httpd)."},
			{Kind: ProcessKilled, Sequence: 3, ProcessID: new(int64(4714)), ProcessName: "x", Subcode: "out_of_memory", Text: "Out of memory (oom_kill_allocating_task): Killed process 4714 (x) total-vm:1kB"},
		}},
		{"the host's memory", []string{
			"Memory failure: 0x12345: Sending SIGBUS to python3:4711 due to hardware memory corruption", "mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 7: 9c00004000010092",
			"mce: CPU supports 32 MCE banks",
		}, []Finding{
			{Kind: ProcessKilled, ProcessID: new(int64(4711)), ProcessName: "python3", Subcode: "memory_error", Text: "Memory failure: 0x12345: Sending SIGBUS to python3:4711 due to hardware memory corruption"},
			{Kind: MachineCheck, Sequence: 1, Text: "mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 7: 9c00004000010092"},
		}},
		{"network cards", []string{
			"mlx5_core 0000:5c:00.0 ens1f0np0: Link down", "mlx5_core 0000:5c:00.0 ens1f0np0: Link up", "mlx5_core 0000:5c:00.0: Port module event: module 0, Cable unplugged",
			"mlx5_core 0000:5c:00.0: mlx5_port_module_event:1131:(pid 0): Port module event[error]: module 0, Cable error, High Temperature",
			"mlx5_core 0000:5c:00.0: poll_health:835:(pid 0): device's health compromised - reached miss count", "mlx5_core 0000:5c:00.0: Port module event: module 0, Cable plugged",
			"mlx5_core 0000:5c:00.0: firmware version: 16.27.2048",
		}, []Finding{
			{Kind: NetworkLinkDown, PCIBusID: "0000:5c:00.0", Subcode: "ens1f0np0", Text: "mlx5_core 0000:5c:00.0 ens1f0np0: Link down"},
			{Kind: NetworkLinkUp, Sequence: 1, PCIBusID: "0000:5c:00.0", Subcode: "ens1f0np0", Text: "mlx5_core 0000:5c:00.0 ens1f0np0: Link up"},
			{Kind: NetworkLinkDown, Sequence: 2, PCIBusID: "0000:5c:00.0", Subcode: "cable unplugged", Text: "mlx5_core 0000:5c:00.0: Port module event: module 0, Cable unplugged"},
			{
				Kind: NetworkFault, Sequence: 3, PCIBusID: "0000:5c:00.0", Subcode: "cable error, high temperature",
				Text: "mlx5_core 0000:5c:00.0: mlx5_port_module_event:1131:(pid 0): Port module event[error]: module 0, Cable error, High Temperature",
			},
			{Kind: NetworkFault, Sequence: 4, PCIBusID: "0000:5c:00.0", Text: "mlx5_core 0000:5c:00.0: poll_health:835:(pid 0): device's health compromised - reached miss count"},
		}},
		{"a process named like the driver", []string{"NVRM: Xid (PCI[123]: segfault at 0 ip 0 sp 0 error 4", "python3[12]: NVRM: Xid (PCI:0000:3b:00): 79, x", " NVRM: Xid (PCI:0000:3b:00): 79, x"}, nil},
		{"nothing", []string{"", " ", "NVRM:", "NVRM: ", "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05", "nvidia-nvswitch0: open (major=510)", "pcieport 0000:00:01.0: PME: Signaling with IRQ 24", "mlx5_core", "mce:"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parsed(t, tt.lines...)
			if diff := cmp.Diff(tt.want, got, withoutLine); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, f := range got {
				if (f.Line != nil) != (f.Kind == XID || f.Kind == SXID) {
					t.Errorf("%s: line %+v", f.Kind, f.Line)
				}
			}
		})
	}
}

// TestNodeLog reads the log of a bad hour of one node: records as the kernel writes them.
func TestNodeLog(t *testing.T) {
	text, err := os.ReadFile("testdata/node.kmsg")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	p := newParser(func(f Finding, _ time.Duration) {
		words := []string{fmt.Sprintf("%d %s %s", f.Sequence, f.Kind, f.PCIBusID)}
		for _, n := range []struct {
			name  string
			value *int64
		}{{"xid", f.XID}, {"sxid", f.SXID}, {"pid", f.ProcessID}, {"link", f.Link}, {"to", f.RecoveryTo}, {"gi", f.GPUInstance}} {
			if n.value != nil {
				words = append(words, fmt.Sprintf("%s=%d", n.name, *n.value))
			}
		}
		got = append(got, strings.TrimSpace(strings.Join(append(words, f.Subcode), " ")))
	})
	for block := range bytes.SplitSeq(bytes.TrimSpace(text), []byte("\n\n")) { // an empty line parts records
		rec, err := parseRecord(append(bytes.Clone(block), '\n'))
		if err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		p.passed(rec.since)
		for line := range strings.SplitSeq(rec.text, "\n") {
			p.line(Finding{Sequence: rec.sequence}, rec.since, line)
		}
	}
	p.flush()
	want := []string{
		"2103 pcie_corrected 0000:3b:00.0 RxErr, BadTLP",
		"2110 xid 0000:3b:00.0 xid=48 pid=4711",
		"2111 xid 0000:3b:00.0 xid=63",
		"2112 xid 0000:3b:00.0 xid=94 pid=4711",
		"2113 xid 0000:3b:00.0 xid=154 to=4",
		"2114 xid 0000:3b:00.0 xid=45 pid=4711",
		"2120 sxid 0000:c1:00.0 sxid=20034 link=30",
		"2123 xid 0000:4c:00.0 xid=74 link=14",
		"2130 xid 0000:5d:00.0 xid=119 pid=2024380",
		"2142 xids_withheld 0000:5d:00.0",
		"2150 process_killed  pid=5150 out_of_memory",
		"2160 pcie_link_down 0000:15:01.0 link down",
		"2161 xid 0000:16:00.0 xid=79",
		"2170 gpu_fell_off_bus 0000:18:00.0",
		"2175 gpu_init_failed 0000:3b:00.0 0x62:0x65:1860",
		"2180 network_link_down 0000:5c:00.0 ens1f0np0",
		"2190 xid 0000:01:00.0 xid=31 pid=901 gi=5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBoundedMemory: whatever comes, little is kept.
func TestBoundedMemory(t *testing.T) {
	var found int
	p := newParser(func(Finding, time.Duration) { found++ })
	for i := range 5000 {
		since := time.Duration(i) * time.Microsecond
		bus := fmt.Sprintf("%04x:%02x:00.0", i/256, i%256)
		p.line(Finding{Sequence: uint64(i)}, since, "pcieport "+bus+": PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)")
		p.line(Finding{Sequence: uint64(i)}, since, "NVRM: GPU "+bus+": GPU has fallen off the bus.")
		p.line(Finding{Sequence: uint64(i)}, since, "NVRM: GPU at PCI:"+bus+": GPU-455d8f70-2051-db6c-0430-ffc457bff834")
		p.line(Finding{Sequence: uint64(i)}, since, "NVRM: The NVIDIA GPU "+bus)
		if len(p.aer) > maxAssembled || len(p.events) > maxRemembered || len(p.uuids) > maxRemembered {
			t.Fatalf("%d, %d, %d", len(p.aer), len(p.events), len(p.uuids))
		}
	}
	p.flush()
	if found != 10000 {
		t.Errorf("%d findings", found)
	}
	for i := range 300 { // one error with lines without end
		p.line(Finding{}, 0, "nvidia 0000:3b:00.0: PCIe Bus Error: severity=Corrected, type=x")
		for range i % 100 {
			p.line(Finding{}, 0, fmt.Sprintf("nvidia 0000:3b:00.0:    [ 0] Err%d", i))
		}
	}
	for _, e := range p.aer {
		if len(e.names) > maxAERNames || len(e.first.Text) > maxTextBytes {
			t.Errorf("%d names, %d bytes", len(e.names), len(e.first.Text))
		}
	}
}
