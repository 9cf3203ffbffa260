// SPDX-License-Identifier: Apache-2.0

package xid_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema/xid"
)

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		code     uint32
		branch   xid.Branch
		severity xid.Severity
		class    xid.Class
		action   xid.Action
		decides  bool
	}{
		{13, 580, xid.Warning, xid.ApplicationFault, xid.RestartApp, false},
		{41, 0, xid.Warning, xid.Engine, xid.RestartApp, false},
		{48, 564, xid.Critical, xid.Memory, xid.ResetGPU, false},
		{48, 565, xid.Critical, xid.Memory, xid.ResetGPU, true},
		{48, 0, xid.Critical, xid.Memory, xid.ResetGPU, false},
		{54, 0, xid.Critical, xid.ThermalPower, xid.InspectHardware, false},
		{79, 580, xid.Critical, xid.PCIe, xid.RebootNode, true},
		{94, 550, xid.Warning, xid.Memory, xid.RestartApp, false},
		{103, 580, xid.Warning, xid.Video, xid.RestartApp, false},
		{109, 565, xid.Critical, xid.Engine, xid.ResetGPU, false},
		{109, 570, xid.Critical, xid.Engine, xid.ResetGPU, true},
		{119, 580, xid.Critical, xid.Firmware, xid.ResetGPU, false},
		{149, 580, xid.Warning, xid.NVLink, xid.Decode, true},
		{151, 580, xid.Warning, xid.Security, xid.RestartVM, false},
		{154, 580, xid.Warning, xid.Driver, xid.FollowOther, false},
		{158, 0, xid.Critical, xid.Firmware, xid.ResetGPU, true},
		{173, 580, xid.Critical, xid.NVLink, xid.RebootNode, false},
	} {
		e := xid.Lookup(tt.code, tt.branch)
		got := []any{e.Code, e.Known, e.Severity, e.Class, e.Action, e.DriverDecides}
		want := []any{tt.code, true, tt.severity, tt.class, tt.action, tt.decides}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d on %v (-want +got):\n%s", tt.code, tt.branch, diff)
		}
	}
}

// TestUnknownCodesTouchNothing: somebody is told, and nothing is reset for a code that nobody knows.
func TestUnknownCodesTouchNothing(t *testing.T) {
	for code, mnemonic := range map[uint32]string{0: "", 56: "DISPLAY_CHANNEL_EXCEPTION", 999: "", 11012: "", ^uint32(0): ""} {
		e := xid.Lookup(code, 580)
		if e.Known || e.Severity != xid.Warning || e.Action != xid.NoAction || e.Class != xid.Unknown || e.Mnemonic != mnemonic || e.Code != code {
			t.Errorf("%d: %+v", code, e)
		}
	}
}

func TestLookupSwitch(t *testing.T) {
	yes, no := true, false
	for _, tt := range []struct {
		code     uint32
		fatal    *bool
		known    bool
		severity xid.Severity
		action   xid.Action
		fatality xid.Fatality
	}{
		{11012, nil, true, xid.Info, xid.NoAction, xid.NonFatal},
		{12028, &no, true, xid.Critical, xid.RestartApp, xid.NonFatal},
		{20034, &yes, true, xid.Critical, xid.ResetGPU, xid.PotentiallyFatal},
		{23010, &yes, true, xid.Critical, xid.RebootNode, xid.AlwaysFatal},
		{28006, nil, false, xid.Warning, xid.NoAction, ""},
		{28006, &no, false, xid.Warning, xid.NoAction, xid.NonFatal},
		{28006, &yes, false, xid.Critical, xid.FollowOther, xid.PotentiallyFatal},
		{79, &yes, false, xid.Critical, xid.FollowOther, xid.PotentiallyFatal},
	} {
		e := xid.LookupSwitch(tt.code, tt.fatal)
		got := []any{e.Code, e.Known, e.Severity, e.Action, e.Fatality}
		want := []any{tt.code, tt.known, tt.severity, tt.action, tt.fatality}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", tt.code, diff)
		}
	}
}

