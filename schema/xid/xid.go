// SPDX-License-Identifier: Apache-2.0

// Package xid is the catalogue of NVIDIA's fault codes: the XIDs of GPUs and the SXIDs of NVSwitches, as
// versioned data. It says of each code what it means, on which GPUs it occurs and what NVIDIA advises, and what
// gpufleet makes of it: one severity, one class, one action. An operator's file can change the latter three.
//
// It starts no goroutines, and all of it may be used by several at once.
package xid

import (
	"maps"
	"slices"
	"sync"
)

// CatalogueVersion is stored with each verdict, so that an old one can be understood. It is raised with every
// change of a row.
const CatalogueVersion = 1

// Where the catalogue's facts are from. Severity, class, action and the causes are gpufleet's own.
const (
	Source         = "NVIDIA's Xid-Catalog.xlsx, https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"
	SourceModified = "2025-09-30" // as the workbook says of itself
	SourceSHA256   = "7f70ce9684be0c9d98a367770341ccc1d8bca4465cebe42dab7e23d57df5d5a5"
	SwitchSource   = "NVIDIA's Fabric Manager User Guide (DU-09883-001), appendix D; names from open-gpu-kernel-modules 595.45.04"
)

// FirstSwitchCode parts the two kinds of codes: below are XIDs, from here on SXIDs.
const FirstSwitchCode = 10_000

// Entry is what the catalogue says of one code.
type Entry struct {
	Code        uint32      `json:"code"`
	Mnemonic    string      `json:"mnemonic,omitempty"` // the driver's name for it
	Known       bool        `json:"known"`              // false: the catalogue has no row; record it, tell a person, do nothing
	Generations Generations `json:"generations,omitempty"`
	Cause       string      `json:"cause"`

	Severity Severity `json:"severity"`
	Class    Class    `json:"class"`
	Action   Action   `json:"action"`
	// Fatality is what NVIDIA says of an SXID; "" for XIDs.
	Fatality Fatality `json:"fatality,omitempty"`

	// NVIDIA's own advice: at once, and to find the cause.
	Immediate     Bucket `json:"nvidia_immediate,omitempty"`
	Investigatory Bucket `json:"nvidia_investigatory,omitempty"`

	// VerdictBranch is the driver branch from which on an XID 154 follows, with the action that the driver wants;
	// 0 if none does, EveryBranch if one always does.
	VerdictBranch Branch `json:"driver_verdict_from_branch,omitempty"`
	// DriverDecides tells that the driver that was asked about sends that XID 154. Its verdict goes before Action:
	// it knows what else is wrong with the GPU.
	DriverDecides bool `json:"driver_decides"`

	// Application tells that NVIDIA's device plugin for Kubernetes takes the code for the application's own fault:
	// it leaves the GPU in service.
	Application bool `json:"application"`

	Overridden bool   `json:"overridden"`     // an operator's file changed severity, class or action
	Note       string `json:"note,omitempty"` // the operator's
}

// Lookup says what an XID means to a driver of the branch; 0 if the branch is not known. There is an answer for
// every code.
func Lookup(code uint32, branch Branch) Entry {
	e, ok := rows()[code]
	if !ok || code >= FirstSwitchCode {
		return unknown(code)
	}
	e.DriverDecides = branch.has(e.VerdictBranch)
	return e
}

// LookupSwitch says what an SXID means. fatal is what the driver's line says of it, nil if it says nothing: it
// decides where the catalogue has no row.
func LookupSwitch(code uint32, fatal *bool) Entry {
	if e, ok := rows()[code]; ok && code >= FirstSwitchCode {
		return e
	}
	e := unknown(code)
	e.Class, e.Cause = NVLink, "An NVSwitch error that this catalogue does not have."
	switch {
	case fatal == nil:
	case *fatal:
		e.Severity, e.Action, e.Fatality = Critical, FollowOther, PotentiallyFatal
		e.Cause += " The driver calls it fatal: look for XID 74 on the GPUs of the link."
	default:
		e.Fatality = NonFatal
		e.Cause += " The driver calls it not fatal."
	}
	return e
}

// unknown is the answer for a code without a row: record it and tell a person, but touch nothing.
func unknown(code uint32) Entry {
	e := Entry{Code: code, Severity: Warning, Class: Unknown, Action: NoAction, Cause: "This catalogue does not have the code."}
	if name, ok := retired[code]; ok {
		e.Mnemonic = name
		e.Cause = "NVIDIA lists the code as unused from A100 on."
	}
	return e
}

// All lists the XIDs and then the SXIDs, each in order of its code.
func All() []Entry {
	all := slices.Collect(maps.Values(rows()))
	slices.SortFunc(all, func(a, b Entry) int { return int(a.Code) - int(b.Code) })
	return all
}

// rows finds a row by its code.
var rows = sync.OnceValue(func() map[uint32]Entry {
	byCode := map[uint32]Entry{}
	for _, group := range [][]Entry{
		applicationRows, engineRows(), memoryRows, nvlinkRows, pcieRows, powerRows, firmwareRows, driverRows,
		securityRows, videoRows(), switchRows(),
	} {
		for _, e := range group {
			e.Known = true
			e.Application = slices.Contains(devicePluginSkips, e.Code)
			byCode[e.Code] = e
		}
	}
	return byCode
})

// devicePluginSkips are the codes at which NVIDIA's k8s-device-plugin does not mark a GPU as unhealthy unless it
// is told to.
var devicePluginSkips = []uint32{13, 31, 43, 45, 68, 109}
