// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// plans is what one GPU is asked each second, and what it is asked besides: what is slow to read each 10 s, the rest
// each minute.
type plans struct {
	second, slow, minute plan
	numbering            gpu.Numbering
	rings                ringSet // that the GPU has
}

// all are the plans in the order in which they are read.
func (p *plans) all() [3]*plan { return [...]*plan{&p.second, &p.slow, &p.minute} }

// linkCountField tells how many NVLinks a GPU has.
const linkCountField = "DEV_NVLINK_LINK_COUNT"

// maxLinks bounds what a driver may claim.
const maxLinks = 64

// prober asks a GPU everything once.
type prober struct {
	device  gpu.Device
	all     plan // every source of every metric
	answers map[gpu.Getter]gpu.Return
	rings   ringSet
	chosen  plans
}

// probe asks a GPU everything once, and plans to ask again what it did not call unsupported. Anything
// but Success is a call that failed: it tells nothing of what is supported. calls is how many it took.
func probe(device gpu.Device, branch int) (chosen plans, calls uint64, ret gpu.Return) {
	numbering, ret := gpu.AskNumbering(device, branch)
	calls = 1
	if !ret.OK() && !ret.Unsupported() && ret != gpu.InvalidArgument { // with these two the branch has to do, for ever
		return plans{}, calls, ret
	}
	links, ret := countLinks(device)
	calls++
	if !ret.OK() {
		return plans{}, calls, ret
	}
	p := prober{device: device, all: candidates(numbering, links), answers: make(map[gpu.Getter]gpu.Return)}
	p.chosen.numbering = numbering
	calls++
	if ret := fieldsOrNone(device, p.all.fields); !ret.OK() {
		return plans{}, calls, ret
	}
	p.askGetters()
	calls += uint64(len(p.all.getters))
	if _, ok := device.(gpu.Ring); ok {
		calls += uint64(len(rings))
	}
	if p.rings, ret = askRings(device); stops(ret) {
		return plans{}, calls, ret
	}
	p.choose()
	return p.chosen, calls, gpu.Success
}

// fieldsOrNone asks for fields. A driver that does not know the call has none of them.
func fieldsOrNone(device gpu.Device, values []gpu.FieldValue) gpu.Return {
	if len(values) == 0 {
		return gpu.Success
	}
	ret := device.Fields(values)
	if !ret.Unsupported() {
		return ret
	}
	for i := range values {
		values[i].Return = ret
	}
	return gpu.Success
}

func countLinks(device gpu.Device) (int, gpu.Return) {
	id, ok := gpu.FieldID(linkCountField, gpu.NumberingUnknown)
	if !ok {
		return 0, gpu.Success
	}
	value := []gpu.FieldValue{{FieldID: id}}
	if ret := fieldsOrNone(device, value); !ret.OK() || !value[0].Return.OK() {
		return 0, ret
	}
	n, _ := value[0].Int()
	return int(min(max(n, 0), maxLinks)), gpu.Success
}

// candidates is a plan of every source of every metric.
func candidates(numbering gpu.Numbering, links int) plan {
	var p plan
	for i, m := range allMetrics() {
		for j := range m.Sources {
			p.add(i, &m.Sources[j], numbering, links)
		}
	}
	return p
}

func (p *plan) add(metric int, source *schema.Source, numbering gpu.Numbering, links int) {
	s := step{metric: metric, source: source, count: 1}
	switch source.Kind {
	case schema.FromField, schema.FromFieldPerLink:
		id, ok := gpu.FieldID(source.Name, numbering)
		if !ok {
			return
		}
		s.first = len(p.fields)
		if source.Kind == schema.FromField {
			p.fields = append(p.fields, gpu.FieldValue{FieldID: id, ScopeID: source.Scope})
			break
		}
		s.count = links
		for link := range links {
			p.fields = append(p.fields, gpu.FieldValue{FieldID: id, ScopeID: uint32(link)})
		}
	case schema.FromGetter:
		getter, ok := gpu.GetterByName(source.Name, source.Argument)
		if !ok {
			return
		}
		s.getter = getter
		p.wantGetter(question{getter: getter})
	case schema.FromProfile:
		s.first = len(p.profiles)
		p.profiles = append(p.profiles, gpu.ProfileValue{MetricID: source.ID})
	case schema.FromRing:
	}
	p.steps = append(p.steps, s)
}

// wantGetter asks for a getter; one that is wanted for two reasons is asked for either.
func (p *plan) wantGetter(q question) {
	known := slices.IndexFunc(p.getters, func(o question) bool { return o.getter == q.getter })
	switch {
	case known < 0:
		p.getters = append(p.getters, q)
	case q.rings == 0 || p.getters[known].rings == 0:
		p.getters[known].rings = 0
	default:
		p.getters[known].rings |= q.rings
	}
}

