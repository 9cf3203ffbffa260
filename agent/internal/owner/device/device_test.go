// SPDX-License-Identifier: Apache-2.0

package device

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	gpuA = "GPU-5c89852c-1268-c3f3-1b07-caf5db65f1a0"
	gpuB = "GPU-1f0c2b3d-aaaa-bbbb-cccc-0123456789ab"
	migA = "MIG-6bd1a2ab-4f0e-5b3c-9c1d-0f1e2d3c4b5a"
)

// name fills in what a name does not tell.
func name(change func(*Name)) Name {
	n := Name{Minor: None, GI: None, CI: None, Profile: None, Start: None}
	change(&n)
	return n
}

func TestParse(t *testing.T) {
	cases := []struct {
		id   string
		want Name
	}{
		{gpuA, name(func(n *Name) { n.UUID = gpuA })},
		{gpuA + "::0", name(func(n *Name) { n.UUID, n.Share = gpuA, true })},
		{gpuA + "::11", name(func(n *Name) { n.UUID, n.Share = gpuA, true })},
		{gpuA + "-3", name(func(n *Name) { n.UUID, n.Share = gpuA, true })},
		{gpuA + "-_-3", name(func(n *Name) { n.UUID, n.Share = gpuA, true })},
		{migA, name(func(n *Name) { n.UUID = migA })},
		{migA + "::2", name(func(n *Name) { n.UUID, n.Share = migA, true })},
		{"MIG-" + gpuA + "/9/0", name(func(n *Name) { n.UUID, n.GI, n.CI = gpuA, 9, 0 })},
		{"MIG-" + gpuA + "/9/0::1", name(func(n *Name) { n.UUID, n.GI, n.CI, n.Share = gpuA, 9, 0, true })},
		{"nvidia0", name(func(n *Name) { n.Minor = 0 })},
		{"nvidia15", name(func(n *Name) { n.Minor = 15 })},
		{"nvidia0/gi1", name(func(n *Name) { n.Minor, n.GI = 0, 1 })},
		{"nvidia0/vgpu1", name(func(n *Name) { n.Minor, n.Share = 0, true })},
		{"nvidia2/gi1/vgpu3", name(func(n *Name) { n.Minor, n.GI, n.Share = 2, 1, true })},
	}
	for _, c := range cases {
		got, ok := Parse(c.id)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%s: ok %v, (-want +got)\n%s", c.id, ok, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, id := range []string{
		"", "0", "12", "0000:3b:00.0", "GPU-", "MIG-", "GPU-5c89852c", gpuA + "::", gpuA + "::x", gpuA + "::-1", gpuA + "x",
		gpuA + "::1::2", strings.Replace(gpuA, "c", "g", 1), strings.Replace(gpuA, "-1", "_1", 1), "MIG-" + gpuA, "MIG-" + gpuA + "/9",
		"MIG-" + gpuA + "/9/0/1", "MIG-" + gpuA + "/x/0", "MIG-" + gpuA + "::1/9/0", "nvidia", "nvidiactl", "nvidia-uvm", "nvidia0/", "nvidia0/gi",
		"nvidia0/gi1/", "nvidia0/vgpu", "nvidia0/mlx5_0", "nvidia00", "nvidia+1", "nvidia99999999999999999999",
	} {
		if got, ok := Parse(id); ok {
			t.Errorf("%q was taken for %+v", id, got)
		}
	}
}

func TestParseDynamic(t *testing.T) {
	cases := []struct {
		device string
		want   Name
		ok     bool
	}{
		{"gpu-0", name(func(n *Name) { n.Minor = 0 }), true},
		{"gpu-7", name(func(n *Name) { n.Minor = 7 }), true},
		{"gpu-0-mig-1g18gb-19-4", name(func(n *Name) { n.Minor, n.Profile, n.Start = 0, 19, 4 }), true},
		{"gpu-3-mig-1g10gb-me-20-0", name(func(n *Name) { n.Minor, n.Profile, n.Start = 3, 20, 0 }), true},
		{"gpu-1-mig-9-4-4", name(func(n *Name) { n.Minor, n.Profile, n.Start = 1, 9, 4 }), true},
		{"gpu-vfio-0", Name{}, false},
		{"gpu-", Name{}, false},
		{"gpu-0-mig-", Name{}, false},
		{"gpu-0-mig-1g18gb", Name{}, false},
		{"gpu-0-mig-1g18gb-19", Name{}, false},
		{"gpu-0-mig-1g18gb-x-0", Name{}, false},
		{"gpu-0-mig--19-0", Name{}, false},
		{"channel-0", Name{}, false},
		{"", Name{}, false},
	}
	for _, c := range cases {
		got, ok := ParseDynamic(c.device)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.device, got, ok, c.want, c.ok)
		}
	}
}

