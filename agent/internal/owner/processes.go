// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// seen is one process on a GPU, or on one instance of it.
type seen struct {
	process.Process // without Name and Started, nothing is known but the number

	gi, ci      uint32
	mps         bool // client of an MPS server
	memoryBytes uint64
	memoryKnown bool
}

// memory is what is remembered of the processes on one GPU.
type memory struct {
	at      time.Time            // of the usage that it is about
	started map[uint32]time.Time // by number, which may be given anew while a GPU brings no news
	missing map[uint32]bool      // that are not in /proc
	before  map[uint32]bool      // that were not, by the usage before
}

// memoryOf is what is remembered of a GPU since its latest usage.
func (l *looker) memoryOf(g *gpuUse) *memory {
	m := l.memories[g.UUID]
	if m == nil {
		m = &memory{}
		l.memories[g.UUID] = m
	}
	if !m.at.Equal(g.at) || m.started == nil {
		*m = memory{at: g.at, started: make(map[uint32]time.Time), missing: make(map[uint32]bool), before: m.missing}
	}
	return m
}

// processes reads what is known of the processes on a GPU.
func (l *looker) processes(g *gpuUse) []seen {
	m := l.memoryOf(g)
	var list []seen
	for _, p := range onePerContext(g.Processes) {
		read, runs := process.Process{PID: p.PID}, true
		if l.table != nil && l.cfg.View.Resolves {
			read, runs = l.read(m, p.PID)
		}
		if runs && !serves(read.Name) {
			list = append(list, seen{
				Process: read, gi: p.GI, ci: p.CI, mps: p.Kind == gpu.MPSProcess, memoryBytes: p.MemoryBytes, memoryKnown: p.MemoryKnown,
			})
		}
	}
	return list
}

// read tells of a process, and whether it runs still. One that has ended since the driver listed it does not; one
// that /proc does not show at two looks is hidden, and of a hidden one nothing is known but its number.
func (l *looker) read(m *memory, pid uint32) (p process.Process, runs bool) {
	read, err := l.table.Read(pid)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.missing[pid] = true
		return process.Process{PID: pid}, m.before[pid]
	case err != nil:
		return process.Process{PID: pid}, true
	}
	if started, known := m.started[pid]; known && !started.Equal(read.Started) {
		return process.Process{}, false
	}
	m.started[pid] = read.Started
	return read, true
}

// onePerContext takes a process that has contexts of several kinds on one device as one. Each kind tells the
// memory of all.
func onePerContext(all []gpu.Process) []gpu.Process {
	var list []gpu.Process
	for _, p := range all {
		i := slices.IndexFunc(list, func(other gpu.Process) bool { return other.PID == p.PID && other.GI == p.GI && other.CI == p.CI })
		if i < 0 {
			list = append(list, p)
			continue
		}
		if p.Kind == gpu.MPSProcess {
			list[i].Kind = p.Kind
		}
		if p.MemoryKnown && (!list[i].MemoryKnown || list[i].MemoryBytes < p.MemoryBytes) {
			list[i].MemoryBytes, list[i].MemoryKnown = p.MemoryBytes, true
		}
	}
	return list
}

// servers hold contexts for others or for the screen: whose they are says nothing of who uses the GPU. Names
// are cut at 15 bytes.
var servers = []string{"nvidia-cuda-mps", "nvidia-persiste", "Xorg", "Xwayland"}

func serves(name string) bool { return slices.Contains(servers, name) }
