// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Source is who pushes, and how.
type Source struct {
	Name     string     // proved, where proof is asked for
	Protocol string     // reading_source of its nodes
	Scope    wire.Scope // of all that it pushes, as it has proved
}

// The protocols.
const (
	OTLP        = "otlp"
	RemoteWrite = "prometheus"
)

// Labels are the attributes of a resource or a reading.
type Labels map[string]string

// Group is readings with what they have in common.
type Group struct {
	Resource Labels
	Readings []Reading
}

// Reading is one number.
type Reading struct {
	Metric string
	Unit   string // "" if it is not told
	Labels Labels
	Time   int64 // milliseconds since 1970
	Start  int64 // of the counter, the same; 0 if it is not told
	Value  mapping.Value
	Fault  string // why it cannot be kept, whatever it is; "" if it can
}

// Outcome is what was not kept of a request, and why.
type Outcome struct {
	Refused int64
	reasons map[string]int64
	unknown map[string]int64
}

// Bounds of what is told. An answer that is too large for gRPC would be an error, and what is kept would come again.
const (
	maxNamesTold = 10
	maxReasons   = 20
	maxToldBytes = 300 // of a name or a reason
	otherReasons = "for other reasons"
)

func (o *Outcome) refuse(reason string) {
	o.Refused++
	if o.reasons == nil {
		o.reasons = make(map[string]int64)
	}
	reason = cut(reason)
	if _, told := o.reasons[reason]; !told && len(o.reasons) >= maxReasons {
		reason = otherReasons
	}
	o.reasons[reason]++
}

func cut(text string) string {
	if len(text) <= maxToldBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxToldBytes], "") + "…"
}

func (o *Outcome) refuseUnknown(metric string) {
	o.Refused++
	if o.unknown == nil {
		o.unknown = make(map[string]int64)
	}
	o.unknown[metric]++
}

// String says it in words; "" if all was kept.
func (o *Outcome) String() string {
	var parts []string
	if names := slices.Sorted(maps.Keys(o.unknown)); len(names) > 0 {
		var points int64
		for _, n := range o.unknown {
			points += n
		}
		more := ""
		if len(names) > maxNamesTold {
			more = fmt.Sprintf(" and %d more", len(names)-maxNamesTold)
			names = names[:maxNamesTold]
		}
		for i := range names {
			names[i] = cut(names[i])
		}
		parts = append(parts, fmt.Sprintf("%d of metrics that are not known here: %s%s (docs/neighbours.md lists what is)", points, strings.Join(names, ", "), more))
	}
	for _, reason := range slices.Sorted(maps.Keys(o.reasons)) {
		parts = append(parts, fmt.Sprintf("%d: %s", o.reasons[reason], reason))
	}
	return strings.Join(parts, "; ")
}

// Request is one push, sorted into rows.
type Request struct {
	from                          Source
	outcome                       Outcome
	noColumn, noValue, duplicates int64 // readings that are not kept, and that nobody waits for
	rows                          map[rowKey]*row
	cells                         int
	done                          chan error
}

// rowKey names a row for good.
type rowKey struct {
	node, gpu uint64
	ts        int64
}

// row is what came of one GPU and time.
type row struct {
	node   *nodeFacts
	gpu    *gpuFacts
	owner  *owner // nil if nobody was named, or several
	shared bool   // several were
	cells  []cell
	mask   mapping.Mask
}

// own says who has the GPU. Of several, as where it is shared in time, none does alone: then nobody is named.
func (r *row) own(o *owner) {
	switch {
	case o == nil || r.shared:
	case r.owner == nil:
		r.owner = o
	case *r.owner != *o:
		r.owner, r.shared = nil, true
	}
}

type cell struct {
	target *mapping.Target
	value  int64
	start  int64
}

