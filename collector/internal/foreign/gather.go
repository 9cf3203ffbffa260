// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// gatherer owns what is known of nodes and GPUs. One goroutine uses it.
type gatherer struct {
	door   *Door
	nodes  map[uint64]*node
	gpus   int
	unkept map[*node]bool // nodes with batches that the log did not take
	tables map[uint8]*layout
}

// node is one node of a source.
type node struct {
	id        uint64
	name      string
	scope     wire.Scope // of what is gathered now
	sequences map[uint8]uint64
	told      told
	gpus      map[uint64]*gpu
	unkept    []*keeping // that the log did not take
}

// enter says whose the node is from now on. Who is new has been told nothing of it, and is to learn nothing of what was:
// neither increments since then, nor whose pod ended.
func (n *node) enter(scope wire.Scope) {
	if n.scope == scope {
		return
	}
	n.scope, n.told = scope, told{}
	for _, card := range n.gpus {
		card.leave()
		card.told, card.interval = told{}, interval{}
	}
}

// maxNodes bounds the nodes whose numbers of batches are remembered.
const maxNodes = 1 << 18

func newGatherer(d *Door) *gatherer {
	g := &gatherer{door: d, nodes: make(map[uint64]*node), unkept: make(map[*node]bool), tables: make(map[uint8]*layout)}
	for _, t := range schema.Tables() {
		g.tables[t.ID] = newLayout(t)
	}
	return g
}

// gather makes batches of requests. What a source pushes for one tenant or zone is never in a row, or in a batch, with
// what it pushes for another, as while its token is changed.
func (g *gatherer) gather(ctx context.Context, requests []*Request) {
	for len(requests) > 0 {
		scopes, n := make(map[string]wire.Scope), 0
		for _, r := range requests {
			if scope, ok := scopes[r.from.Name]; ok && scope != r.from.Scope {
				break
			}
			scopes[r.from.Name] = r.from.Scope
			n++
		}
		g.gatherAlike(ctx, requests[:n])
		requests = requests[n:]
	}
}

// gatherAlike makes batches of requests, waits until each is durable or is not, and answers.
func (g *gatherer) gatherAlike(ctx context.Context, requests []*Request) {
	failed := g.again(ctx)
	fresh := make(map[rowKey]*row)
	for _, r := range requests {
		for key, row := range r.rows {
			if failed[key.node] == nil {
				g.merge(ctx, fresh, r, key, row)
			}
		}
	}
	var under []*keeping
	for id, rows := range byNode(fresh) {
		for _, b := range g.batches(g.nodes[id], rows) {
			k, err := g.door.keep(ctx, b)
			if err != nil {
				failed[id] = err
				break
			}
			under = append(under, k)
		}
	}
	g.await(under, failed)
	for _, r := range requests {
		var err error
		for key := range r.rows {
			if err == nil {
				err = failed[key.node]
			}
		}
		r.done <- err
	}
}

// again gives the log what it did not take before, of all nodes: what one that never comes again left would hold memory
// for good. As long as the log does not take it, nothing more of those nodes is taken: it would come on top of what their
// senders push again.
func (g *gatherer) again(ctx context.Context) map[uint64]error {
	failed := make(map[uint64]error)
	var under []*keeping
	for n := range g.unkept {
		under = append(under, n.unkept...)
		n.unkept = nil
	}
	clear(g.unkept)
	for _, k := range under {
		g.door.append(ctx, k)
	}
	g.await(under, failed)
	return failed
}

// await waits until batches are durable. What is not stays with its node.
func (g *gatherer) await(under []*keeping, failed map[uint64]error) {
	for _, k := range under {
		if err := <-k.durable; err != nil {
			failed[k.node.id] = err
			k.node.unkept = append(k.node.unkept, k)
			g.unkept[k.node] = true
			continue
		}
		for _, commit := range k.commit {
			commit()
		}
	}
}

