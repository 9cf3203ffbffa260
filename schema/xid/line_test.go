// SPDX-License-Identifier: Apache-2.0

package xid_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/xid"
)

func TestParseLine(t *testing.T) {
	nvlink, _ := xid.ParseNVLink5(149, "NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)")
	for _, tt := range []struct {
		text string
		want xid.Line
	}{
		{
			"NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python3, GPU has fallen off the bus.",
			xid.Line{Code: 79, PCIBusID: "0000:3b:00.0", ProcessID: new(int64(4711)), ProcessName: "python3", Message: "GPU has fallen off the bus."},
		},
		{
			"NVRM: Xid (PCI:0000:3B:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
			xid.Line{Code: 79, PCIBusID: "0000:3b:00.0", Message: "GPU has fallen off the bus."},
		},
		{"NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", xid.Line{Code: 79, PCIBusID: "0000:3b:00.0", Message: "GPU has fallen off the bus."}},
		{"NVRM: Xid (0000:03:00): 14, Channel 0000001f", xid.Line{Code: 14, PCIBusID: "0000:03:00.0", Channel: new(int64(31)), Message: "Channel 0000001f"}},
		{
			"NVRM: Xid (PCI:0000:b5:00): 31, pid=2079991, name=train, Ch 00000007, intr 00000000. MMU Fault: ENGINE GRAPHICS",
			xid.Line{
				Code: 31, PCIBusID: "0000:b5:00.0", ProcessID: new(int64(2079991)), ProcessName: "train", Channel: new(int64(7)),
				Message: "Ch 00000007, intr 00000000. MMU Fault: ENGINE GRAPHICS",
			},
		},
		{
			"NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:01): 94, pid=7194, name=a, Contained: CE User Channel (0x9). RST: No, D-RST: No",
			xid.Line{
				Code: 94, PCIBusID: "0000:01:00.0", GPUInstance: new(int64(5)), ComputeInstance: new(int64(1)), ProcessID: new(int64(7194)), ProcessName: "a",
				Message: "Contained: CE User Channel (0x9). RST: No, D-RST: No",
			},
		},
		{
			"NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
			xid.Line{Code: 94, PCIBusID: "0000:01:00.0", GPUInstance: new(int64(5)), ProcessID: new(int64(7194)), Message: "Contained: CE User Channel (0x9). RST: No, D-RST: No"},
		},
		{
			"NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
			xid.Line{Code: 74, PCIBusID: "0003:00:00.0", Link: new(int64(14)), Message: "NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)"},
		},
		{
			"NVRM: Xid (PCI:0000:3b:00): 45, pid=9, name=x, Ch 00000008 caused by previous Xid 48",
			xid.Line{Code: 45, PCIBusID: "0000:3b:00.0", ProcessID: new(int64(9)), ProcessName: "x", Channel: new(int64(8)), CausedBy: new(int64(48)), Message: "Ch 00000008 caused by previous Xid 48"},
		},
		{
			"NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
			xid.Line{
				Code: 154, PCIBusID: "0008:01:00.0", RecoveryFrom: new(int64(0)), RecoveryTo: new(int64(2)),
				Message: "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)",
			},
		},
		{
			"NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)",
			xid.Line{
				Code: 149, PCIBusID: "0018:01:00.0", Link: new(int64(8)), Fatal: new(true), NVLink5: &nvlink,
				Message: "NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)",
			},
		},
		{"NVRM: Xid (PCI:10000:01:00): 62", xid.Line{Code: 62, PCIBusID: "10000:01:00.0"}},
		{"NVRM: Xid (PCI:0000:b3:00.0): 79, pid=1234, name=nv-hostengine", xid.Line{Code: 79, PCIBusID: "0000:b3:00.0", ProcessID: new(int64(1234)), ProcessName: "nv-hostengine"}},
		{
			"nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)",
			xid.Line{Switch: true, Code: 12028, PCIBusID: "0000:c1:00.0", Link: new(int64(32)), Fatal: new(false), Message: "Non-fatal, Link 32 egress non-posted PRIV error (First)"},
		},
		{
			"nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
			xid.Line{Switch: true, Code: 20034, PCIBusID: "0000:00:00.0", Link: new(int64(30)), Fatal: new(true), Message: "Fatal, Link 30 LTSSM Fault Up"},
		},
		{
			"nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 12033, Severity 1 Engine instance 00 Sub-engine instance 00",
			xid.Line{Switch: true, Code: 12033, PCIBusID: "0000:c3:00.0", Detail: true, Message: "Severity 1 Engine instance 00 Sub-engine instance 00"},
		},
		{"nvidia-nvswitch0: SXid (PCI:0004:00:00.0): 26008, SOE Watchdog error", xid.Line{Switch: true, Code: 26008, PCIBusID: "0004:00:00.0", Message: "SOE Watchdog error"}},
	} {
		got, ok := xid.ParseLine(tt.text)
		if diff := cmp.Diff(tt.want, got); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", tt.text, ok, diff)
		}
	}
	for _, text := range []string{
		"", "NVRM: GPU at PCI:0000:03:00: GPU-1", "NVRM: Xid error: xyz", "NVRM: Xid (PCI:0000:b3:00): INVALID, pid=1", "NVRM: Xid (invalid): 79, x",
		"NVRM: Xid (PCI:0000:3b:00): 99999999999, x", "NVRM: Xid (PCI:00:00:00:00): 79, x", " NVRM: Xid (PCI:0000:3b:00): 79, x",
		"a.out: NVRM: Xid (PCI:0000:3b:00): 79, x", "nvidia-nvswitch0: open (major=510)", "nvidia-nvswitch0: SXid (PCI:x): 1, ",
	} {
		if got, ok := xid.ParseLine(text); ok {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// TestANameCannotForge: who may name a process cannot make its GPU look lost, or another one.
func TestANameCannotForge(t *testing.T) {
	l, ok := xid.ParseLine("NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus., Ch 00000008")
	if !ok || l.Code != 31 || l.PCIBusID != "0000:01:00.0" || *l.ProcessID != 7 {
		t.Errorf("%+v", l)
	}
}

func TestLineLookup(t *testing.T) {
	var none, mine xid.Overrides
	if err := mine.Read(strings.NewReader("xid: {154: {action: watch}, 149: {severity: info}}\nsxid: {20034: {action: watch}}"), "f.yaml"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text     string
		rules    *xid.Overrides
		severity xid.Severity
		action   xid.Action
	}{
		{"NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", &none, xid.Critical, xid.RebootNode},
		{"NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)", &none, xid.Info, xid.NoAction},
		{"NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", &mine, xid.Warning, xid.Watch},
		{"NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x021425c6 0x00000000)", &none, xid.Critical, xid.ResetGPU},
		{"NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x021425c6 0x00000000)", &mine, xid.Info, xid.ResetGPU},
		{"NVRM: Xid (PCI:0018:01:00): 149, in words of tomorrow", &none, xid.Warning, xid.RestartApp},
		{"nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", &none, xid.Critical, xid.ResetGPU},
		{"nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", &mine, xid.Critical, xid.Watch},
		{"nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 28006, Fatal, Link 30 x", &none, xid.Critical, xid.FollowOther},
		{"NVRM: Xid (PCI:0008:01:00): 48, x", &none, xid.Critical, xid.ResetGPU},
	} {
		l, ok := xid.ParseLine(tt.text)
		if v := l.Lookup(tt.rules, 570); !ok || v.Severity != tt.severity || v.Action != tt.action {
			t.Errorf("%s: %+v", tt.text, v)
		}
	}
}

func TestNormalBusID(t *testing.T) {
	for text, want := range map[string]string{
		"PCI:0000:3B:00": "0000:3b:00.0", "00000000:3b:00.0": "0000:3b:00.0", "0000:3b:00.1": "0000:3b:00.1", "3b:00": "0000:3b:00.0",
		"10000:01:00.0": "10000:01:00.0", "": "", "GPU-1": "", "0000:3b:00.8": "", "0000:3b": "", "123456789:00:00.0": "",
	} {
		if got := xid.NormalBusID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// FuzzParseLine: an address is one or there is none, and the message is a part of the line.
func FuzzParseLine(f *testing.F) {
	f.Add("NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:01): 94, pid=7194, name=a, Contained: CE User Channel (0x9).")
	f.Add("NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)")
	f.Add("NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)")
	f.Add("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)")
	address := regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := xid.ParseLine(text)
		if !ok {
			return
		}
		if !address.MatchString(l.PCIBusID) || xid.NormalBusID(l.PCIBusID) != l.PCIBusID {
			t.Fatalf("%q: address %q", text, l.PCIBusID)
		}
		if !strings.HasSuffix(text, l.Message) || !strings.Contains(text, l.ProcessName) {
			t.Fatalf("%q: %+v", text, l)
		}
		if v := l.Lookup(&xid.Overrides{}, 580); v.Code != l.Code || v.Action == xid.Decode || v.Cause == "" {
			t.Fatalf("%q: %+v", text, v)
		}
	})
}
