// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NVLink5 is what a line of XID 144 to 150 says. What it means depends on the driver's branch: see Decode.
//
//	NETIR_LINK_DOWN  Fatal   XC0 i0 Link 08 (0x00450011 0x00000000 0x00000000 …)
//	unit             fatal?  |   |  link     info       status     debug words
//	                         |   injected by a test
//	                         contained to one application, or not
//
// The word info holds the unit anew, as a number, and for some units a reason. Up to R570 it is laid out as
//
//	 31     26 25     20 19       11 10  9       5 4       0
//	+---------+---------+-----------+---+---------+---------+
//	|         | reason  |           | p |  unit   |  group  |   group: the XID less 143, 0 for XID 150
//	+---------+---------+-----------+---+---------+---------+
//
// and from R575 on as
//
//	 31     26 25     20 19               8  7   6          0
//	+---------+---------+------------------+---+-------------+
//	|         | reason  |                  | p |    unit     |
//	+---------+---------+------------------+---+-------------+
//
// with p set where the driver promoted an error that is not fatal by itself.
type NVLink5 struct {
	Code           uint32   `json:"code"`
	Unit           string   `json:"unit"`
	Fatal          bool     `json:"fatal"`
	CrossContained bool     `json:"cross_contained"`
	Injected       bool     `json:"injected"`
	Link           *int64   `json:"link"` // nil: not one link's
	Info           uint32   `json:"info"`
	Status         uint32   `json:"status"`
	Debug          []uint32 `json:"debug,omitempty"`
}

// The codes whose lines are decoded.
const (
	firstNVLink5 = 144
	lastNVLink5  = 150
)

// nvlink5Line matches what follows the code. Lines that were cut in the words are good if status is whole.
var nvlink5Line = regexp.MustCompile(
	`\b([A-Z][A-Z0-9_/]{1,63})\s+(Fatal|Nonfatal|Non-fatal)\s+XC([01])(?:\s+i([0-9]{1,3}))?\s+Link\s+(-?[0-9]{1,4})\s+` +
		`\(0x([0-9a-fA-F]{1,8})\s+0x([0-9a-fA-F]{8})((?:\s+0x[0-9a-fA-F]{1,8}){0,5})`)

// ParseNVLink5 reads the message of an XID 144 to 150; false if it has another form.
func ParseNVLink5(code uint32, message string) (NVLink5, bool) {
	if code < firstNVLink5 || code > lastNVLink5 {
		return NVLink5{}, false
	}
	m := nvlink5Line.FindStringSubmatch(message)
	if m == nil {
		return NVLink5{}, false
	}
	n := NVLink5{
		Code: code, Unit: m[1], Fatal: m[2] == "Fatal", CrossContained: m[3] == "1",
		Injected: strings.Trim(m[4], "0") != "", Info: hexadecimal(m[6]), Status: hexadecimal(m[7]),
	}
	if link, err := strconv.ParseInt(m[5], 10, 64); err == nil && link >= 0 {
		n.Link = &link
	}
	for word := range strings.FieldsSeq(m[8]) {
		n.Debug = append(n.Debug, hexadecimal(strings.TrimPrefix(word, "0x")))
	}
	return n, true
}

// hexadecimal reads at most eight digits that a pattern has checked.
func hexadecimal(digits string) uint32 {
	n, _ := strconv.ParseUint(digits, 16, 32)
	return uint32(n)
}

// Form is one of the two layouts of NVLink5.Info.
type Form int

// The layouts, and the branch from which on the second is used.
const (
	UnknownForm Form = 0
	FirstForm   Form = 1
	SecondForm  Form = 2

	secondFormBranch Branch = 575
)

// Effect is how far an error of NVLink 5 reaches.
type Effect string

// The effects.
const (
	NothingFatal Effect = "non_fatal"
	FatalLink    Effect = "link_fatal" // the GPU should be drained and reset
	FatalGPU     Effect = "fatal"      // all links of the GPU go down
)

// Verdict is what an NVLink5 means.
type Verdict struct {
	Entry
	Decoded bool   `json:"decoded"`          // NVIDIA's workbook has a row that fits; else the driver's word Fatal decided
	Form    Form   `json:"form,omitempty"`   // layout of the row that fits
	Reason  uint32 `json:"reason,omitempty"` // why a link went down, as a number of NVIDIA's
	Effect  Effect `json:"effect,omitempty"`
	Origin  string `json:"origin,omitempty"` // hardware, software, firmware
}

