// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/gpufleet/gpufleet/schema"
)

// nodeFacts tells what a node is: at first, on a change, and once an hour.
func (g *gatherer) nodeFacts(n *node, ts int64, r *row, put put) {
	hash := r.node.hash()
	if !n.told.stale(hash, ts) {
		return
	}
	layout := g.tables[schema.NodeInventoryID]
	row := cells{layout.number(schema.ColumnTime, ts), layout.id("content_hash", hash)}
	put(layout.ID, ts, layout.facts(row, r.node.facts), func() { n.told = told{hash, ts} })
}

// gpuFacts tells what a GPU is, as often.
func (g *gatherer) gpuFacts(card *gpu, ts int64, r *row, put put) {
	hash := r.gpu.hash()
	if !card.told.stale(hash, ts) {
		return
	}
	layout := g.tables[schema.GPUInventoryID]
	row := cells{layout.number(schema.ColumnTime, ts), layout.id(schema.ColumnGPU, card.id), layout.id("content_hash", hash)}
	put(layout.ID, ts, layout.facts(row, r.gpu.facts), func() { card.told = told{hash, ts} })
}

// interval is who has a GPU, from when on.
type interval struct {
	owner
	id     uint64 // 0: nobody
	from   int64
	saidAt int64
}

// owners tells who has a GPU: when it changes, and once an hour. That nobody is named ends an interval and begins none:
// most exporters are not told of owners.
func (g *gatherer) owners(card *gpu, ts int64, r *row, put put) {
	now := card.interval
	if ts <= now.saidAt {
		return // late, or the same moment in pieces
	}
	same := r.owner != nil && now.id != 0 && *r.owner == now.owner
	if same && ts-now.saidAt < sayAgain || r.owner == nil && now.id == 0 {
		return
	}
	if !same && now.id != 0 {
		g.putOwner(card, ts, now, true, put, func() { card.interval = interval{saidAt: ts} })
	}
	if r.owner == nil {
		return
	}
	if !same {
		now = interval{owner: *r.owner, from: ts, id: assignment(card.id, r.owner, ts)}
	}
	now.saidAt = ts
	g.putOwner(card, ts, now, false, put, func() { card.interval = now })
}

func (g *gatherer) putOwner(card *gpu, ts int64, i interval, closed bool, put put, commit func()) {
	layout := g.tables[schema.WorkloadID]
	row := cells{
		layout.number(schema.ColumnTime, ts), layout.id(schema.ColumnGPU, card.id), layout.id("assignment_id", i.id),
		layout.number("valid_from", i.from), layout.text("owner_kind", "kubernetes"), layout.number("shared", 0),
	}
	if closed {
		row = append(row, layout.number("valid_to", ts))
	}
	for _, c := range []struct{ column, text string }{{"namespace", i.namespace}, {"pod", i.pod}, {"pod_uid", i.uid}, {"container", i.container}} {
		if c.text != "" && len(c.text) <= maxFactBytes {
			row = append(row, layout.text(c.column, c.text))
		}
	}
	put(layout.ID, ts, row, commit)
}

// assignment names an interval.
func assignment(gpu uint64, o *owner, from int64) uint64 {
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(nil, gpu))
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(from)))
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", o.namespace, o.pod, o.uid, o.container)
	return max(h.Sum64(), 1)
}
