// SPDX-License-Identifier: Apache-2.0

package xid_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/xid"
)

func TestParseNVLink5(t *testing.T) {
	eight := int64(8)
	for _, tt := range []struct {
		code    uint32
		message string
		want    xid.NVLink5
	}{
		{
			149, "NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000001 0x00000002 0x00000003 0x00000004)",
			xid.NVLink5{Code: 149, Unit: "NETIR_LINK_EVT", Fatal: true, Link: &eight, Info: 0x004505c6, Debug: []uint32{1, 2, 3, 4}},
		},
		{
			145, "pid=12, name=x, RLW_REMAP Nonfatal XC1 i1 Link -1 (0x00000004 0x80000000)",
			xid.NVLink5{Code: 145, Unit: "RLW_REMAP", CrossContained: true, Injected: true, Info: 4, Status: 0x80000000},
		},
		{146, "TLW_RX/TLW_RX_PIPE0 Fatal XC0 Link 8 (0xa 0x00000004 0x0", xid.NVLink5{Code: 146, Unit: "TLW_RX/TLW_RX_PIPE0", Fatal: true, Link: &eight, Info: 10, Status: 4, Debug: []uint32{0}}},
	} {
		got, ok := xid.ParseNVLink5(tt.code, tt.message)
		if diff := cmp.Diff(tt.want, got); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", tt.message, ok, diff)
		}
	}
	for _, tt := range []struct {
		code    uint32
		message string
	}{
		{79, "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)"},
		{149, "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x0000"}, // cut: the status is not whole
		{149, "GPU has fallen off the bus."},
		{149, ""},
	} {
		if got, ok := xid.ParseNVLink5(tt.code, tt.message); ok {
			t.Errorf("%d %s: %+v", tt.code, tt.message, got)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name          string
		line          string
		code          uint32
		branch        xid.Branch
		decoded       bool
		form          xid.Form
		severity      xid.Severity
		action        xid.Action
		now, later    xid.Bucket
		reason        uint32
		driverDecides bool
	}{
		{"a peer's link went down, first form", "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000)", 149, 570, true, 1, xid.Critical, xid.ResetGPU, "RESET_GPU", "INVESTIGATE_PEER_DEVICE", 33, true},
		{"the same words are nothing in the second", "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000)", 149, 580, false, 0, xid.Critical, xid.ResetGPU, "WORKFLOW_NVLINK5_ERR", "WORKFLOW_NVLINK5_ERR", 0, true},
		{"without a branch the words tell", "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000)", 149, 0, true, 1, xid.Critical, xid.ResetGPU, "RESET_GPU", "INVESTIGATE_PEER_DEVICE", 33, false},
		{"second form", "NETIR_LINK_DOWN Fatal XC0 i0 Link 01 (0x02100011 0x00000000)", 149, 575, true, 2, xid.Critical, xid.ResetGPU, "RESET_GPU", "INVESTIGATE_PEER_DEVICE", 33, true},
		{"second form without a branch", "RLW_SRC_TRACK Nonfatal XC1 i0 Link 10 (0x04082907 0x00000008)", 145, 0, true, 2, xid.Warning, xid.RestartApp, "XID_154_EVAL", "IGNORE", 0, false},
		{"nothing to do", "SAW_MVB Nonfatal XC0 i0 Link 00 (0x00000001 0x00000004)", 144, 580, true, 2, xid.Info, xid.NoAction, "IGNORE", "IGNORE", 0, true},
		{"something to look at", "NETIR_BER_EVENT Nonfatal XC0 i0 Link 00 (0x00000013 0x00000001)", 149, 580, true, 2, xid.Warning, xid.Watch, "IGNORE", "INVESTIGATE_LINK_SI_AND_CABLES", 0, true},
		{"not promoted", "RLW_RXPIPE Nonfatal XC0 i0 Link 00 (0x00000006 0x00000001)", 145, 580, true, 2, xid.Warning, xid.Watch, "IGNORE", "CONTACT_SUPPORT", 0, true},
		{"promoted", "RLW_RXPIPE Fatal XC0 i0 Link 00 (0x00000086 0x00000001)", 145, 580, true, 2, xid.Critical, xid.ResetGPU, "RESET_GPU", "CONTACT_SUPPORT", 0, true},
		{"promoted, first form", "RLW_RXPIPE Fatal XC0 i0 Link 00 (0x000004c2 0x00000001)", 145, 570, true, 1, xid.Critical, xid.ResetGPU, "RESET_GPU", "CONTACT_SUPPORT", 0, true},
		{"the driver says more than the row", "SAW_MVB Fatal XC0 i0 Link 00 (0x00000001 0x00000004)", 144, 580, false, 0, xid.Critical, xid.ResetGPU, "WORKFLOW_NVLINK5_ERR", "WORKFLOW_NVLINK5_ERR", 0, true},
		{"no row", "NEW_UNIT Nonfatal XC0 i0 Link 00 (0x0000007f 0x00000004)", 148, 580, false, 0, xid.Warning, xid.RestartApp, "WORKFLOW_NVLINK5_ERR", "WORKFLOW_NVLINK5_ERR", 0, true},
		{"unit and word differ", "RLW_CTRL Nonfatal XC0 i0 Link 00 (0x00000004 0x80000000)", 145, 580, false, 0, xid.Warning, xid.RestartApp, "WORKFLOW_NVLINK5_ERR", "WORKFLOW_NVLINK5_ERR", 0, true},
		{"both names of a unit", "TLW_RX/TLW_RX_PIPE1 Fatal XC0 i0 Link 00 (0x0000000b 0x00000004)", 146, 580, true, 2, xid.Critical, xid.ResetGPU, "RESET_GPU", "CONTACT_SUPPORT", 0, true},
		{"XID 150", "MSE_WATCHDOG Fatal XC0 i0 Link -1 (0x00000000 0x00000000)", 150, 580, true, 2, xid.Critical, xid.ResetGPU, "RESET_GPU", "CONTACT_SUPPORT", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := xid.ParseNVLink5(tt.code, tt.line)
			if !ok {
				t.Fatal("not read")
			}
			v := n.Decode(tt.branch)
			got := []any{v.Code, v.Decoded, v.Form, v.Severity, v.Action, v.Immediate, v.Investigatory, v.Reason, v.DriverDecides}
			want := []any{tt.code, tt.decoded, tt.form, tt.severity, tt.action, tt.now, tt.later, tt.reason, tt.driverDecides}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.HasPrefix(v.Cause, n.Unit+": ") {
				t.Errorf("cause %q", v.Cause)
			}
		})
	}
}