func TestFind(t *testing.T) {
	inv := Inventory{
		{UUID: gpuA, Minor: 1, MIG: true, Instances: []Instance{
			{UUID: migA, GI: 9, CI: 0, Profile: 19, Start: 4},
			{UUID: "MIG-b", GI: 2, CI: 0, Profile: 9, Start: 0},
			{UUID: "MIG-c", GI: 2, CI: 1, Profile: 9, Start: 0},
		}},
		{UUID: gpuB, Minor: 0},
		{UUID: "GPU-none", Minor: None},
	}
	part := func(uuid string, gi, ci int) Target { return Target{UUID: uuid, GPU: gpuA, GI: gi, CI: ci} }
	cases := []struct {
		id   string
		want Target
		ok   bool
	}{
		{gpuB + "::3", Target{UUID: gpuB, GPU: gpuB, GI: None, CI: None}, true},
		{"nvidia0", Target{UUID: gpuB, GPU: gpuB, GI: None, CI: None}, true},
		{migA, part(migA, 9, 0), true},
		{"MIG-" + gpuA + "/2/1", part("MIG-c", 2, 1), true},
		{"nvidia1/gi9", part(migA, 9, 0), true},
		{"nvidia1/gi2", part("MIG-b", 2, 0), true},
		{"nvidia1/gi7", Target{UUID: gpuA, GPU: gpuA, GI: None, CI: None}, true},
		{"MIG-00000000-4f0e-5b3c-9c1d-0f1e2d3c4b5a", Target{UUID: "MIG-00000000-4f0e-5b3c-9c1d-0f1e2d3c4b5a", GI: None, CI: None}, true},
		{"GPU-00000000-4f0e-5b3c-9c1d-0f1e2d3c4b5a", Target{}, false},
		{"nvidia5", Target{}, false},
	}
	for _, c := range cases {
		n, ok := Parse(c.id)
		if !ok {
			t.Fatalf("%s is no name", c.id)
		}
		if got, ok := inv.Find(n); ok != c.ok || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.id, got, ok, c.want, c.ok)
		}
	}
	if n, _ := ParseDynamic("gpu-1-mig-1g18gb-19-4"); true {
		if got, ok := inv.Find(n); !ok || got != part(migA, 9, 0) {
			t.Errorf("by placement: %+v, %v", got, ok)
		}
	}
	if got, ok := inv.Part(gpuA, 2, 1); !ok || got.UUID != "MIG-c" {
		t.Errorf("a process on an instance: %+v, %v", got, ok)
	}
	if got, ok := inv.Part(gpuB, None, None); !ok || got.UUID != gpuB {
		t.Errorf("a process on a whole GPU: %+v, %v", got, ok)
	}
	want := []string{migA, "MIG-b", "MIG-c", gpuB, "GPU-none"}
	var got []string
	for _, target := range inv.Targets() {
		got = append(got, target.UUID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got)\n%s", diff)
	}
}

// FuzzParse: whatever is parsed names something, and a UUID that is reported stands in the text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{gpuA, gpuA + "::1", migA, "MIG-" + gpuA + "/9/0", "nvidia0/gi1/vgpu2", "gpu-0-mig-1g18gb-19-4", "gpu-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		for _, parse := range []func(string) (Name, bool){Parse, ParseDynamic} {
			n, ok := parse(id)
			if !ok {
				continue
			}
			if (n.UUID == "") == (n.Minor == None) {
				t.Errorf("%q names a GPU by both or neither: %+v", id, n)
			}
			if !strings.Contains(id, n.UUID) || n.Minor < None || n.GI < None || n.CI < None || n.Profile < None || n.Start < None {
				t.Errorf("%q: %+v", id, n)
			}
		}
	})
}