// merge puts what is new of a row to what other requests have of the same GPU and time.
func (g *gatherer) merge(ctx context.Context, fresh map[rowKey]*row, r *Request, key rowKey, from *row) {
	byAgent, known := g.byAgent(key, from, r.from.Scope.Tenant)
	switch {
	case byAgent:
		g.refuse(ctx, r, from, "agent", "of GPUs that an agent reads as well, whose rows count")
		return
	case !known:
		g.refuse(ctx, r, from, "full", g.tooMany())
		return
	}
	card, refused := g.known(key, from, r.from.Scope)
	if refused != "" {
		g.refuse(ctx, r, from, "full", refused)
		return
	}
	if card.late(key.ts) {
		g.refuse(ctx, r, from, "late", fmt.Sprintf("later than %d readings of the same GPU that came before them", remembered))
		return
	}
	card.came = g.door.cfg.now().UnixMilli()
	to, ok := fresh[key]
	if !ok {
		to = &row{node: from.node, gpu: from.gpu}
		fresh[key] = to
	}
	if from.shared {
		to.owner, to.shared = nil, true
	}
	to.own(from.owner)
	for _, c := range from.cells {
		if to.mask.Has(c.target.Bit) || card.knows(key.ts, c.target) {
			g.door.metrics.duplicates.Add(ctx, 1)
			continue
		}
		to.mask.Add(c.target.Bit)
		to.cells = append(to.cells, c)
	}
}

// refuse tells of all of a row that it is not kept.
func (g *gatherer) refuse(ctx context.Context, r *Request, from *row, reason, says string) {
	for range from.cells {
		r.outcome.refuse(says)
	}
	g.door.metrics.refuse(ctx, r.from, reason, len(from.cells))
}

// byAgent tells whether an agent of the tenant reads the GPU, or the one that it is part of; known is false if that cannot be asked.
func (g *gatherer) byAgent(key rowKey, from *row, tenant string) (agent, known bool) {
	now := g.door.cfg.now().UnixMilli()
	agent, known = g.door.agents.read(gpuOf{key.gpu, tenant}, now)
	if !agent && from.gpu.parent != "" {
		ofParent, asked := g.door.agents.read(gpuOf{wire.GPUID(from.gpu.parent), tenant}, now)
		agent, known = ofParent, known && asked
	}
	if !agent {
		return false, known
	}
	if n := g.nodes[key.node]; n != nil && n.gpus[key.gpu] != nil {
		n.gpus[key.gpu].leave()
	}
	return true, true
}

func (g *gatherer) tooMany() string {
	return fmt.Sprintf("more than %d GPUs: --foreign-gpus of the collector says how many", g.door.cfg.MaxGPUs)
}

// known finds a GPU, or remembers it from now on. What was silent for an hour makes room.
func (g *gatherer) known(key rowKey, from *row, scope wire.Scope) (*gpu, string) {
	n, ok := g.nodes[key.node]
	if ok {
		n.enter(scope)
	} else {
		n = &node{id: key.node, name: from.node.name, scope: scope, sequences: make(map[uint8]uint64), gpus: make(map[uint64]*gpu)}
	}
	if !ok && len(g.nodes) >= maxNodes {
		return nil, fmt.Sprintf("more than %d nodes since the collector was started: what names them?", maxNodes)
	}
	card, ok := n.gpus[key.gpu]
	if ok {
		return card, ""
	}
	if g.gpus >= g.door.cfg.MaxGPUs {
		g.forget(g.door.cfg.now().UnixMilli() - forgetAfter)
	}
	if g.gpus >= g.door.cfg.MaxGPUs {
		return nil, g.tooMany()
	}
	card = &gpu{id: key.gpu}
	n.gpus[key.gpu] = card
	g.nodes[key.node] = n
	g.gpus++
	return card, ""
}

const forgetAfter = 3600_000 // milliseconds

// forget forgets GPUs of which nothing came since. Their nodes stay: the numbers of their batches go on.
func (g *gatherer) forget(since int64) {
	for _, n := range g.nodes {
		maps.DeleteFunc(n.gpus, func(_ uint64, c *gpu) bool {
			old := c.came < since
			if old {
				g.gpus--
			}
			return old
		})
	}
}

// byNode parts rows by their nodes.
func byNode(rows map[rowKey]*row) map[uint64]map[rowKey]*row {
	parted := make(map[uint64]map[rowKey]*row)
	for key, r := range rows {
		if parted[key.node] == nil {
			parted[key.node] = make(map[rowKey]*row)
		}
		parted[key.node][key] = r
	}
	return parted
}

