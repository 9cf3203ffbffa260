// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"slices"
	"strconv"

	"github.com/gpufleet/gpufleet/agent/internal/event"
	"github.com/gpufleet/gpufleet/schema/xid"
)

// Catalogue judges faults by the catalogue of XIDs, with an operator's overrides, and faults without a code by a
// table of its own. The driver's own verdict goes before the catalogue's, unless an operator has overruled it: it
// knows what else is wrong with the GPU.
type Catalogue struct {
	Overrides *xid.Overrides
}

// kindVerdicts judges what has no code.
var kindVerdicts = map[string]Verdict{
	"gpu_off_bus":            {Severity: string(xid.Critical), Class: string(xid.PCIe), Action: string(xid.RebootNode)},
	"gpu_lost":               {Severity: string(xid.Critical), Class: string(xid.PCIe), Action: string(xid.RebootNode)},
	"gpu_stuck":              {Severity: string(xid.Critical), Class: string(xid.Driver), Action: string(xid.ResetGPU)},
	"gpu_init_failed":        {Severity: string(xid.Critical), Class: string(xid.Driver), Action: string(xid.ResetGPU)},
	"gpu_unavailable":        {Severity: string(xid.Critical), Class: string(xid.Driver), Action: string(xid.ResetGPU)},
	"recovery_action":        {Severity: string(xid.Warning), Class: string(xid.Driver), Action: string(xid.NoAction)},
	"ecc_double_bit":         {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.ResetGPU)},
	"ecc_uncorrectable":      {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.ResetGPU)},
	"sram_threshold":         {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.InspectHardware)},
	"poison_nonfatal":        {Severity: string(xid.Warning), Class: string(xid.Memory), Action: string(xid.RestartApp)},
	"poison_fatal":           {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.ResetGPU)},
	"ecc_single_bit_storm":   {Severity: string(xid.Warning), Class: string(xid.Memory), Action: string(xid.Watch)},
	"dram_retired":           {Severity: string(xid.Warning), Class: string(xid.Memory), Action: string(xid.NoAction)},
	"row_remapped":           {Severity: string(xid.Warning), Class: string(xid.Memory), Action: string(xid.NoAction)},
	"row_remap_pending":      {Severity: string(xid.Warning), Class: string(xid.Memory), Action: string(xid.Watch)},
	"dram_retirement_failed": {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.InspectHardware)},
	"row_remap_failed":       {Severity: string(xid.Critical), Class: string(xid.Memory), Action: string(xid.InspectHardware)},
	"nvlink_error":           {Severity: string(xid.Warning), Class: string(xid.NVLink), Action: string(xid.Watch)},
	"pcie_error":             {Severity: string(xid.Warning), Class: string(xid.PCIe), Action: string(xid.Watch)},
	"pcie_fatal":             {Severity: string(xid.Critical), Class: string(xid.PCIe), Action: string(xid.RebootNode)},
	"xid":                    {Severity: string(xid.Warning), Class: string(xid.Unknown), Action: string(xid.NoAction)}, // the driver did not say which
}

// Judge implements Judge.
func (c Catalogue) Judge(e event.Event, branch int) Verdict {
	v, overruled := c.byCode(e, xid.Branch(branch))
	if v == (Verdict{}) {
		v = kindVerdicts[e.Kind]
	}
	v.Version = strconv.Itoa(xid.CatalogueVersion)
	if c.Overrides.Len() > 0 {
		v.Version += "+"
	}
	if action := e.Fault.RecoveryAction; action != nil && *action > 0 && !overruled {
		r := xid.LookupRecovery(uint32(*action))
		v.Severity, v.Action = worse(v.Severity, string(r.Severity)), string(r.Action)
	}
	return v
}

// byCode is the verdict on a code; the zero Verdict if there is none. overruled tells that it is an operator's.
func (c Catalogue) byCode(e event.Event, branch xid.Branch) (v Verdict, overruled bool) {
	var line xid.Line
	switch {
	case e.XID != nil:
		line.Code = uint32(*e.XID)
	case e.Fault.SXID != nil:
		line.Code, line.Switch = uint32(*e.Fault.SXID), true
	default:
		return Verdict{}, false
	}
	if said, ok := xid.ParseLine(e.Message); ok && said.Code == line.Code && said.Switch == line.Switch {
		line = said // its words decide on NVLink 5, and on switches
	}
	found := line.Lookup(c.Overrides, branch)
	return Verdict{Severity: string(found.Severity), Class: string(found.Class), Action: string(found.Action)}, found.Overridden
}

// worse is the graver of two severities.
func worse(a, b string) string {
	rank := func(s string) int {
		return slices.IndexFunc(xid.Severities(), func(w xid.Word) bool { return w.Name == s })
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}