func (p *prober) askGetters() {
	var parts gpu.Parts
	for _, q := range p.all.getters {
		p.answers[q.getter] = p.device.Get(q.getter, &parts)
	}
}

// choose takes the first source of each metric that the GPU supports. A metric that a ring tells also gets
// its getter, for the times at which the ring is empty.
func (p *prober) choose() {
	done, inRing := make(map[int]bool), make(map[int]ringSet)
	var slowProfiles []step
	for _, s := range p.all.steps {
		if done[s.metric] || !p.supported(s) {
			continue
		}
		m := allMetrics()[s.metric]
		if s.source.Kind == schema.FromRing {
			inRing[s.metric] |= ringsOf(s.source.ID)
			p.chosen.rings |= ringsOf(s.source.ID)
			continue
		}
		done[s.metric] = true
		switch {
		case m.Tier == schema.TierMinute:
			p.chosen.minute.adopt(&p.all, s, question{getter: s.getter})
		case m.Slow && s.source.Kind == schema.FromProfile:
			slowProfiles = append(slowProfiles, s)
		case m.Slow && p.tellsReasons():
			p.chosen.slow.adopt(&p.all, s, question{getter: s.getter})
		default:
			p.chosen.second.adopt(&p.all, s, question{getter: s.getter, turn: turns[s.getter], rings: inRing[s.metric]})
		}
	}
	p.chosen.second.quick = len(p.chosen.second.profiles)
	p.chosen.minute.quick = len(p.chosen.minute.profiles)
	for _, s := range slowProfiles { // last, and of the same call: a call of their own would end the others' window
		p.chosen.second.adopt(&p.all, s, question{})
	}
	if getters := p.chosen.second.getters; len(getters) == 1 {
		getters[0].turn = turn{} // as of a MIG instance: it has all turns
	}
}

// tellsReasons tells that the GPU says why its clocks are held down. Of one that does not, the counters of slowdowns
// have to be read at each tick.
func (p *prober) tellsReasons() bool { return !p.answers[gpu.GetClocksEventReasons].Unsupported() }

// supported tells whether it is worth asking again. Of a value per link, one link has to answer.
func (p *prober) supported(s step) bool {
	switch s.source.Kind {
	case schema.FromField:
		return !p.all.fields[s.first].Return.Unsupported()
	case schema.FromFieldPerLink:
		return len(answering(&p.all, s)) > 0
	case schema.FromGetter:
		return !p.answers[s.getter].Unsupported()
	case schema.FromProfile:
		_, ok := p.device.(gpu.Profiler)
		return ok
	case schema.FromRing:
		return p.rings&ringsOf(s.source.ID) != 0
	default:
		return false
	}
}

// answering are the values of the links that answered.
func answering(p *plan, s step) (values []gpu.FieldValue) {
	for _, v := range p.fields[s.first : s.first+s.count] {
		if v.Return.OK() {
			values = append(values, v)
		}
	}
	return values
}

// sameSource tells that a metric is read from the same place in both plans, of the same links.
func (p *plans) sameSource(other *plans, metric int) bool {
	source, scopes := p.origin(metric)
	otherSource, otherScopes := other.origin(metric)
	return source == otherSource && slices.Equal(scopes, otherScopes)
}

// origin is where a metric is read from, and the scopes of its fields; nil if it is not read.
func (p *plans) origin(metric int) (source *schema.Source, scopes []uint32) {
	for _, part := range p.all() {
		for _, s := range part.steps {
			if s.metric != metric {
				continue
			}
			if s.source.Kind == schema.FromField || s.source.Kind == schema.FromFieldPerLink {
				for _, v := range part.fields[s.first : s.first+s.count] {
					scopes = append(scopes, v.ScopeID)
				}
			}
			return s.source, scopes
		}
	}
	return nil, nil
}

// adopt takes a step of another plan, with the values that it asks; q is what it asks of a getter.
func (p *plan) adopt(from *plan, s step, q question) {
	switch s.source.Kind {
	case schema.FromField, schema.FromFieldPerLink:
		asked := from.fields[s.first : s.first+s.count]
		if s.source.Kind == schema.FromFieldPerLink {
			asked = answering(from, s)
		}
		s.first, s.count = len(p.fields), len(asked)
		p.fields = append(p.fields, asked...)
	case schema.FromGetter:
		p.wantGetter(q)
	case schema.FromProfile:
		first := len(p.profiles)
		p.profiles = append(p.profiles, from.profiles[s.first])
		s.first = first
	case schema.FromRing:
	}
	p.steps = append(p.steps, s)
}
