// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema/xid"
)

// What the GPU driver writes, each line after "NVRM: ".
var (
	gpuNamed     = regexp.MustCompile(`^GPU at PCI:([0-9a-fA-F:.]{5,20}): (GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	gpuSays      = regexp.MustCompile(`^GPU ([0-9a-fA-F:.]{5,20}): (.*)$`)
	gpuIntro     = regexp.MustCompile(`^The NVIDIA GPU ([0-9a-fA-F:.]{5,20})\b(.*)$`)
	initFailed   = regexp.MustCompile(`^RmInitAdapter failed! \(([0-9a-fA-Fx:]{1,40})\)`)
	rateLimited  = regexp.MustCompile(`^Rate limiting GSP RPC error prints for GPU at PCI:([0-9a-fA-F:.]{5,20}) \(printing 1 of every ([0-9]{1,9})\)`)
	probeFailed  = regexp.MustCompile(`^nvidia(?:: probe of ([0-9a-f:.]{5,20}) failed with error (-?[0-9]{1,5})| ([0-9a-f:.]{5,20}): probe with driver nvidia failed with error (-?[0-9]{1,5}))$`)
	probesFailed = regexp.MustCompile(`^The NVIDIA probe routine failed for ([0-9]{1,4}) device\(s\)\.$`)
)

const (
	fellOffBus   = "has fallen off the bus"
	notAnswering = "fallen off the bus and is not responding to commands"
)

// driverLine is a line of the GPU driver.
func (p *parser) driverLine(at Finding, since time.Duration, text string) {
	if l, ok := xid.ParseLine(text); ok {
		p.faultLine(at, since, l)
		return
	}
	said := strings.TrimPrefix(text, "NVRM: ")
	if m := gpuNamed.FindStringSubmatch(said); m != nil {
		p.name(xid.NormalBusID(m[1]), m[2])
		return
	}
	if m := gpuSays.FindStringSubmatch(said); m != nil {
		p.deviceLine(at, since, xid.NormalBusID(m[1]), m[2])
		return
	}
	if m := rateLimited.FindStringSubmatch(said); m != nil {
		at.Kind, at.Count = XIDsWithheld, whole(m[2])
		p.ofGPU(at, since, xid.NormalBusID(m[1]))
		return
	}
	if m := probesFailed.FindStringSubmatch(said); m != nil {
		if !p.recently(event{kind: ProbeFailed}, since) {
			at.Kind, at.Count = ProbeFailed, whole(m[1])
			p.report(at, since)
		}
		return
	}
	p.lostLine(at, since, said)
}

// deviceLine is a line about one GPU that is no XID.
func (p *parser) deviceLine(at Finding, since time.Duration, bus, said string) {
	switch {
	case strings.Contains(said, fellOffBus):
		p.fell(at, since, bus)
	case strings.HasPrefix(said, "rm_init_adapter failed"): // follows RmInitAdapter failed, unless that was lost
		if !p.recently(event{kind: InitFailed, bus: bus}, since) {
			at.Kind = InitFailed
			p.ofGPU(at, since, bus)
		}
	default:
		if m := initFailed.FindStringSubmatch(said); m != nil {
			at.Kind, at.Subcode = InitFailed, m[1]
			p.happened(event{kind: InitFailed, bus: bus}, since)
			p.ofGPU(at, since, bus)
		}
	}
}

// faultLine is a line with an XID or SXID.
func (p *parser) faultLine(at Finding, since time.Duration, l xid.Line) {
	code := int64(l.Code)
	at.Kind, at.XID = XID, &code
	if l.Switch {
		at.Kind, at.XID, at.SXID = SXID, nil, &code
		e := event{SXID, l.Code, l.PCIBusID}
		if l.Detail && p.recently(e, since) {
			return // words of the fault that was just reported
		}
		p.happened(e, since)
	}
	if l.NVLink5 != nil {
		at.Subcode = l.NVLink5.Unit
	}
	at.Line, at.Link, at.ProcessID, at.ProcessName = &l, l.Link, l.ProcessID, printable(l.ProcessName)
	at.GPUInstance, at.ComputeInstance = l.GPUInstance, l.ComputeInstance
	at.RecoveryFrom, at.RecoveryTo = l.RecoveryFrom, l.RecoveryTo
	if at.Kind == XID && l.Code == codeFellOffBus {
		p.happened(event{kind: FellOffBus, bus: l.PCIBusID}, since)
	}
	p.ofGPU(at, since, l.PCIBusID)
}

const codeFellOffBus = 79

// fell reports a GPU that fell off the bus, unless that is known already.
func (p *parser) fell(at Finding, since time.Duration, bus string) {
	if p.happened(event{kind: FellOffBus, bus: bus}, since) {
		return
	}
	at.Kind = FellOffBus
	p.ofGPU(at, since, bus)
}

// lostGPU is the beginning of a message that comes in three lines, perhaps:
//
//	NVRM: The NVIDIA GPU 0000:3b:00.0
//	NVRM: (PCI ID: 10de:2330) installed in this system has
//	NVRM: fallen off the bus and is not responding to commands.
//
// Another message, about a GPU that the driver does not support, begins in the same way.
type lostGPU struct {
	held
	bus string
}

const lostGPULines = 4 // another line may come between

func (p *parser) lostLine(at Finding, since time.Duration, said string) {
	if m := gpuIntro.FindStringSubmatch(said); m != nil {
		p.lost = &lostGPU{held: newHeld(at, since), bus: xid.NormalBusID(m[1])}
		said = m[2]
	} else if p.lost != nil {
		p.lost.lines++
		p.lost.first.Text = printable(p.lost.first.Text + " " + said)
	}
	switch {
	case p.lost == nil:
	case strings.Contains(said, notAnswering):
		first, bus := p.lost.first, p.lost.bus
		p.lost = nil
		p.fell(first, since, bus)
	case p.lost.lines >= lostGPULines:
		p.lost = nil
	}
}

// probeLine is a line about a GPU that the kernel could not give to the driver.
func (p *parser) probeLine(at Finding, since time.Duration, text string) {
	m := probeFailed.FindStringSubmatch(text)
	if m == nil {
		return
	}
	bus, code := xid.NormalBusID(m[1]+m[3]), m[2]+m[4]
	at.Kind, at.Subcode = ProbeFailed, "error "+code
	p.happened(event{kind: ProbeFailed}, since)
	p.ofGPU(at, since, bus)
}

// switchLine is a line of an NVSwitch.
func (p *parser) switchLine(at Finding, since time.Duration, text string) {
	if l, ok := xid.ParseLine(text); ok {
		p.faultLine(at, since, l)
	}
}

// name remembers which GPU has an address.
func (p *parser) name(bus, uuid string) {
	if bus != "" && (len(p.uuids) < maxRemembered || p.uuids[bus] != "") {
		p.uuids[bus] = uuid
	}
}

// ofGPU reports a finding about the GPU at the address.
func (p *parser) ofGPU(f Finding, since time.Duration, bus string) {
	f.PCIBusID, f.GPUUUID = bus, p.uuids[bus]
	p.report(f, since)
}

// whole is the number in digits that a pattern has checked.
func whole(digits string) *int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil
	}
	return &n
}
