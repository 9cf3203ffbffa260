// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
)

// slice is one MIG instance: a GPU instance with one compute instance. The work of the GPU runs on all of them.
type slice struct {
	uuid    string
	profile string // such as 3g.40gb
	gi      uint32
	compute int64 // sevenths of the multiprocessors
	memory  int64 // eighths of the memory
	start   int64 // first eighth
}

// A GPU has seven compute slices and eight memory slices.
const (
	computeSlices = 7
	memorySlices  = 8
)

// memorySlicesOf are the eighths of memory of an instance with so many sevenths of the multiprocessors
// (nvidia-smi mig -lgip).
var memorySlicesOf = map[int]int64{1: 1, 2: 2, 3: 4, 4: 4, 7: 8}

// checkSplit refuses instances that do not exist, or that do not fit.
func checkSplit(sevenths []int) error {
	compute, memory := 0, int64(0)
	for _, n := range sevenths {
		if memorySlicesOf[n] == 0 {
			return fmt.Errorf("MIG instance of %d sevenths: there are some of 1, 2, 3, 4 and 7", n)
		}
		compute += n
		memory += memorySlicesOf[n]
	}
	if compute > computeSlices || memory > memorySlices {
		return errors.New("MIG instances " + strings.Trim(fmt.Sprint(sevenths), "[]") + ": they do not fit into a GPU")
	}
	return nil
}

// split parts the GPU into instances; none makes it whole.
func (b *board) split(sevenths []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slices = nil
	start := int64(0)
	for i, n := range sevenths {
		s := slice{gi: uint32(i + 1), compute: int64(n), memory: memorySlicesOf[n], start: start}
		gibibytes := (b.spec.memoryMebibytes*s.memory/memorySlices + 512) / 1024
		s.profile = fmt.Sprintf("%dg.%dgb", n, gibibytes)
		s.uuid = "MIG" + strings.TrimPrefix(deviceUUID(hash(b.seed, 3000+uint64(start*computeSlices+int64(n)))), "GPU")
		b.slices = append(b.slices, s)
		start += s.memory
	}
}

// slice finds an instance that is there.
func (b *board) slice(uuid string) (slice, bool) {
	for _, s := range b.slices {
		if s.uuid == uuid {
			return s, true
		}
	}
	return slice{}, false
}

// Instances lists the MIG instances.
func (d *device) Instances(into []gpu.Instance) ([]gpu.Instance, gpu.Return) {
	if _, ret := d.enterLocked(callInstances); !ret.OK() {
		return into, ret
	}
	defer d.board.mu.Unlock()
	for _, s := range d.board.slices {
		into = append(into, gpu.Instance{UUID: s.uuid, GI: s.gi, Placed: true, Profile: uint32(s.compute), Start: uint32(s.start)})
	}
	return into, gpu.Success
}

// Parts lists the MIG instances as devices.
func (d *device) Parts() ([]gpu.Device, gpu.Return) {
	if _, ret := d.enterLocked(callInstances); !ret.OK() {
		return nil, ret
	}
	defer d.board.mu.Unlock()
	known := d.parts
	d.parts = make(map[string]*part, len(d.board.slices))
	parts := make([]gpu.Device, len(d.board.slices))
	for i, s := range d.board.slices {
		p := known[s.uuid]
		if p == nil {
			p = &part{device: d, uuid: s.uuid}
		}
		d.parts[s.uuid], parts[i] = p, p
	}
	return parts, gpu.Success
}

// part is a MIG instance as a device of an opened driver.
type part struct {
	device *device
	uuid   string
	window window
}

var (
	_ gpu.Splitter = (*device)(nil)
	_ gpu.Device   = (*part)(nil)
	_ gpu.Profiler = (*part)(nil)
)

// enterLocked is what each call of an instance begins with: one that is gone is not found.
func (p *part) enterLocked(c call) (s slice, now int64, ret gpu.Return) {
	now, ret = p.device.enterLocked(c)
	if !ret.OK() {
		return slice{}, now, ret
	}
	s, ok := p.device.board.slice(p.uuid)
	if !ok {
		p.device.board.mu.Unlock()
		return slice{}, now, gpu.NotFound
	}
	return s, now, gpu.Success
}

