// SPDX-License-Identifier: Apache-2.0

package gpu

// Numbering tells by which nvml.h a driver numbers the fields from 251 on. The header of CUDA 13.1 put those of
// power smoothing before the slowdown times:
//
//	field          older          newer
//	251            slowdown time  power smoothing is on
//	269            preset profile slowdown time
//	275 and up     unknown        more of power smoothing, then what came later
//
// A wrong numbering would store states of power smoothing as slowdown times. The branch of a driver tells it only in
// part: within R580 both occur.
type Numbering uint8

// The numberings.
const (
	NumberingUnknown Numbering = iota // only fields whose number never changed can be asked for
	OlderNumbering                    // of CUDA 12.8 to 13.0
	NewerNumbering                    // of CUDA 13.1 and later
)

// String names the numbering.
func (n Numbering) String() string {
	switch n {
	case OlderNumbering:
		return "older"
	case NewerNumbering:
		return "newer"
	case NumberingUnknown:
	}
	return "unknown"
}

// FieldID is the number of the field with the NVML name (without "NVML_FI_").
func FieldID(name string, n Numbering) (id uint32, ok bool) {
	if id, ok = stableFields[name]; ok {
		return id, true
	}
	switch n {
	case OlderNumbering:
		id, ok = olderFields[name]
	case NewerNumbering:
		id, ok = newerFields[name]
	case NumberingUnknown:
	}
	return id, ok
}

// The branches that number their fields in one way alone.
const (
	firstKnownBranch = 450 // the first that has A100
	lastOlderBranch  = 570
	firstNewerBranch = 590
)

// Fields by whose answers a driver shows its numbering.
const (
	smoothingFloor    = 275     // PWR_SMOOTHING_PRIMARY_POWER_FLOOR, of the newer header alone
	inactiveRemapping = 301     // DEV_REMAPPED_ROWS_COR_INACTIVE, likewise
	noField           = 1 << 20 // of no header
)

// NumberingOfBranch is what a branch tells: nothing of R580, in which the numbering changed.
func NumberingOfBranch(branch int) Numbering {
	switch {
	case branch >= firstNewerBranch:
		return NewerNumbering
	case branch >= firstKnownBranch && branch <= lastOlderBranch:
		return OlderNumbering
	default:
		return NumberingUnknown
	}
}

// AskNumbering finds a GPU's numbering out with one call of Fields: for two fields that only the newer header has, and
// for one that none has, which shows what the driver answers to a number that it does not know. Drivers say
// InvalidArgument to that. If the call fails, or if all three have another answer, the branch has to tell. ret is that
// of the call.
func AskNumbering(device Device, branch int) (n Numbering, ret Return) {
	values := []FieldValue{
		{FieldID: smoothingFloor, Return: InvalidArgument},
		{FieldID: inactiveRemapping, Return: InvalidArgument},
		{FieldID: noField, Return: InvalidArgument},
	}
	if ret = device.Fields(values); !ret.OK() {
		return NumberingOfBranch(branch), ret
	}
	unknown := values[2].Return
	switch {
	case values[0].Return != unknown || values[1].Return != unknown:
		return NewerNumbering, ret
	case unknown == InvalidArgument:
		return OlderNumbering, ret
	default:
		return NumberingOfBranch(branch), ret
	}
}