// batch is rows of one table and day that are stored together, and what is to be remembered once they are durable.
type batch struct {
	node   *node
	table  *layout
	rows   []cells
	commit []func()
}

// maxRows of a batch: a scrape of a large node, many times over.
const maxRows = 4096

// batches lays rows of one node out. Times go up within a GPU, so that increments are of what came before.
func (g *gatherer) batches(n *node, rows map[rowKey]*row) []*batch {
	keys := slices.SortedFunc(maps.Keys(rows), func(a, b rowKey) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.gpu, b.gpu))
	})
	var made []*batch
	open := make(map[uint8]*batch)
	put := func(table uint8, ts int64, row cells, commit func()) {
		b := open[table]
		if b == nil || len(b.rows) == maxRows || b.rows[0][0].number/dayMilliseconds != ts/dayMilliseconds {
			b = &batch{node: n, table: g.tables[table]}
			open[table] = b
			made = append(made, b)
		}
		b.rows = append(b.rows, row)
		if commit != nil {
			b.commit = append(b.commit, commit)
		}
	}
	newest := make(map[uint64]rowKey) // what things are is judged by the last row of each GPU
	stage := make(map[stageKey]*history)
	for _, key := range keys {
		newest[key.gpu] = key
		for part := range parts {
			g.readings(n.gpus[key.gpu], key.ts, rows[key], part, stage, put)
		}
	}
	last := keys[len(keys)-1]
	g.nodeFacts(n, last.ts, rows[last], put)
	for _, id := range slices.Sorted(maps.Keys(newest)) {
		key := newest[id]
		g.gpuFacts(n.gpus[key.gpu], key.ts, rows[key], put)
		g.owners(n.gpus[key.gpu], key.ts, rows[key], put)
	}
	return made
}

const dayMilliseconds = 86_400_000

type stageKey struct {
	gpu  *gpu
	part int
}

// put adds a row to a batch; commit is called once it is durable.
type put = func(table uint8, ts int64, row cells, commit func())

// readings makes the row of one table.
func (g *gatherer) readings(card *gpu, ts int64, r *row, part int, stage map[stageKey]*history, put put) {
	at := stageKey{card, part}
	h, ok := stage[at]
	if !ok {
		h = card.parts[part].clone()
		stage[at] = h
	}
	layout := g.tables[partTables[part]]
	come := card.come(ts, part)
	row := cells{layout.number(schema.ColumnTime, ts), layout.id(schema.ColumnGPU, card.id)}
	mask := r.mask
	readings := 0
	for _, c := range r.cells {
		if !goesTo(c.target, part) || come.Has(c.target.Bit) {
			continue
		}
		readings++
		if part == healthPart && !h.fresh(c.target, ts) {
			continue
		}
		row = h.cells(row, layout, c, ts, part)
	}
	if readings == 0 {
		return
	}
	if part == healthPart && len(row) == 2 { // it had all of this in the minute
		card.note(ts, part, mask)
		return
	}
	if h.last > 0 && ts > h.last {
		row = append(row, layout.number(schema.ColumnInterval, ts-h.last))
	}
	h.last = max(h.last, ts)
	row = append(row, layout.number(schema.ColumnCounterEpoch, int64(h.epoch)))
	if part == samplesPart {
		row = append(row, layout.number(schema.ColumnQuality, schema.QualityForeign))
	}
	snapshot, life := *h.clone(), card.life
	put(partTables[part], ts, row, func() {
		if life == card.life && snapshot.last >= card.parts[part].last { // later batches may be durable before it
			card.parts[part] = snapshot
		}
		card.note(ts, part, mask)
	})
}

// cells are what a table has of one reading.
func (h *history) cells(row cells, layout *layout, c cell, ts int64, part int) cells {
	name := c.target.Metric.Name
	if !c.target.Counter() {
		return append(row, layout.number(name, c.value))
	}
	if part == healthPart {
		row = append(row, layout.number(name+"_total", c.value))
		if c.target.Metric.Tier == schema.TierSecond {
			return row // its increments are in gpu_samples
		}
	}
	delta, ok, reset := h.step(c, ts)
	if reset {
		h.epoch++
	}
	if ok {
		row = append(row, layout.number(name+"_delta", delta))
	}
	return row
}
