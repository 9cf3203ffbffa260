// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// aerError is a PCIe error whose lines are still coming. They begin with a driver and an address, and are either
// the kernel's own
//
//	nvidia 0000:3b:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)
//	nvidia 0000:3b:00.0:   device [10de:2330] error status/mask=00000001/0000a000
//	nvidia 0000:3b:00.0:    [ 0] RxErr                  (First)
//
// or, where the firmware handles errors first,
//
//	nvidia 0000:3b:00.0: AER: aer_status: 0x00000001, aer_mask: 0x0000a000
//	nvidia 0000:3b:00.0: AER:    [ 0] RxErr                  (First)
//	nvidia 0000:3b:00.0: AER: aer_layer=Physical Layer, aer_agent=Receiver ID
//	nvidia 0000:3b:00.0: AER: aer_uncor_severity: 0x00462030      (not of corrected errors)
type aerError struct {
	held
	bus    string
	kind   Kind
	status uint64
	names  []string
}

const (
	maxAERLines = 40 // there are 32 bits of errors
	maxAERNames = 32
)

var (
	pciPrefix   = regexp.MustCompile(`^[a-z0-9_-]{2,20} ([0-9a-f:.]{7,20}): (?:AER: )?`)
	aerHead     = regexp.MustCompile(`^PCIe Bus Error: severity=(Correct|Uncorrect)(?:ed|able)(?: \((Non-Fatal|Fatal)\))?, type=`)
	aerStatus   = regexp.MustCompile(`^aer_status: 0x([0-9a-f]{1,8}), aer_mask: `)
	aerSeverity = regexp.MustCompile(`^aer_uncor_severity: 0x([0-9a-f]{1,8})`)
	aerName     = regexp.MustCompile(`^ *\[ ?[0-9]{1,2}\] ([A-Za-z][A-Za-z0-9 /_-]{0,30}?) *(?:\(First\) *)?$`)
	aerMore     = regexp.MustCompile(`^(?: +device \[| +TLP Header: |TLP Header: |aer_layer=| *Error of this Agent)`)
	hotPlug     = regexp.MustCompile(`^pciehp: Slot\([^)]{1,20}\): (Link Down|Card not present)`)
)

// pciLine is a line about a PCI device: a GPU, an NVSwitch, a network card, or a port above one.
func (p *parser) pciLine(at Finding, since time.Duration, text string) {
	m := pciPrefix.FindStringSubmatch(text)
	if m == nil {
		return
	}
	bus, said := xid.NormalBusID(m[1]), text[len(m[0]):]
	prefix, _, _ := strings.Cut(text, ": ")
	if bus == "" || p.aerLine(at, prefix, said) {
		return
	}
	kind, status := aerKind(said)
	switch {
	case kind != "":
		p.startAER(&aerError{held: newHeld(at, since), bus: bus, kind: kind, status: status}, prefix)
	case hotPlug.MatchString(said):
		at.Kind, at.PCIBusID, at.Subcode = PCIeLinkDown, bus, strings.ToLower(hotPlug.FindStringSubmatch(said)[1])
		p.report(at, since)
	default:
		p.probeLine(at, since, text)
	}
}

// aerKind tells whether a line begins a PCIe error, and of which kind.
func aerKind(said string) (kind Kind, status uint64) {
	if m := aerHead.FindStringSubmatch(said); m != nil {
		switch {
		case m[1] == "Correct":
			return PCIeCorrected, 0
		case m[2] == "Fatal":
			return PCIeFatal, 0
		default:
			return PCIeNonFatal, 0
		}
	}
	if m := aerStatus.FindStringSubmatch(said); m != nil {
		status, _ = strconv.ParseUint(m[1], 16, 32)
		return PCIeCorrected, status // until a severity says otherwise
	}
	return "", 0
}

// startAER holds an error back. An earlier one of the same device is complete then.
func (p *parser) startAER(e *aerError, prefix string) {
	if before := p.aer[prefix]; before != nil {
		delete(p.aer, prefix)
		p.report(before.finding(), before.since)
	}
	if len(p.aer) >= maxAssembled {
		p.finish(func(held) bool { return true })
	}
	p.aer[prefix] = e
}

// aerLine adds a line to the error that it belongs to, if it does.
func (p *parser) aerLine(at Finding, prefix, said string) bool {
	e := p.aer[prefix]
	if e == nil {
		return false
	}
	switch name, severity := aerName.FindStringSubmatch(said), aerSeverity.FindStringSubmatch(said); {
	case name != nil:
		if len(e.names) < maxAERNames && !slices.Contains(e.names, name[1]) {
			e.names = append(e.names, name[1])
		}
	case severity != nil:
		fatal, _ := strconv.ParseUint(severity[1], 16, 32)
		e.kind = PCIeNonFatal
		if e.status&fatal != 0 {
			e.kind = PCIeFatal
		}
	case aerMore.MatchString(said):
	default:
		return false
	}
	if e.lines++; e.lines <= maxAERLines {
		e.first.Text = printable(e.first.Text + " | " + strings.TrimPrefix(at.Text, prefix+": "))
	}
	return true
}

// finding is the error as far as it is known.
func (e *aerError) finding() Finding {
	f := e.first
	f.Kind, f.PCIBusID, f.Subcode = e.kind, e.bus, strings.Join(e.names, ", ")
	return f
}