// TestEveryRowCanBeReached builds the line of each row in both forms, and reads it back.
func TestEveryRowCanBeReached(t *testing.T) {
	counts := map[xid.Bucket]int{}
	for _, r := range xid.NVLink5Rows() {
		counts[r.Immediate]++
		for form, branch := range map[xid.Form]xid.Branch{xid.FirstForm: 570, xid.SecondForm: 580} {
			unit, info := lineOf(r, form)
			word := map[bool]string{true: "Fatal", false: "Nonfatal"}[r.Effect != xid.NothingFatal]
			line := fmt.Sprintf("%s %s XC0 i0 Link 03 (0x%08x 0x%08x)", unit, word, info, max(r.Status, 0))
			n, ok := xid.ParseNVLink5(r.Code, line)
			if !ok {
				t.Fatalf("%s: not read", line)
			}
			v := n.Decode(branch)
			if !v.Decoded || v.Form != form || v.Immediate != r.Immediate || v.Investigatory != r.Investigatory || v.Effect != r.Effect || v.Origin != r.Origin {
				t.Errorf("%d %s: %+v, want %+v", r.Code, line, v, r)
			}
		}
	}
	// 95 rows of the workbook, and one more for each of the four that say two things.
	if diff := cmp.Diff(map[xid.Bucket]int{"IGNORE": 45, "RESET_GPU": 46, "XID_154_EVAL": 8}, counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// lineOf is the unit and the first word of a line that r is about.
func lineOf(r xid.NVLink5Row, form xid.Form) (unit string, info uint32) {
	info = r.Reason << 20
	if form == xid.SecondForm {
		if r.Promoted == xid.BitSet {
			info |= 1 << 7
		}
		return r.Unit2, info | r.Number2
	}
	if r.Promoted == xid.BitSet {
		info |= 1 << 10
	}
	if r.Code != 150 {
		info |= r.Code - 143
	}
	return r.Unit1, info | r.Number1<<5
}

// FuzzParseNVLink5: what is read can be written again, and is read as the same.
func FuzzParseNVLink5(f *testing.F) {
	f.Add(uint32(149), "NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000001)", 570)
	f.Add(uint32(145), "RLW_REMAP Nonfatal XC1 i1 Link -1 (0x00000004 0x80000000)", 580)
	f.Add(uint32(150), "MSE_WATCHDOG Fatal XC0 Link 0 (0x0 0xffffffff 0x1 0x2 0x3 0x4 0x5 0x6)", 0)
	f.Fuzz(func(t *testing.T, code uint32, message string, branch int) {
		n, ok := xid.ParseNVLink5(code, message)
		if !ok {
			return
		}
		again, ok := xid.ParseNVLink5(code, nvlink5Text(n))
		if diff := cmp.Diff(n, again); diff != "" || !ok {
			t.Fatalf("%q became %q (-want +got):\n%s", message, nvlink5Text(n), diff)
		}
		v := n.Decode(xid.Branch(branch))
		if v.Action == xid.Decode || n.Fatal && v.Severity == xid.Info {
			t.Fatalf("%q: %+v", message, v)
		}
	})
}

func nvlink5Text(n xid.NVLink5) string {
	bit := map[bool]int{true: 1}
	link := "-1"
	if n.Link != nil {
		link = fmt.Sprintf("%02d", *n.Link)
	}
	words := []string{fmt.Sprintf("0x%08x 0x%08x", n.Info, n.Status)}
	for _, w := range n.Debug {
		words = append(words, fmt.Sprintf("0x%08x", w))
	}
	return fmt.Sprintf("%s %s XC%d i%d Link %s (%s)", n.Unit, map[bool]string{true: "Fatal", false: "Nonfatal"}[n.Fatal], bit[n.CrossContained], bit[n.Injected], link, strings.Join(words, " "))
}
