// SPDX-License-Identifier: Apache-2.0

package place

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ParseKnown reads what an operator writes down of a node: a line for each fact, "field = value", by the names of
// Fields; empty lines and lines that begin with # are left out.
//
//	provider   = own
//	rack       = r7
//	life_cycle = owned
func ParseKnown(text string) (Place, error) {
	var p Place
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !plain(value) {
			return Place{}, fmt.Errorf("line %d: want field = value, and the value some printable text of at most %d bytes", number, maxValueBytes)
		}
		at := p.field(name)
		switch {
		case at == nil:
			return Place{}, fmt.Errorf("line %d: there is no field %.40q; the fields are %s", number, name, fieldNames())
		case *at != "":
			return Place{}, fmt.Errorf("line %d: %s is given twice", number, name)
		}
		*at = value
	}
	return p, p.CheckLifeCycle()
}

// CheckLifeCycle tells whether a way of renting is one that prices are kept for.
func (p Place) CheckLifeCycle() error {
	known := []string{"", OnDemand, Spot, Reserved, CapacityBlock, Owned}
	if !slices.Contains(known, p.LifeCycle) {
		return fmt.Errorf("life_cycle %.40q: want one of %s", p.LifeCycle, strings.Join(known[1:], ", "))
	}
	return nil
}

func (p *Place) field(name string) *string {
	for _, f := range Fields() {
		if f.Name == name {
			return f.at(p)
		}
	}
	return nil
}

func fieldNames() string {
	var names []string
	for _, f := range Fields() {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// Or is p, and where p knows nothing, other.
func (p Place) Or(other Place) Place {
	p.Sources = nil
	p.fill(FromConfiguration, other)
	p.Sources = nil
	return p
}

// Configured is a place of which nothing is known but what the operator says.
func Configured(known Place) (Place, []Reason) {
	var m merger
	m.fill(FromConfiguration, known)
	return m.place, m.reasons
}

// Remember is p, with what an earlier probe of the same node knew and this one could not ask for again: a service
// that is away for a while does not make a node homeless.
func (p Place) Remember(earlier Place, reasons []Reason) Place {
	if p.Provider != "" && p.Provider != earlier.Provider || p.InstanceID != "" && p.InstanceID != earlier.InstanceID {
		return p
	}
	again := make(map[string]bool)
	for _, from := range p.Sources {
		again[from] = true
	}
	for _, r := range reasons {
		again[r.Probe] = false
	}
	kept := Place{Sources: earlier.Sources}
	for _, f := range Fields() {
		if value := f.Of(earlier); !again[earlier.Sources[f.Name]] {
			*f.at(&kept) = value
		}
	}
	p = p.withKept(kept)
	if maps.Equal(p.Facts(), earlier.Facts()) {
		p.Sources = earlier.Sources // the firmware says a part of it, too; that is no news
	}
	return p
}

// withKept fills what is missing, each fact from where it was.
func (p Place) withKept(kept Place) Place {
	was := p
	p.fill("", kept)
	for _, f := range Fields() {
		if f.Of(was) == "" && f.Of(p) != "" {
			p.Sources[f.Name] = kept.Sources[f.Name]
		}
	}
	return p
}
