// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// FaultKind is a way in which a node can go wrong.
type FaultKind uint8

// The kinds of faults, with the fields of Fault that each one reads besides GPU.
const (
	XID          FaultKind = iota // Code, For: the error with all that follows from it
	LoseGPU                       // For: the GPU vanishes, and nothing is reported
	ReloadDriver                  // For: how long the driver is away; counters begin at zero and GPUs are reset, GPU is not read
	HideSymbol                    // Symbol: the library does not export it; GPU is not read
	BlockCalls                    // Symbol ("" for all calls): calls on the GPU do not return until the driver is closed
	Overheat                      // Celsius, For: cooling fails by so many degrees
	SlowGPU                       // Pace: the GPU runs at that share of its clock
	Repair                        // undoes everything on the node but splits, and reloads the driver; GPU is not read
	SplitGPU                      // Sevenths: the GPU is parted into MIG instances, or made whole
	ProfileGPU                    // For: a profiler holds the GPU's performance monitoring, which counts nothing for others
	UnbindGPU                     // the kernel takes the GPU from the driver, as soon as that is closed
	BindGPU                       // and gives it back
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind    FaultKind
	GPU     int     // index on the node
	Code    uint64  // XID
	Symbol  string  // of libnvidia-ml
	Celsius float64 // warmer air
	Pace    float64 // above 0, at most 1
	// Sevenths are the multiprocessors of each MIG instance: 1, 2, 3, 4 or 7; none makes the GPU whole.
	Sevenths []int
	For      time.Duration // until the node is repaired, or the driver is back; 0: for ever, or at once
}

// Recovery actions that the driver asks for (field 230).
const (
	recoverReset         uint32 = 1
	recoverReboot        uint32 = 2
	recoverDrainAndReset uint32 = 4
)

// applyLocked lets a fault happen at a time in ns since 1970.
func (n *Node) applyLocked(f Fault, at int64) {
	switch f.Kind {
	case ReloadDriver:
		n.reloadLocked(at, f.For)
		return
	case Repair:
		n.repairLocked(at)
		return
	case HideSymbol:
		n.hidden.Or(uint64(callsOf(f.Symbol)))
		return
	case BlockCalls:
		set := callsOf(f.Symbol)
		n.boards[f.GPU].blocked.Or(uint64(set))
		if f.Symbol != "" { // it may be a call of the whole driver
			n.blocked.Or(uint64(set))
		}
		return
	case XID:
		n.errorLocked(f, at)
	case SplitGPU:
		n.boards[f.GPU].split(f.Sevenths)
		report := reporter{node: n, at: at}
		report.event(f.GPU, gpu.EventMIGConfig, 0, "")
		return
	case UnbindGPU, BindGPU:
		n.bindLocked(f.GPU, f.Kind == BindGPU, at)
		return
	default:
		n.boards[f.GPU].suffer(f, at)
	}
	if f.For > 0 && f.Kind != Overheat && f.Kind != ProfileGPU { // which pass by themselves
		n.mend = min(n.mend, at+int64(f.For))
	}
}

// suffer changes the board's state by a fault that is not reported.
func (b *board) suffer(f Fault, at int64) {
	b.harm(at, func(s *faultState) {
		switch f.Kind {
		case LoseGPU:
			s.lost = true
		case Overheat:
			s.heat, s.heatUntil = f.Celsius, never
			if f.For > 0 {
				s.heatUntil = (at + int64(f.For)) / int64(quantum)
			}
		case ProfileGPU:
			s.profiledUntil = never
			if f.For > 0 {
				s.profiledUntil = (at + int64(f.For)) / int64(quantum)
			}
		default:
			s.pace = f.Pace
		}
	})
}

// reloadLocked unloads the driver and loads it again after away.
func (n *Node) reloadLocked(at int64, away time.Duration) {
	back := at + int64(away)
	n.downUntil.Store(back)
	for i := range n.boards {
		n.boards[i].reload(at/int64(quantum), back/int64(quantum))
	}
}

// repairLocked undoes everything that was done to the node, as new parts and a reboot do.
func (n *Node) repairLocked(at int64) {
	n.hidden.Store(0)
	n.blocked.Store(0)
	for i := range n.boards {
		n.boards[i].blocked.Store(0)
		n.boards[i].harm(at, func(s *faultState) { s.pace, s.heatUntil, s.profiledUntil = 1, 0, 0 })
	}
	n.reloadLocked(at, 0)
	for i := range n.boards {
		n.bindLocked(i, true, at)
		n.boards[i].find()
	}
	n.mend = never
}

// reload brings the GPU up anew at quantum q after the driver went away at quantum away. What the driver counted
// is forgotten and errors that a reset mends are gone; what the card remembers, and what is wrong around it, stays.
func (b *board) reload(away, q int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault.gone() {
		b.die, b.hbm = b.spec.idleCelsius+b.inlet, b.spec.memoryIdleCelsius+b.inlet
	} else {
		b.advance(away)
	}
	f := &b.fault
	f.resetRequired, f.remapPending = false, false
	f.uncorrected, f.linkErrors, f.linkDown, f.recovery = 0, 0, 0, 0
	b.quantum = max(b.quantum, q)
	b.count = counters{loaded: b.quantum}
	b.rings.sleep(b.quantum)
}

// find puts a GPU that was lost back onto the bus.
func (b *board) find() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault.lost = false
}

