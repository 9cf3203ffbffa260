// SPDX-License-Identifier: Apache-2.0

package xid

// Recovery is a recovery action of the driver: the number that an XID 154 and field 230 of NVML give.
type Recovery struct {
	Number   uint32
	Name     string // as the driver writes it
	Severity Severity
	Action   Action
}

// Recoveries lists the recovery actions of the driver.
func Recoveries() []Recovery {
	return []Recovery{
		{0, "None", Info, NoAction},
		{1, "GPU Reset Required", Critical, ResetGPU},
		{2, "Node Reboot Required", Critical, RebootNode},
		{3, "Drain P2P", Warning, Drain},
		{4, "Drain and Reset", Critical, ResetGPU},
		{5, "Recover IMEX Domain", Critical, RestartFabric},
	}
}

// LookupRecovery says what a recovery action means. One that nobody knows yet is a warning without an action.
func LookupRecovery(number uint32) Recovery {
	if all := Recoveries(); int(number) < len(all) {
		return all[number]
	}
	return Recovery{Number: number, Name: "Unknown", Severity: Warning, Action: NoAction}
}
