// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"slices"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/schema"
)

// plans is what one GPU is asked each second, and what it is asked each minute besides.
type plans struct {
	second, minute plan
}

// linkCountField tells how many NVLinks a GPU has.
const linkCountField = "DEV_NVLINK_LINK_COUNT"

// maxLinks bounds what a driver may claim.
const maxLinks = 64

// probe asks a GPU everything once, and plans to ask again what it did not call unsupported.
func probe(device gpu.Device, branch int) (plans, gpu.Return) {
	links := countLinks(device, branch)
	all := candidates(branch, links)
	if len(all.fields) > 0 {
		if ret := device.Fields(all.fields); ret.Lost() {
			return plans{}, ret
		}
	}
	answers := askGetters(device, all.getters)
	_, profiler := device.(gpu.Profiler)
	_, ring := device.(gpu.Ring)
	var chosen plans
	done := make(map[int]bool)
	for _, s := range all.steps {
		if done[s.metric] || !supported(&all, s, answers, profiler, ring) {
			continue
		}
		done[s.metric] = true
		m := allMetrics()[s.metric]
		if m.Tier == schema.TierSecond {
			chosen.second.adopt(&all, s)
		} else {
			chosen.minute.adopt(&all, s)
		}
	}
	return chosen, gpu.Success
}

func countLinks(device gpu.Device, branch int) int {
	id, ok := gpu.FieldID(linkCountField, branch)
	if !ok {
		return 0
	}
	value := []gpu.FieldValue{{FieldID: id}}
	if ret := device.Fields(value); !ret.OK() || !value[0].Return.OK() {
		return 0
	}
	n, _ := value[0].Int()
	return int(min(max(n, 0), maxLinks))
}

// candidates is a plan of every source of every metric.
func candidates(branch, links int) plan {
	var p plan
	for i, m := range allMetrics() {
		for j := range m.Sources {
			p.add(i, &m.Sources[j], branch, links)
		}
	}
	return p
}

func (p *plan) add(metric int, source *schema.Source, branch, links int) {
	s := step{metric: metric, source: source, count: 1}
	switch source.Kind {
	case schema.FromField, schema.FromFieldPerLink:
		id, ok := gpu.FieldID(source.Name, branch)
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
		p.wantGetter(getter)
	case schema.FromProfile:
		s.first = len(p.profiles)
		p.profiles = append(p.profiles, gpu.ProfileValue{MetricID: source.ID})
	case schema.FromRing:
	}
	p.steps = append(p.steps, s)
}

func (p *plan) wantGetter(getter gpu.Getter) {
	if !slices.Contains(p.getters, getter) {
		p.getters = append(p.getters, getter)
	}
}

func askGetters(device gpu.Device, getters []gpu.Getter) map[gpu.Getter]gpu.Return {
	answers := make(map[gpu.Getter]gpu.Return)
	var parts gpu.Parts
	for _, g := range getters {
		answers[g] = device.Get(g, &parts)
	}
	return answers
}

// supported tells whether it is worth asking again. For a value per link the links that answer are
// counted: those beyond are not there.
func supported(p *plan, s step, answers map[gpu.Getter]gpu.Return, profiler, ring bool) bool {
	switch s.source.Kind {
	case schema.FromField:
		return !p.fields[s.first].Return.Unsupported()
	case schema.FromFieldPerLink:
		return answering(p, s) > 0
	case schema.FromGetter:
		return !answers[s.getter].Unsupported()
	case schema.FromProfile:
		return profiler
	case schema.FromRing:
		return ring
	default:
		return false
	}
}

// answering is how many links, from the first on, answered.
func answering(p *plan, s step) int {
	n := 0
	for n < s.count && p.fields[s.first+n].Return.OK() {
		n++
	}
	return n
}

// adopt takes a step of another plan, with the values that it asks.
func (p *plan) adopt(from *plan, s step) {
	switch s.source.Kind {
	case schema.FromField, schema.FromFieldPerLink:
		if s.source.Kind == schema.FromFieldPerLink {
			s.count = answering(from, s)
		}
		first := len(p.fields)
		p.fields = append(p.fields, from.fields[s.first:s.first+s.count]...)
		s.first = first
	case schema.FromGetter:
		p.wantGetter(s.getter)
	case schema.FromProfile:
		first := len(p.profiles)
		p.profiles = append(p.profiles, from.profiles[s.first])
		s.first = first
	case schema.FromRing:
	}
	p.steps = append(p.steps, s)
}
