// SPDX-License-Identifier: Apache-2.0

package place

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseKnown(t *testing.T) {
	p, err := ParseKnown("# a rack of our own\n\nprovider = own\nrack=r7\r\n  life_cycle  =  owned\ntopology_tier_1 = spine = 3\nsite = FRA 5")
	want := Place{Provider: "own", Rack: "r7", LifeCycle: Owned, TopologyTiers: [Tiers]string{"", "spine = 3"}, Site: "FRA 5"}
	if diff := cmp.Diff(want, p); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for text, reason := range map[string]string{
		"rack r7":                            "line 1: want field = value",
		"rack =":                             "line 1: want field = value",
		"# x\nrack = \x01":                   "line 2: want field = value",
		"rak = r7":                           `there is no field "rak"; the fields are provider, platform,`,
		"rack = a\nrack = b":                 "line 2: rack is given twice",
		"life_cycle = on-demand":             `life_cycle "on-demand": want one of on_demand, spot,`,
		"rack = " + strings.Repeat("r", 600): "at most 512 bytes",
	} {
		if _, err := ParseKnown(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.20q: %v, want %q", text, err, reason)
		}
	}
}

// FuzzParseKnown: what is accepted can be written down again, and is the same.
func FuzzParseKnown(f *testing.F) {
	f.Add("provider = own\nrack = r7\n")
	f.Add("# x\n\nsite = a = b\ntopology_tier_3 = <c>")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseKnown(text)
		if err != nil {
			return
		}
		wantPlain(t, p)
		var again strings.Builder
		for name, value := range p.Facts() {
			again.WriteString(name + " = " + value + "\n")
		}
		if q, err := ParseKnown(again.String()); err != nil || cmp.Diff(p, q) != "" {
			t.Errorf("%q became %q: %v", text, again.String(), err)
		}
	})
}

func TestOr(t *testing.T) {
	flags := Place{Provider: "aws", TopologyTiers: [Tiers]string{"leaf"}}
	file := Place{Provider: "own", Rack: "r7", TopologyTiers: [Tiers]string{"x", "y"}}
	want := Place{Provider: "aws", Rack: "r7", TopologyTiers: [Tiers]string{"leaf"}}
	if diff := cmp.Diff(want, flags.Or(file)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigured(t *testing.T) {
	p, reasons := Configured(Place{Rack: "r7", Region: "a\nb"})
	if p.Rack != "r7" || p.Sources["rack"] != FromConfiguration || p.Region != "" {
		t.Errorf("%+v", p)
	}
	wantReason(t, reasons, FromConfiguration, "region")
}

// TestRemember: what a service said stays while it is away, and goes when it answers otherwise.
func TestRemember(t *testing.T) {
	from := func(sources map[string]string, p Place) Place {
		p.Sources = sources
		return p
	}
	earlier := from(map[string]string{"provider": AWS, "zone_id": AWS, "placement_group": AWS, "cluster": FromKubernetes, "instance_id": FromDMI},
		Place{Provider: AWS, ZoneID: "use1-az6", PlacementGroup: "g", Cluster: "c", InstanceID: "i-1"})
	tests := []struct {
		name    string
		now     Place
		reasons []Reason
		want    Place
	}{
		{
			"the service is away", from(map[string]string{"provider": FromDMI, "instance_id": FromDMI}, Place{Provider: AWS, InstanceID: "i-1"}),
			[]Reason{{AWS, "no answer"}, {FromKubernetes, "no answer"}},
			earlier,
		},
		{
			"the service is away, and the machine is larger", from(map[string]string{"provider": FromDMI, "instance_type": FromDMI}, Place{Provider: AWS, InstanceType: "p6"}),
			[]Reason{{AWS, "no answer"}, {FromKubernetes, "no answer"}},
			from(map[string]string{"provider": FromDMI, "instance_type": FromDMI, "zone_id": AWS, "placement_group": AWS, "cluster": FromKubernetes},
				Place{Provider: AWS, InstanceType: "p6", ZoneID: "use1-az6", PlacementGroup: "g", Cluster: "c"}),
		},
		{
			"one key fails", from(map[string]string{"provider": AWS, "placement_group": AWS}, Place{Provider: AWS, PlacementGroup: "h"}),
			[]Reason{{AWS, "zone: 500"}},
			from(map[string]string{"provider": AWS, "zone_id": AWS, "placement_group": AWS, "cluster": FromKubernetes, "instance_id": FromDMI},
				Place{Provider: AWS, ZoneID: "use1-az6", PlacementGroup: "h", Cluster: "c", InstanceID: "i-1"}),
		},
		{
			"the group is no more", from(map[string]string{"provider": AWS, "zone_id": AWS, "cluster": FromKubernetes, "instance_id": FromDMI}, Place{Provider: AWS, ZoneID: "use1-az6", Cluster: "c", InstanceID: "i-1"}), nil,
			from(map[string]string{"provider": AWS, "zone_id": AWS, "cluster": FromKubernetes, "instance_id": FromDMI}, Place{Provider: AWS, ZoneID: "use1-az6", Cluster: "c", InstanceID: "i-1"}),
		},
		{
			"another instance", from(map[string]string{"provider": AWS, "instance_id": AWS}, Place{Provider: AWS, InstanceID: "i-2"}),
			[]Reason{{FromKubernetes, "no answer"}},
			from(map[string]string{"provider": AWS, "instance_id": AWS}, Place{Provider: AWS, InstanceID: "i-2"}),
		},
		{
			"nothing at all", from(map[string]string{}, Place{}), []Reason{{AWS, "no answer"}}, earlier,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.now.Remember(earlier, tt.reasons)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