// Sort finds for each reading its row and its column. It asks nothing of what came before, and keeps nothing of the
// groups.
func (d *Door) Sort(ctx context.Context, from Source, groups []Group) *Request {
	r := &Request{from: from, rows: make(map[rowKey]*row), done: make(chan error, 1)}
	now := d.cfg.now()
	oldest, newest := now.Add(-d.cfg.MaxAge).UnixMilli(), now.Add(d.cfg.MaxAhead).UnixMilli()
	for _, group := range groups {
		s := sorter{door: d, Request: r, resource: group.Resource, known: make(map[subjectKey]*subject), oldest: oldest, newest: newest}
		for i := range group.Readings {
			s.add(&group.Readings[i])
		}
	}
	d.metrics.took(ctx, r)
	return r
}

// sorter sorts the readings of one group.
type sorter struct {
	*Request
	door           *Door
	resource       Labels
	known          map[subjectKey]*subject
	oldest, newest int64
}

// subjectKey tells whether two readings are of one GPU, whose facts then need not be worked out again.
type subjectKey struct {
	family               mapping.Family
	host, uuid, instance string
}

type subject struct {
	node *nodeFacts
	gpu  *gpuFacts
	err  error
}

func (s *sorter) add(g *Reading) {
	find := func(key string) string {
		if v, ok := g.Labels[key]; ok {
			return v
		}
		return s.resource[key]
	}
	if g.Fault != "" {
		s.outcome.refuse(g.Fault)
		return
	}
	target, value := s.target(g, find)
	if target == nil {
		return
	}
	if g.Time < s.oldest || g.Time > s.newest {
		s.outcome.refuse(fmt.Sprintf("more than %s old or %s ahead: is the clock of the sender right?", s.door.cfg.MaxAge, s.door.cfg.MaxAhead))
		return
	}
	family, _ := s.door.mapping.Family(g.Metric)
	who := s.subject(family, find)
	if who.err != nil {
		s.outcome.refuse(who.err.Error())
		return
	}
	key := rowKey{wire.NodeID(who.node.name), wire.GPUID(who.gpu.uuid), g.Time}
	at, ok := s.rows[key]
	if !ok {
		at = &row{node: who.node, gpu: who.gpu}
		s.rows[key] = at
	}
	at.own(ownerIn(family, g.Labels))
	if at.mask.Has(target.Bit) {
		s.duplicates++ // the same again, or under another of its names
		return
	}
	at.mask.Add(target.Bit)
	at.cells = append(at.cells, cell{target, value, g.Start})
	s.cells++
}

// target finds the column of a reading and its value there; if there is none it notes why.
func (s *sorter) target(g *Reading, find func(string) string) (*mapping.Target, int64) {
	target, value, verdict := s.door.mapping.Find(g.Metric, g.Unit, find, g.Value)
	switch verdict {
	case mapping.Unknown:
		s.outcome.refuseUnknown(g.Metric)
	case mapping.UnknownUnit:
		s.outcome.refuse(fmt.Sprintf("%s in %q, a unit that it is not known in (docs/neighbours.md has those that it is)", g.Metric, g.Unit))
	case mapping.Unfit:
		s.outcome.refuse(g.Metric + " with a value that its column cannot hold (docs/neighbours.md has its unit)")
	case mapping.NotKept:
		s.noColumn++
	case mapping.Absent:
		s.noValue++
	case mapping.Kept:
		return target, value
	}
	return nil, 0
}

// subject works out which GPU and node a reading is of.
func (s *sorter) subject(family mapping.Family, find func(string) string) *subject {
	key := subjectKey{family: family}
	if family == mapping.DCGM {
		key.host, key.uuid, key.instance = dcgmHost(s.resource, find), cmp.Or(find("UUID"), find("uuid")), find("GPU_I_ID")
	} else {
		key.host, key.uuid = semanticHost(s.resource, find), find("hw.id")
	}
	if known, ok := s.known[key]; ok {
		return known
	}
	who := &subject{}
	if family == mapping.DCGM {
		who.node, who.gpu, who.err = dcgmSubject(s.from, s.resource, key, find)
	} else {
		who.node, who.gpu, who.err = semanticSubject(s.from, s.resource, key, find)
	}
	s.known[key] = who
	return who
}
