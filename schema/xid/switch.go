// SPDX-License-Identifier: Apache-2.0

package xid

// switchRow is the row of an SXID; what is the same for all of a fatality is added by switchRows. The Fabric
// Manager guide numbers them, and the driver's source names them (NVSWITCH_ERR_…).
type switchRow struct {
	code     uint32
	mnemonic string
	fatality Fatality
	cause    string
}

// switchRows are the SXIDs of NVSwitches in HGX A100 and H100. Those of GB200 sit in switch trays, where no agent
// runs.
func switchRows() []Entry {
	var list []Entry
	for _, row := range switchTable {
		e := Entry{
			Code: row.code, Mnemonic: row.mnemonic, Generations: upToHopper, Class: NVLink, Fatality: row.fatality, Cause: row.cause,
		}
		switch row.fatality {
		case PotentiallyFatal:
			e.Severity, e.Action = Critical, ResetGPU
			e.Cause += " Fatal to the GPUs whose traffic crosses the link: look for XID 74 there."
		case AlwaysFatal:
			e.Severity, e.Action = Critical, RebootNode
			e.Cause += " Fatal to the whole fabric: all GPUs and NVSwitches have to be reset."
		case NonFatal:
			e.Severity, e.Action = Info, NoAction
		}
		if judge, ok := switchJudgements[row.code]; ok {
			e.Severity, e.Class, e.Action = judge.severity, judge.class, judge.action
		}
		list = append(list, e)
	}
	return list
}

// judgement is what gpufleet makes of a code that differs from the others of its fatality.
type judgement struct {
	severity Severity
	class    Class
	action   Action
}

var switchJudgements = map[uint32]judgement{
	10001: {Warning, NVLink, FollowOther},
	10002: {Warning, NVLink, FollowOther},
	10004: {Warning, ThermalPower, InspectHardware},
	10005: {Info, ThermalPower, NoAction},
	11004: {Critical, NVLink, RestartFabric},
	12028: {Critical, NVLink, RestartApp},
	19084: {Warning, NVLink, FollowOther},
	20001: {Info, NVLink, Watch},
	20009: {Warning, NVLink, Watch},
	20012: {Warning, NVLink, Watch},
}
