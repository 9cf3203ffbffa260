// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Line is what a line of the kernel log with an XID or SXID says. Pointers are nil, and texts empty, where it says
// nothing.
//
//	NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:01): 94, pid=7194, name=python3, Contained: CE User Channel (0x9). RST: No, D-RST: No
//	           bus id         MIG instances        code process                message
//
//	nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)
//	                        bus id             code   message
type Line struct {
	Switch          bool // an SXID, of an NVSwitch
	Code            uint32
	PCIBusID        string // as NormalBusID writes it
	GPUInstance     *int64 // of MIG
	ComputeInstance *int64
	ProcessID       *int64
	ProcessName     string
	Channel         *int64
	Link            *int64
	Fatal           *bool    // the driver's own word: of SXIDs and of XIDs 144 to 150
	CausedBy        *int64   // of XID 45: the code that came before
	RecoveryFrom    *int64   // of XID 154: see LookupRecovery
	RecoveryTo      *int64   //
	NVLink5         *NVLink5 // of XIDs 144 to 150
	Detail          bool     // an SXID's second or third line, which belongs to the one before
	Message         string   // what follows the code and the process
}

var (
	gpuLine = regexp.MustCompile(`^NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]{5,20})(?: GPU-I:([0-9]{1,5}))?(?: GPU-CI:([0-9]{1,5}))?\): ([0-9]{1,9})\b,? ?`)
	swLine  = regexp.MustCompile(`^nvidia-nvswitch[0-9]{1,4}: SXid \(PCI:([0-9a-fA-F:.]{5,20})\): ([0-9]{1,9}), `)

	processID   = regexp.MustCompile(`^pid='?(<unknown>|[0-9]{1,10})'?(?:, |$)`)
	processName = regexp.MustCompile(`^name=([^,]{0,200})(?:, |$)`)
	channel     = regexp.MustCompile(`\b(?:Ch|ChI[Dd]|Channel|Channel ID) ([0-9a-fA-F]{4,8})\b`)
	linkNumber  = regexp.MustCompile(`\b[Ll]ink ([0-9]{1,4})\b`)
	causedBy    = regexp.MustCompile(` caused by previous Xid ([0-9]{1,9})$`)
	recovery    = regexp.MustCompile(`recovery action changed from 0x([0-9a-fA-F]{1,8}) \([^)]{0,64}\) to 0x([0-9a-fA-F]{1,8}) \(`)
	switchWord  = regexp.MustCompile(`^(Fatal|Non-fatal), `)
	switchMore  = regexp.MustCompile(`^(?:Severity [0-9]+ Engine instance|Data \{)`)
)

// ParseLine reads a line that begins with the driver's name; false if it is not one with a code.
func ParseLine(text string) (Line, bool) {
	if m := gpuLine.FindStringSubmatch(text); m != nil {
		l := Line{Code: uint32(*decimal(m[4])), PCIBusID: NormalBusID(m[1]), GPUInstance: decimal(m[2]), ComputeInstance: decimal(m[3])}
		l.Message = l.process(text[len(m[0]):])
		l.gpu()
		return l, l.PCIBusID != ""
	}
	if m := swLine.FindStringSubmatch(text); m != nil {
		l := Line{Switch: true, Code: uint32(*decimal(m[2])), PCIBusID: NormalBusID(m[1]), Message: text[len(m[0]):]}
		if word := switchWord.FindStringSubmatch(l.Message); word != nil {
			fatal := word[1] == "Fatal"
			l.Fatal = &fatal
		}
		l.Detail = switchMore.MatchString(l.Message)
		if !l.Detail {
			l.Link = number(linkNumber, l.Message)
		}
		return l, l.PCIBusID != ""
	}
	return Line{}, false
}

// process takes the process from the front of the text and returns what follows.
func (l *Line) process(text string) string {
	if m := processID.FindStringSubmatch(text); m != nil {
		l.ProcessID = decimal(m[1])
		text = text[len(m[0]):]
	}
	if m := processName.FindStringSubmatch(text); m != nil {
		if m[1] != "<unknown>" {
			l.ProcessName = m[1]
		}
		text = text[len(m[0]):]
	}
	return text
}

// gpu reads what stands in the messages of some XIDs.
func (l *Line) gpu() {
	if n, ok := ParseNVLink5(l.Code, l.Message); ok {
		l.NVLink5, l.Link, l.Fatal = &n, n.Link, &n.Fatal
		return
	}
	l.Link = number(linkNumber, l.Message)
	l.CausedBy = number(causedBy, l.Message)
	if m := channel.FindStringSubmatch(l.Message); m != nil {
		ch := int64(hexadecimal(m[1]))
		l.Channel = &ch
	}
	if m := recovery.FindStringSubmatch(l.Message); m != nil {
		from, to := int64(hexadecimal(m[1])), int64(hexadecimal(m[2]))
		l.RecoveryFrom, l.RecoveryTo = &from, &to
	}
}

// number is the decimal number that the pattern's only group finds; nil if it finds none.
func number(pattern *regexp.Regexp, text string) *int64 {
	if m := pattern.FindStringSubmatch(text); m != nil {
		return decimal(m[1])
	}
	return nil
}

// decimal is nil for what is no number.
func decimal(digits string) *int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

var busID = regexp.MustCompile(`^(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([0-9a-f]{2})(?:\.([0-7]))?$`)

// NormalBusID writes a PCI address as the kernel does, domain:bus:device.function with a domain of four digits or
// more, which is also what gpu_inventory.pci_bus_id has. The driver leaves out a function of 0, and sometimes the
// domain. What is no address gives "".
func NormalBusID(text string) string {
	m := busID.FindStringSubmatch(strings.ToLower(strings.TrimPrefix(text, "PCI:")))
	if m == nil {
		return ""
	}
	domain := hexadecimal(m[1])
	function := m[4]
	if function == "" {
		function = "0"
	}
	return fmt.Sprintf("%04x:%s:%s.%s", domain, m[2], m[3], function)
}

// Lookup says what the line means, with the operator's judgement.
func (l Line) Lookup(o *Overrides, branch Branch) Verdict {
	switch {
	case l.NVLink5 != nil:
		return o.Decode(*l.NVLink5, branch)
	case l.Switch:
		return Verdict{Entry: o.LookupSwitch(l.Code, l.Fatal)}
	}
	v := Verdict{Entry: o.Lookup(l.Code, branch)}
	if l.RecoveryTo != nil && !v.Overridden {
		r := LookupRecovery(uint32(*l.RecoveryTo))
		v.Severity, v.Action = r.Severity, r.Action
	}
	if v.Action == Decode { // its words could not be read
		v.Action = RestartApp
	}
	return v
}