// Decode finds what NVIDIA's workbook says of it. If the branch is 0, the names of units and the words decide which
// layout it is.
func (n NVLink5) Decode(branch Branch) Verdict {
	v := Verdict{Entry: Lookup(n.Code, branch)}
	row, form, ok := n.row(branch)
	if !ok || n.Fatal && row.Effect == NothingFatal {
		// No row, or one that says less than the driver does.
		v.Severity, v.Action = Warning, RestartApp
		v.Cause = n.Unit + ": NVIDIA's workbook has no row for this error. If an XID 154 came with it, follow that one."
		if n.Fatal {
			v.Severity, v.Action = Critical, ResetGPU
		}
		return v
	}
	v.Decoded, v.Form, v.Effect, v.Origin = true, form, row.Effect, row.Origin
	v.Reason = n.reason()
	v.Immediate, v.Investigatory = row.Immediate, row.Investigatory
	v.Severity, v.Action = row.judge()
	v.Cause = row.cause(n)
	return v
}

// NVLink5Row is what the workbook says of one error.
type NVLink5Row struct {
	Code             uint32
	Unit1, Unit2     string // the unit's name in the first and in the second form
	Number1, Number2 uint32 // its number there
	Reason           uint32
	Status           int64 // AnyStatus: the row holds for all
	Promoted         Promotion
	Effect           Effect
	Immediate        Bucket
	Investigatory    Bucket
	Origin           string
}

// AnyStatus is the status of a row that holds for all.
const AnyStatus = -1

// Promotion tells what a row wants of the bit that marks a promoted error.
type Promotion uint8

// What a row wants of that bit.
const (
	AnyBit Promotion = iota
	BitClear
	BitSet
)

// NVLink5Rows lists the decoding table.
func NVLink5Rows() []NVLink5Row { return slices.Clone(nvlink5Rows) }

// row finds the row that fits, and in which form it does.
func (n NVLink5) row(branch Branch) (NVLink5Row, Form, bool) {
	for _, form := range n.forms(branch) {
		i := slices.IndexFunc(nvlink5Rows, func(r NVLink5Row) bool { return n.fits(r, form) })
		if i >= 0 {
			return nvlink5Rows[i], form, true
		}
	}
	return NVLink5Row{}, UnknownForm, false
}

// forms lists the layouts that the words may have.
func (n NVLink5) forms(branch Branch) []Form {
	switch {
	case branch >= secondFormBranch:
		return []Form{SecondForm}
	case branch > 0:
		return []Form{FirstForm}
	}
	// The first form repeats the code in its lowest bits, so that a word of the second is rarely taken for it.
	return []Form{FirstForm, SecondForm}
}

// fits tells whether r is about n, read in the form.
func (n NVLink5) fits(r NVLink5Row, form Form) bool {
	const unitMask1, groupMask1, promotedBit1 = 0x1f << 5, 0x1f, 1 << 10
	const unitMask2, promotedBit2 = 0x7f, 1 << 7
	name, number, bit := r.Unit2, n.Info&unitMask2 == r.Number2, n.Info&promotedBit2 != 0
	if form == FirstForm {
		group := n.Code - (firstNVLink5 - 1)
		if n.Code == lastNVLink5 {
			group = 0
		}
		name, number, bit = r.Unit1, n.Info&(unitMask1|groupMask1) == r.Number1<<5|group, n.Info&promotedBit1 != 0
	}
	return r.Code == n.Code && number && n.isUnit(name) && r.Reason == n.reason() &&
		(r.Status == AnyStatus || r.Status == int64(n.Status)) &&
		(r.Promoted == AnyBit || (r.Promoted == BitSet) == bit)
}

// isUnit compares names; a line may give both, "TLW_RX/TLW_RX_PIPE0".
func (n NVLink5) isUnit(name string) bool {
	return slices.Contains(strings.Split(n.Unit, "/"), name)
}

func (n NVLink5) reason() uint32 { return n.Info >> 20 & 0x3f }

// judge makes one action of NVIDIA's two pieces of advice.
func (r NVLink5Row) judge() (Severity, Action) {
	switch {
	case r.Immediate == "RESET_GPU":
		return Critical, ResetGPU
	case r.Immediate == "XID_154_EVAL":
		return Warning, RestartApp
	case r.Investigatory == "IGNORE":
		return Info, NoAction
	default:
		return Warning, Watch
	}
}

// cause puts the row into words.
func (r NVLink5Row) cause(n NVLink5) string {
	effect := map[Effect]string{
		NothingFatal: "an error that is not fatal", FatalLink: "an error that is fatal for the link", FatalGPU: "an error that is fatal for the GPU",
	}[r.Effect]
	words := n.Unit + ": " + effect
	if n.Link != nil {
		words += ", on link " + strconv.FormatInt(*n.Link, 10)
	}
	if n.reason() != 0 {
		words += ", reason " + strconv.FormatUint(uint64(n.reason()), 10)
	}
	if r.Origin != "" {
		words += "; it lies in " + r.Origin
	}
	return words + "."
}
