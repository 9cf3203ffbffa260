// SPDX-License-Identifier: Apache-2.0

// Package exposition shows the latest readings of a node's GPUs to Prometheus, under names of our own
// and, if wanted, under dcgm-exporter's. A Page is shown every row that an agent writes, and keeps the
// last of each GPU: that costs a copy, and no memory. All else is done when somebody scrapes.
//
// It promises that what is shown was read just now. The values of a GPU that is lost, hangs, or was not
// read for two ticks are absent, as are those that the GPU did not answer the last two times that it was
// asked. A Page owns no goroutine and may be used by several.
package exposition

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpufleet/gpufleet/agent/internal/batch"
	"github.com/gpufleet/gpufleet/schema"
)

// Options is what is shown.
type Options struct {
	GPUs bool // readings of GPUs, as gpufleet_gpu_*
	DCGM bool // the same as dcgm-exporter shows them, as DCGM_FI_*
}

// Config is what a Page is told.
type Config struct {
	Options
	Node           string
	Interval       time.Duration // between the rows of a GPU in gpu_samples
	HealthInterval time.Duration // and in gpu_health
	Late           time.Duration // rows may come this much later than they were read
	Now            func() time.Time
}

// mostGPUs bounds what is remembered: GPUs and MIG instances, those that are gone included.
const mostGPUs = 1024

// Page holds what is shown. It is a prometheus.Collector.
type Page struct {
	cfg  Config
	own  []series
	dcgm []field

	mu     sync.Mutex // guards the fields below
	gpus   []*device  // in the order in which they came
	byID   map[uint64]*device
	driver string         // version
	faults [recent]uint64 // that were counted as an XID: later rows tell more of the same one
	next   int            // place in faults
}

// recent is how many faults are remembered.
const recent = 256

var _ prometheus.Collector = (*Page)(nil)

// New makes a page. Nothing is on it yet.
func New(cfg Config) *Page {
	p := &Page{cfg: cfg, byID: make(map[uint64]*device)}
	if cfg.GPUs {
		p.own = ownSeries()
	}
	if cfg.DCGM {
		p.dcgm = dcgmFields()
	}
	return p
}

// Take is shown a row: the wire columns of a table in order. It keeps nothing of the cells.
func (p *Page) Take(table uint8, cells []batch.Cell) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch table {
	case schema.SamplesID:
		if g := p.device(cells[samples().gpu].Int); g != nil {
			g.takeSample(cells, p.cfg.Interval)
		}
	case schema.HealthID:
		if g := p.device(cells[health().gpu].Int); g != nil {
			g.takeHealth(cells)
		}
	case schema.GPUInventoryID:
		if g := p.device(cells[inventory().gpu].Int); g != nil {
			g.takeIdentity(cells)
		}
	case schema.NodeInventoryID:
		p.driver = valid(cells[columnsOf(schema.NodeInventoryID).place("driver_version")].Text)
	case schema.WorkloadID:
		p.takeWorkload(cells)
	case schema.EventsID:
		p.takeEvent(cells)
	}
}

// device finds a GPU, or makes room for it; nil if there are too many.
func (p *Page) device(id int64) *device {
	g := p.byID[uint64(id)]
	if g == nil && len(p.gpus) < mostGPUs {
		g = newDevice()
		p.byID[uint64(id)] = g
		p.gpus = append(p.gpus, g)
	}
	return g
}

// takeEvent counts XIDs, and notes what makes readings old at once.
func (p *Page) takeEvent(cells []batch.Cell) {
	c := columnsOf(schema.EventsID)
	kind, gpu := cells[c.place("kind")].Text, cells[c.gpu]
	switch kind {
	case "driver_missing", "driver_released":
		for _, g := range p.gpus {
			g.lost = true
		}
		return
	}
	if !gpu.OK {
		return
	}
	g := p.device(gpu.Int)
	if g == nil {
		return
	}
	switch kind {
	case "gpu_lost", "gpu_stuck", "gpu_unbound":
		g.lost = true
	case "gpu_removed":
		delete(p.byID, uint64(gpu.Int))
		p.gpus = slices.DeleteFunc(p.gpus, func(known *device) bool { return known == g })
	}
	if xid := cells[c.place("xid")]; xid.OK && p.isNew(cells[c.place(schema.ColumnFault)]) {
		g.countXID(xid.Int)
	}
}

// isNew tells whether a fault was not counted yet, and remembers it. A row that belongs to no fault is
// one by itself.
func (p *Page) isNew(fault batch.Cell) bool {
	if !fault.OK {
		return true
	}
	if slices.Contains(p.faults[:], uint64(fault.Int)) {
		return false
	}
	p.faults[p.next] = uint64(fault.Int)
	p.next = (p.next + 1) % recent
	return true
}

// takeWorkload notes who has a GPU.
func (p *Page) takeWorkload(cells []batch.Cell) {
	c := columnsOf(schema.WorkloadID)
	g := p.device(cells[c.gpu].Int)
	if g == nil {
		return
	}
	id := uint64(cells[c.place("assignment_id")].Int)
	g.owners = slices.DeleteFunc(g.owners, func(o owner) bool { return o.assignment == id })
	o := owner{
		assignment: id, namespace: valid(cells[c.place("namespace")].Text), pod: valid(cells[c.place("pod")].Text),
		container: valid(cells[c.place("container")].Text), job: valid(cells[c.place("job_id")].Text),
	}
	if open := !cells[c.place("valid_to")].OK; open && (o.pod != "" || o.job != "") && len(g.owners) < mostOwners {
		g.owners = append(g.owners, o)
	}
}

// Describe implements prometheus.Collector. It tells nothing beforehand: which labels DCGM's names have
// depends on the GPU.
func (p *Page) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. It holds the lock for a copy alone: whoever scrapes may be
// slow.
func (p *Page) Collect(metrics chan<- prometheus.Metric) {
	now := p.cfg.Now().UnixMilli()
	views, byUUID := p.copies(now)
	for _, v := range views {
		v.parent = byUUID[v.identity.parent]
		p.collectOwn(v, metrics)
		p.collectDCGM(v, metrics)
	}
}

// copies are the GPUs whose names are known, as they are now.
func (p *Page) copies(now int64) (views []*view, byUUID map[string]*view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	byUUID = make(map[string]*view)
	for _, g := range p.gpus {
		if g.identity.uuid == "" {
			continue
		}
		v := &view{device: g.copied(), driver: p.driver, node: p.cfg.Node, tick: p.cfg.Interval.Milliseconds()}
		v.fresh = !g.lost && now-g.sampleAt <= (2*p.cfg.Interval+p.cfg.Late).Milliseconds()
		v.healthFresh = v.fresh && now-g.healthAt <= (2*p.cfg.HealthInterval+p.cfg.Late).Milliseconds()
		views = append(views, v)
		byUUID[g.identity.uuid] = v
	}
	return views, byUUID
}
