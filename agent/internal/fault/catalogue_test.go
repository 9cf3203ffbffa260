// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"slices"
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/xid"
)

func TestEveryFaultIsJudged(t *testing.T) {
	words := func(set []xid.Word) (names []string) {
		for _, w := range set {
			names = append(names, w.Name)
		}
		return names
	}
	severities, classes, actions := words(xid.Severities()), words(xid.Classes()), words(xid.Actions())
	for kind := range rules {
		if !slices.ContainsFunc(schema.EventKinds(), func(k schema.EventKind) bool { return k.Name == kind }) {
			t.Errorf("%s is no kind of event", kind)
		}
		e := event.Event{Kind: kind, Fault: &event.Fault{}}
		if kind == "sxid" {
			e.Fault.SXID = new(int64(20034))
		}
		v := Catalogue{Overrides: &xid.Overrides{}}.Judge(e, 580)
		if !slices.Contains(severities, v.Severity) || !slices.Contains(classes, v.Class) || !slices.Contains(actions, v.Action) || v.Version == "" {
			t.Errorf("%s is judged %+v", kind, v)
		}
	}
	for kind := range kindVerdicts {
		if _, ok := rules[kind]; !ok {
			t.Errorf("%s has a verdict, and is no fault", kind)
		}
	}
}

func TestVerdicts(t *testing.T) {
	const link = "NVRM: Xid (PCI:0000:3b:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x00450011 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)"
	overrides := &xid.Overrides{}
	if err := overrides.Read(strings.NewReader("xid:\n  94: {severity: info, action: none}\n"), "test"); err != nil {
		t.Fatal(err)
	}
	plain := &xid.Overrides{}
	tests := map[string]struct {
		event     event.Event
		overrides *xid.Overrides
		want      string // severity class action version
	}{
		"a code":                        {event.Event{Kind: "xid", XID: new(int64(79)), Fault: &event.Fault{}}, plain, "critical pcie reboot_node 1"},
		"a code of the application":     {event.Event{Kind: "xid", XID: new(int64(31)), Fault: &event.Fault{}}, plain, "warning application restart_app 1"},
		"a code that nobody knows":      {event.Event{Kind: "xid", XID: new(int64(9999)), Fault: &event.Fault{}}, plain, "warning unknown none 1"},
		"the driver's verdict":          {event.Event{Kind: "xid", XID: new(int64(94)), Fault: &event.Fault{RecoveryAction: new(int64(1))}}, plain, "critical memory reset_gpu 1"},
		"the driver asks for nothing":   {event.Event{Kind: "xid", XID: new(int64(94)), Fault: &event.Fault{RecoveryAction: new(int64(0))}}, plain, "warning memory restart_app 1"},
		"an operator's, over both":      {event.Event{Kind: "xid", XID: new(int64(94)), Fault: &event.Fault{RecoveryAction: new(int64(1))}}, overrides, "info memory none 1+"},
		"an operator's, on other codes": {event.Event{Kind: "xid", XID: new(int64(79)), Fault: &event.Fault{}}, overrides, "critical pcie reboot_node 1+"},
		"a kind":                        {event.Event{Kind: "row_remap_failed", Fault: &event.Fault{}}, plain, "critical memory inspect_hardware 1"},
		"a verdict alone":               {event.Event{Kind: "recovery_action", Fault: &event.Fault{RecoveryAction: new(int64(2))}}, plain, "critical driver reboot_node 1"},
		"an NVLink by its words":        {event.Event{Kind: "xid", XID: new(int64(149)), Message: link, Fault: &event.Fault{}}, plain, "critical nvlink reset_gpu 1"},
	}
	for name, tt := range tests {
		v := Catalogue{Overrides: tt.overrides}.Judge(tt.event, 570)
		if got := strings.Join([]string{v.Severity, v.Class, v.Action, v.Version}, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
