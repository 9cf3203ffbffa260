// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
)

// device is what is remembered of a GPU or MIG instance.
type device struct {
	identity identity
	lost     bool  // or hangs: until the next row
	sampleAt int64 // ms since 1970, of the latest row of gpu_samples
	healthAt int64
	samples  []value // by wire column
	health   []value
	gained   []int64 // by wire column of gpu_samples: of an increment the sum since the GPU was first asked
	bases    []value // by wire column of gpu_health: what a total was before all that was gained
	owners   []owner
	xids     map[int64]uint64 // how often each was seen
	lastXID  int64
}

// value is the latest value of a column.
type value struct {
	number int64
	at     int64 // ms since 1970; 0: none
	period int64 // ms since the one before
}

// identity is what labels say of a GPU.
type identity struct {
	uuid, parent, index, model, pci, profile, instance string
	serial, vbios, architecture                        string
}

// owner is one who has a GPU.
type owner struct {
	assignment                     uint64
	namespace, pod, container, job string
}

// mostOwners bounds what one GPU may be shared by.
const mostOwners = 64

func newDevice() *device {
	return &device{
		samples: make([]value, samples().count), gained: make([]int64, samples().count),
		health: make([]value, health().count), bases: make([]value, health().count), xids: map[int64]uint64{},
	}
}

// longestPeriod bounds how seldom a value of gpu_samples may be read, in ticks.
const longestPeriod = 30

// takeSample takes a row of gpu_samples. The first row of a GPU, and of one that was found again, has no
// interval.
func (g *device) takeSample(cells []batch.Cell, tick time.Duration) {
	at := cells[0].Int
	if !cells[samples().interval].OK {
		clear(g.samples)
		clear(g.gained)
	}
	g.lost, g.sampleAt = false, at
	for i := range cells {
		if !cells[i].OK {
			continue
		}
		v := &g.samples[i]
		if v.at > 0 { // a reading out of turn does not make the others come sooner
			v.period = min(max(at-v.at, v.period/2), longestPeriod*tick.Milliseconds())
		}
		v.number, v.at = cells[i].Int, at
		g.gained[i] += cells[i].Int
	}
}

// takeHealth takes a row of gpu_health. The first one belongs to the first row of gpu_samples, whichever of
// them comes first.
func (g *device) takeHealth(cells []batch.Cell) {
	at := cells[0].Int
	first := !cells[health().interval].OK
	g.healthAt = at
	for i := range cells {
		g.health[i] = value{}
		if cells[i].OK {
			g.health[i] = value{number: cells[i].Int, at: at}
		}
		if first {
			g.bases[i] = g.health[i]
		}
	}
	if first {
		return
	}
	for _, p := range pairs() {
		if total := g.health[p.total]; total.at > 0 && g.bases[p.total].at == 0 {
			g.bases[p.total] = value{number: total.number - g.gained[p.increment], at: at}
		}
	}
}

func (g *device) takeIdentity(cells []batch.Cell) {
	c := inventory()
	text := func(name string) string { return valid(cells[c.place(name)].Text) }
	number := func(name string) string { return numberText(cells[c.place(name)]) }
	g.identity = identity{
		uuid: text("gpu_uuid"), parent: text("parent_gpu_uuid"), index: number("gpu_index"), model: text("model"), pci: text("pci_bus_id"),
		profile: text("mig_profile"), instance: number("gpu_instance_id"),
		serial: text("serial_number"), vbios: text("vbios_version"), architecture: text("architecture"),
	}
}

// mostXIDs bounds the codes that one GPU may show.
const mostXIDs = 256

func (g *device) countXID(xid int64) {
	if _, known := g.xids[xid]; known || len(g.xids) < mostXIDs {
		g.xids[xid]++
	}
	g.lastXID = xid
}

// copied is a device of its own.
func (g *device) copied() device {
	c := *g
	c.samples, c.health = slices.Clone(g.samples), slices.Clone(g.health)
	c.gained, c.bases = slices.Clone(g.gained), slices.Clone(g.bases)
	c.owners, c.xids = slices.Clone(g.owners), maps.Clone(g.xids)
	return c
}

// valid is a text that Prometheus takes as a label.
func valid(s string) string { return strings.ToValidUTF8(s, "?") }
