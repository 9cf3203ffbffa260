// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/internal/catalog"
	"github.com/gpufleet/gpufleet/schema/xid"
)

func TestWriteXID(t *testing.T) {
	var rules xid.Overrides
	if err := rules.Read(strings.NewReader("xid: {94: {action: none, note: ours}, 31: {note: look}}"), "f.yaml"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		verdict xid.Verdict
		branch  xid.Branch
		want    string
	}{
		{xid.Verdict{Entry: rules.Lookup(79, 580)}, 580, `XID 79 ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS
The driver no longer reaches the GPU over PCIe: the board, its power, a riser, heat, or the host.

severity         critical         The GPU, or the node, should get no work until the action is taken.
class            pcie             The link to the host.
action           reboot_node      Drain, then reboot the node.
driver           R565             An XID 154 follows and says what the driver wants done. It goes before the action.
nvidia, at once  RESTART_BM       Restart the machine.
nvidia, then     CONTACT_SUPPORT  Ask whoever supports the hardware.
occurs on                         ampere, hopper, blackwell, grace-blackwell
catalogue        version 1        Facts as of 2025-09-30.
`},
		{xid.Verdict{Entry: rules.Lookup(94, 580)}, 580, `XID 94 ROBUST_CHANNEL_CONTAINED_ERROR
An uncorrectable error hit one application, and only that. Look for XID 48, 63 or 64 beside it.

severity         warning               Something to do, not at once.
class            memory                HBM, SRAM and their ECC.
action           none                  Record it.
operator         overridden            ours
driver           R565                  An XID 154 follows, but the operator's action goes before it.
nvidia, at once  RESTART_APP           Restart the application; the GPU needs no reset.
nvidia, then     IGNORE (sympathetic)  A consequence of another error: resolve that one. Alone, report it.
occurs on                              ampere, hopper, blackwell, grace-blackwell
catalogue        version 1             Facts as of 2025-09-30.
`},
		{xid.Verdict{Entry: rules.LookupSwitch(28006, nil)}, 0, `SXID 28006
An NVSwitch error that this catalogue does not have.

severity   warning    Something to do, not at once.
class      nvlink     NVLink, NVSwitch and C2C, the link to a Grace CPU.
action     none       Record it.
catalogue  version 1  Facts as of 2025-09-30.
`},
	} {
		var text strings.Builder
		if err := catalog.WriteXID(&text, tt.verdict, tt.branch); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, text.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestDriverSentence: what is said of an XID 154 depends on what is known of the driver.
func TestDriverSentence(t *testing.T) {
	for branch, want := range map[xid.Branch]string{
		0: "From this branch on an XID 154 follows and goes before", 550: "R550 is older", 565: "says what the driver wants done",
	} {
		var text strings.Builder
		if err := catalog.WriteXID(&text, xid.Verdict{Entry: xid.Lookup(48, branch)}, branch); err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("%v: %v\n%s", branch, err, text.String())
		}
	}
}

func TestWriteXIDs(t *testing.T) {
	var text strings.Builder
	if err := catalog.WriteXIDs(&text, xid.All()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if len(lines) != len(xid.All())+1 || !strings.HasPrefix(lines[0], "code   severity") || !strings.HasPrefix(lines[1], "8      warning   application    restart_app ") {
		t.Errorf("%d lines:\n%s\n%s", len(lines), lines[0], lines[1])
	}
	text.Reset()
	if err := catalog.WriteXIDsJSON(&text, xid.All()); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(text.String()))
	for _, want := range xid.All() {
		var got struct {
			Code        uint32
			Generations []string
			Cause       string
		}
		if err := decoder.Decode(&got); err != nil || got.Code != want.Code || got.Cause != want.Cause || len(got.Generations) != len(want.Generations.Names()) {
			t.Fatalf("%v: %+v, want %+v", err, got, want)
		}
	}
}

func TestWriteXIDJSON(t *testing.T) {
	var text strings.Builder
	if err := catalog.WriteXIDJSON(&text, xid.Verdict{Entry: xid.LookupSwitch(20001, nil)}); err != nil {
		t.Fatal(err)
	}
	want := `{"catalogue_version":1,"code":20001,"mnemonic":"HW_DLPL_TX_REPLAY","known":true,"generations":["ampere","hopper"],` +
		`"cause":"A packet had to be sent again, which costs bandwidth.","severity":"info","class":"nvlink","action":"watch","fatality":"non_fatal",` +
		`"driver_decides":false,"application":false,"overridden":false,"decoded":false}` + "\n"
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