// TestRowsAreWhole holds what every row must have.
func TestRowsAreWhole(t *testing.T) {
	mnemonic := regexp.MustCompile(`^[A-Z0-9_]+( / [A-Z0-9_]+)?$`)
	seen := map[uint32]bool{}
	names := map[string]uint32{}
	for _, e := range xid.All() {
		if seen[e.Code] {
			t.Errorf("%d is there twice", e.Code)
		}
		seen[e.Code] = true
		if other, twice := names[e.Mnemonic]; twice {
			t.Errorf("%d and %d are both %s", other, e.Code, e.Mnemonic)
		}
		names[e.Mnemonic] = e.Code
		for what, bad := range map[string]bool{
			"mnemonic":  !mnemonic.MatchString(e.Mnemonic),
			"cause":     !strings.HasSuffix(e.Cause, ".") || len(e.Cause) > 240 || strings.Contains(e.Cause, "|"),
			"severity":  !has(xid.Severities(), string(e.Severity)),
			"class":     !has(xid.Classes(), string(e.Class)) || e.Class == xid.Unknown,
			"action":    !has(xid.Actions(), string(e.Action)),
			"immediate": e.Immediate != "" && !has(xid.Buckets(), string(e.Immediate)),
			"later":     e.Investigatory != "" && !has(xid.Buckets(), string(e.Investigatory)),
			"fatality":  (e.Fatality == "") != (e.Code < xid.FirstSwitchCode),
			"known":     !e.Known || e.Overridden || e.DriverDecides,
			// Whoever is woken must have something to do, and nobody does anything for a mere record.
			"critical without an action": e.Severity == xid.Critical && slices.Contains([]xid.Action{xid.NoAction, xid.Watch}, e.Action),
			"info with an action":        e.Severity == xid.Info && !slices.Contains([]xid.Action{xid.NoAction, xid.Watch, xid.FollowOther}, e.Action),
		} {
			if bad {
				t.Errorf("%d: %s: %+v", e.Code, what, e)
			}
		}
	}
}

func has(words []xid.Word, name string) bool {
	return slices.ContainsFunc(words, func(w xid.Word) bool { return w.Name == name })
}

// TestCountsOfTheSource compares with what the workbook has: rows by its advice, among the codes of at least one
// GPU. 173 is not in it.
func TestCountsOfTheSource(t *testing.T) {
	counts := map[xid.Bucket]int{}
	total, switches := 0, map[xid.Fatality]int{}
	for _, e := range xid.All() {
		switch {
		case e.Fatality != "":
			switches[e.Fatality]++
		case e.Generations != 0 && e.Code != 173:
			total++
			counts[e.Immediate]++
		}
	}
	want := map[xid.Bucket]int{
		"RESTART_APP": 48, "IGNORE": 19, "RESET_GPU": 14, "RESTART_BM": 1, "WORKFLOW_NVLINK5_ERR": 7, "": 11,
		"WORKFLOW_XID_45": 1, "WORKFLOW_XID_48": 1, "WORKFLOW_NVLINK_ERR": 1, "CHECK_MECHANICALS": 1, "UPDATE_SWFW": 1,
		"RESTART_VM": 1, "XID_154": 1, "CHECK_UVM": 1, "CONTACT_SUPPORT": 1,
	}
	if diff := cmp.Diff(want, counts); diff != "" || total != 109 {
		t.Errorf("%d rows, want 109 (-want +got):\n%s", total, diff)
	}
	if diff := cmp.Diff(map[xid.Fatality]int{xid.NonFatal: 30, xid.PotentiallyFatal: 42, xid.AlwaysFatal: 21}, switches); diff != "" {
		t.Errorf("SXIDs (-want +got):\n%s", diff)
	}
}

// contentOfVersion is the digest of all rows of each version. A changed row is a new version, because verdicts that
// are stored name theirs.
var contentOfVersion = map[int]string{
	1: "51e15cf182c0f90a",
}

func TestChangedRowsAreANewVersion(t *testing.T) {
	content, err := json.Marshal([]any{xid.All(), xid.Recoveries(), nvlink5Table()})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if got := hex.EncodeToString(sum[:8]); got != contentOfVersion[xid.CatalogueVersion] {
		t.Errorf("the rows changed: raise CatalogueVersion if version %d was released, and set its digest here to %s", xid.CatalogueVersion, got)
	}
}

func nvlink5Table() (rows []string) {
	for _, r := range xid.NVLink5Rows() {
		rows = append(rows, fmt.Sprintf("%+v", r))
	}
	return rows
}

func TestApplicationCodes(t *testing.T) {
	var codes []uint32
	for _, e := range xid.All() {
		if e.Application {
			codes = append(codes, e.Code)
		}
	}
	if diff := cmp.Diff([]uint32{13, 31, 43, 45, 68, 109}, codes); diff != "" {
		t.Error(diff)
	}
}

func TestParseBranch(t *testing.T) {
	for version, want := range map[string]xid.Branch{"580.95.05": 580, "R575": 575, "r570": 570, "535": 535, "1000.1": 1000} {
		if got, err := xid.ParseBranch(version); got != want || err != nil {
			t.Errorf("%s: %v, %v", version, got, err)
		}
	}
	for _, version := range []string{"", "abc", "-580", "5", "99999.1", "R", "580beta"} {
		if got, err := xid.ParseBranch(version); err == nil || !strings.Contains(err.Error(), "such as 580.95.05") {
			t.Errorf("%q: %v, %v", version, got, err)
		}
	}
}

func TestRecoveries(t *testing.T) {
	for i, r := range xid.Recoveries() {
		if int(r.Number) != i || xid.LookupRecovery(r.Number) != r {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if r := xid.LookupRecovery(77); r.Action != xid.NoAction || r.Severity != xid.Warning || r.Number != 77 {
		t.Errorf("%+v", r)
	}
}