// UUID names the instance.
func (p *part) UUID() string { return p.uuid }

// Identity reads what the instance is.
func (p *part) Identity() (gpu.Identity, gpu.Return) {
	s, _, ret := p.enterLocked(callIdentity)
	if !ret.OK() {
		return gpu.Identity{}, ret
	}
	b := p.device.board
	defer b.mu.Unlock()
	whole := p.device.driver.node.identity(b)
	total, reserved := s.memoryBytes(b)
	return gpu.Identity{
		UUID: p.uuid, ParentUUID: b.uuid, Model: whole.Model, PCIBusID: whole.PCIBusID, Minor: whole.Minor, MIGEnabled: new(int64(1)),
		MIGProfile: s.profile, GPUInstanceID: new(int64(s.gi)), ComputeInstanceID: new(int64(0)),
		MemoryTotalBytes: new(total), MemoryReservedBytes: new(reserved),
	}, gpu.Success
}

// memoryBytes is the memory of an instance, and what the driver keeps of it.
func (s *slice) memoryBytes(b *board) (total, reserved int64) {
	return b.spec.memoryMebibytes * mebibyte * s.memory / memorySlices, b.spec.reservedMebibytes * mebibyte * s.memory / memorySlices
}

// Fields answers none.
func (p *part) Fields(values []gpu.FieldValue) gpu.Return {
	_, _, ret := p.enterLocked(callFields)
	if !ret.OK() {
		return ret
	}
	p.device.board.mu.Unlock()
	for i := range values {
		values[i].Return = gpu.NotSupported
	}
	return gpu.Success
}

// Get answers what an instance has of its own.
func (p *part) Get(getter gpu.Getter, parts *gpu.Parts) gpu.Return {
	if getter != gpu.GetMemoryInfo && getter != gpu.GetBAR1Memory {
		return gpu.NotSupported
	}
	s, _, ret := p.enterLocked(call(getter))
	if !ret.OK() {
		return ret
	}
	b := p.device.board
	defer b.mu.Unlock()
	used := b.memoryUsed() * s.memory / memorySlices
	if getter == gpu.GetMemoryInfo {
		total, reserved := s.memoryBytes(b)
		parts[0], parts[1], parts[2], parts[3] = total, reserved, total-reserved-used, used
		return gpu.Success
	}
	total := b.spec.bar1Mebibytes * mebibyte * s.memory / memorySlices
	parts[0], parts[1], parts[2] = total, total-used, used
	return gpu.Success
}

// Profile fills in performance monitoring of the GPU instance, which has no NVLink.
func (p *part) Profile(values []gpu.ProfileValue) (time.Duration, gpu.Return) {
	node := p.device.driver.node
	if !node.spec.gpm {
		return 0, gpu.NotSupported
	}
	s, now, ret := p.enterLocked(callProfile)
	if !ret.OK() {
		return 0, ret
	}
	b := p.device.board
	defer b.mu.Unlock()
	busy := between(hash(b.seed, 4000+uint64(s.start)), 0.5, 1)
	done := b.done.of(busy, float64(s.compute)/computeSlices)
	during, length, ret := p.window.move(now, done)
	if !ret.OK() {
		return 0, ret
	}
	known := performance{window: during, total: done, cycles: node.software.cycleCounters, instance: true}
	known.profile(values)
	return length, gpu.Success
}

// of is what an instance with a share of the GPU did, which is as busy as that.
func (t totals) of(busy, share float64) totals {
	return totals{
		quanta: t.quanta, busy: t.busy * busy, sm: t.sm * busy, tensor: t.tensor * busy, dram: t.dram * busy, integer: t.integer * busy,
		pcieSent: t.pcieSent * share, pcieGot: t.pcieGot * share,
		cycles: t.cycles * share, smCycles: t.smCycles * busy * share, tensorCycles: t.tensorCycles * busy * share, integerCycles: t.integerCycles * busy * share,
	}
}
