// SPDX-License-Identifier: Apache-2.0

package device

import (
	"slices"
	"strings"
)

// GPU is one GPU of this node, as far as it takes to find it by a name.
type GPU struct {
	UUID      string
	Minor     int // None if the driver does not tell
	MIG       bool
	Instances []Instance
}

// Instance is one MIG instance.
type Instance struct {
	UUID           string
	GI, CI         int
	Profile, Start int // None if the driver does not tell
}

// Target is what can be owned: a GPU, or a MIG instance of one.
type Target struct {
	UUID   string
	GPU    string // UUID of the GPU that it is, or is a part of; "" if it is not known
	GI, CI int    // None for a whole GPU, or if it is not known
}

// Inventory is the GPUs of this node.
type Inventory []GPU

// Targets lists what can be owned, in order: of a GPU that is split its instances, else itself.
func (inv Inventory) Targets() []Target {
	var targets []Target
	for _, g := range inv {
		for _, i := range g.Instances {
			targets = append(targets, instanceTarget(g, i))
		}
		if len(g.Instances) == 0 {
			targets = append(targets, whole(g))
		}
	}
	return targets
}

// Find gives what a name means. ok is false if this node has no such thing. An instance that the driver
// does not tell about is found by its UUID alone, or else stands for the GPU that it is a part of: that
// one is in use, if not as a whole.
func (inv Inventory) Find(n Name) (Target, bool) {
	if i := slices.IndexFunc(inv, func(g GPU) bool { return n.means(g) }); i >= 0 {
		return inv[i].find(n), true
	}
	for _, g := range inv {
		for _, i := range g.Instances {
			if n.UUID != "" && i.UUID == n.UUID {
				return instanceTarget(g, i), true
			}
		}
	}
	if strings.HasPrefix(n.UUID, "MIG-") {
		return Target{UUID: n.UUID, GI: None, CI: None}, true
	}
	return Target{}, false
}

// means tells whether the name is that of g or of a part of it.
func (n Name) means(g GPU) bool {
	if n.UUID != "" {
		return n.UUID == g.UUID
	}
	return n.Minor != None && n.Minor == g.Minor
}

// find gives the part of g that the name means.
func (g GPU) find(n Name) Target {
	for _, i := range g.Instances {
		byNumber := n.GI != None && n.GI == i.GI && (n.CI == None || n.CI == i.CI)
		byPlace := n.Profile != None && n.Profile == i.Profile && n.Start == i.Start
		if byNumber || byPlace {
			return instanceTarget(g, i)
		}
	}
	return whole(g)
}

func whole(g GPU) Target { return Target{UUID: g.UUID, GPU: g.UUID, GI: None, CI: None} }

func instanceTarget(g GPU, i Instance) Target {
	return Target{UUID: i.UUID, GPU: g.UUID, GI: i.GI, CI: i.CI}
}

// Part gives the instance of a GPU that a process runs on, or the whole GPU.
func (inv Inventory) Part(gpu string, gi, ci int) (Target, bool) {
	i := slices.IndexFunc(inv, func(g GPU) bool { return g.UUID == gpu })
	if i < 0 {
		return Target{}, false
	}
	return inv[i].find(Name{GI: gi, CI: ci, Profile: None}), true
}