// errorLocked reports an XID and what follows from it. A GPU that is gone reports nothing.
func (n *Node) errorLocked(f Fault, at int64) {
	b := &n.boards[f.GPU]
	if b.gone() {
		return
	}
	report := reporter{node: n, at: at}
	switch code := f.Code; code {
	case 48:
		n.doubleBitError(&report, f.GPU)
	case 63:
		before := b.harm(at, (*faultState).remapRow)
		report.xid(f.GPU, code)
		report.recovery(f.GPU, before, recoverDrainAndReset)
	case 74, 144, 145, 146, 147, 148, 149, 150:
		n.linkError(&report, f.GPU, code)
	case 79:
		before := b.harm(at, func(s *faultState) { s.lost, s.recovery = true, recoverReboot })
		report.xid(f.GPU, code)
		report.recovery(f.GPU, before, recoverReboot)
		for i := range n.boards { // the job dies on all of them
			report.xid(i, 45)
		}
	case 62, 95, 119, 120:
		before := b.harm(at, func(s *faultState) { s.resetRequired, s.recovery = true, recoverReset })
		report.xid(f.GPU, code)
		if code != 119 { // the driver cannot ask then: it is the part that hangs
			report.recovery(f.GPU, before, recoverReset)
		}
		report.xid(f.GPU, 45)
	default:
		report.xid(f.GPU, code)
	}
}

// doubleBitError is an uncorrectable error in device memory that is contained to one process: the row is marked
// for remapping and the driver asks for a reset once the GPU is drained.
func (n *Node) doubleBitError(report *reporter, index int) {
	before := n.boards[index].harm(report.at, func(s *faultState) {
		s.uncorrected++
		s.uncorrectedLifetime++
		s.remapRow()
	})
	report.event(index, gpu.EventDoubleBitECC, 0, "")
	for _, code := range []uint64{48, 63, 94} {
		report.xid(index, code)
	}
	report.recovery(index, before, recoverDrainAndReset)
}

// remapRow marks a row of device memory for remapping at the next reset.
func (s *faultState) remapRow() {
	s.remapped++
	s.remapPending, s.recovery = true, recoverDrainAndReset
}

// linkError takes one NVLink down, the same one each time until it is mended. From Blackwell on XID 74 has become
// 144 to 150.
func (n *Node) linkError(report *reporter, index int, code uint64) {
	b := &n.boards[index]
	before := b.harm(report.at, func(s *faultState) {
		s.linkErrors++
		if s.linkDown == 0 {
			s.linkDown = 1 + int(hash(b.seed, uint64(report.at))%uint64(n.spec.links))
		}
		s.recovery = recoverReset
	})
	if n.spec.nvlink5 && code == 74 {
		report.xid(index, 145)
		code = 149
	}
	report.xid(index, code)
	report.recovery(index, before, recoverReset)
}

// gone tells that the GPU does not answer any more.
func (b *board) gone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault.gone()
}

// gone tells that the GPU does not answer, and does not move either.
func (s *faultState) gone() bool { return s.lost || s.resetRequired }

// harm changes what is broken, once the board has reached that moment. It returns the recovery action that the
// driver asked for before.
func (b *board) harm(at int64, change func(s *faultState)) (before uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fault.gone() {
		b.advance(at / int64(quantum))
	}
	before = b.fault.recovery
	change(&b.fault)
	return before
}

// chanceFaults are the faults that come by themselves.
type chanceFaults struct {
	seed    uint64
	perHour float64 // of the node
	count   uint64
	next    int64 // ns since 1970
}

func newChanceFaults(seed uint64, perHour float64, now int64) chanceFaults {
	c := chanceFaults{seed: seed, perHour: perHour, next: now}
	c.wait()
	return c
}

// wait sets the time of the next fault, at exponential distances.
func (c *chanceFaults) wait() {
	hours := -math.Log(1-unit(hash(c.seed, 4*c.count))) / c.perHour
	if !(hours < 1e5) { // also when the rate is 0
		c.next = never
		return
	}
	c.next += int64(hours * float64(time.Hour))
}

// take is the fault that is due.
func (c *chanceFaults) take(gpus int) Fault {
	what, where, length := hash(c.seed, 4*c.count+1), hash(c.seed, 4*c.count+2), hash(c.seed, 4*c.count+3)
	c.count++
	c.wait()
	f := chanceKinds[0].fault
	at := unit(what)
	for _, k := range chanceKinds {
		if at < k.share {
			f = k.fault
			break
		}
		at -= k.share
	}
	f.GPU = int(where % uint64(gpus))
	f.For = time.Duration(between(length, 0.5, 2) * float64(f.For))
	return f
}

// chanceKinds are the faults that come by chance, with their shares. Most are of the application; For is the
// middle of the time until somebody has repaired the node.
var chanceKinds = []struct {
	share float64
	fault Fault
}{
	{0.22, Fault{Kind: XID, Code: 31}},
	{0.14, Fault{Kind: XID, Code: 13}},
	{0.08, Fault{Kind: XID, Code: 43}},
	{0.04, Fault{Kind: XID, Code: 92}},
	{0.04, Fault{Kind: XID, Code: 63, For: 20 * time.Minute}},
	{0.14, Fault{Kind: XID, Code: 48, For: 20 * time.Minute}},
	{0.12, Fault{Kind: XID, Code: 74, For: 12 * time.Minute}},
	{0.07, Fault{Kind: XID, Code: 119, For: 8 * time.Minute}},
	{0.07, Fault{Kind: XID, Code: 79, For: 10 * time.Minute}},
	{0.02, Fault{Kind: LoseGPU, For: 10 * time.Minute}},
	{0.06, Fault{Kind: Overheat, Celsius: 26, For: 6 * time.Minute}},
}
