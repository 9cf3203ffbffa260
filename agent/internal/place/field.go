// SPDX-License-Identifier: Apache-2.0

package place

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Field is one fact of a Place.
type Field struct {
	Name string // as the column of node_inventory
	OTel string // attribute of OpenTelemetry's conventions; what they lack is gpufleet.*
	at   func(*Place) *string
}

// Of is the field's value in p; "" if it is not known.
func (f Field) Of(p Place) string { return *f.at(&p) }

// Fields lists the facts of a Place in the order in which a person reads them.
func Fields() []Field {
	fields := []Field{
		{"provider", "cloud.provider", func(p *Place) *string { return &p.Provider }},
		{"platform", "cloud.platform", func(p *Place) *string { return &p.Platform }},
		{"region", "cloud.region", func(p *Place) *string { return &p.Region }},
		{"zone_name", "gpufleet.zone_name", func(p *Place) *string { return &p.ZoneName }},
		{"zone_id", "cloud.availability_zone", func(p *Place) *string { return &p.ZoneID }},
		{"account_id", "cloud.account.id", func(p *Place) *string { return &p.AccountID }},
		{"instance_type", "host.type", func(p *Place) *string { return &p.InstanceType }},
		{"instance_id", "host.id", func(p *Place) *string { return &p.InstanceID }},
		{"instance_name", "gpufleet.instance_name", func(p *Place) *string { return &p.InstanceName }},
		{"image_id", "host.image.id", func(p *Place) *string { return &p.ImageID }},
		{"life_cycle", "gpufleet.life_cycle", func(p *Place) *string { return &p.LifeCycle }},
		{"capacity_reservation_id", "gpufleet.capacity_reservation_id", func(p *Place) *string { return &p.CapacityReservationID }},
		{"placement_group", "gpufleet.placement_group", func(p *Place) *string { return &p.PlacementGroup }},
		{"fault_domain", "gpufleet.fault_domain", func(p *Place) *string { return &p.FaultDomain }},
		{"host_group", "gpufleet.host_group", func(p *Place) *string { return &p.HostGroup }},
		{"physical_host", "gpufleet.physical_host", func(p *Place) *string { return &p.PhysicalHost }},
	}
	for i := range Tiers {
		name := "topology_tier_" + strconv.Itoa(i)
		fields = append(fields, Field{name, "gpufleet." + name, func(p *Place) *string { return &p.TopologyTiers[i] }})
	}
	return append(fields,
		Field{"accelerator_domain", "gpufleet.accelerator_domain", func(p *Place) *string { return &p.AcceleratorDomain }},
		Field{"host_name", "host.name", func(p *Place) *string { return &p.HostName }},
		Field{"kubernetes_node", "k8s.node.name", func(p *Place) *string { return &p.KubernetesNode }},
		Field{"cluster", "k8s.cluster.name", func(p *Place) *string { return &p.Cluster }},
		Field{"rack", "gpufleet.rack", func(p *Place) *string { return &p.Rack }},
		Field{"site", "gpufleet.site", func(p *Place) *string { return &p.Site }},
	)
}

// Attributes are the known facts under OpenTelemetry's names.
func (p Place) Attributes() map[string]string {
	attributes := make(map[string]string)
	for _, f := range Fields() {
		if value := f.Of(p); value != "" {
			attributes[f.OTel] = value
		}
	}
	if p.Provider == OCI {
		attributes["cloud.provider"] = "oracle_cloud" // its name in the conventions; the others agree with ours
	}
	return attributes
}

// Facts are the known facts under the names of their columns.
func (p Place) Facts() map[string]string {
	facts := make(map[string]string)
	for _, f := range Fields() {
		if value := f.Of(p); value != "" {
			facts[f.Name] = value
		}
	}
	return facts
}

// fill takes over what p does not know yet, and remembers where it is from. It returns the names of values
// that no provider would give. The tiers are taken all from one source or not at all: what is a leaf to one is
// a spine to another.
func (p *Place) fill(from string, found Place) (refused []string) {
	if p.Sources == nil {
		p.Sources = make(map[string]string)
	}
	if p.TopologyTiers != ([Tiers]string{}) {
		found.TopologyTiers = [Tiers]string{}
	}
	for _, f := range Fields() {
		value := strings.TrimSpace(f.Of(found))
		switch {
		case value == "" || f.Of(*p) != "":
		case !plain(value):
			refused = append(refused, f.Name)
		default:
			*f.at(p) = value
			p.Sources[f.Name] = from
		}
	}
	return refused
}

// replace gives a field another value, from another source.
func (p *Place) replace(name, from string, found Place) {
	for _, f := range Fields() {
		if value := f.Of(found); f.Name == name && plain(value) {
			*f.at(p) = value
			p.Sources[name] = from
		}
	}
}

// maxValueBytes is more than the longest identifier: Azure's resource ids, which may have 260 bytes and more.
const maxValueBytes = 512

// plain tells whether a text can be the value of a field: some printable text in one line.
func plain(s string) bool {
	if s == "" || len(s) > maxValueBytes || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '<' || r == '>' })
}
