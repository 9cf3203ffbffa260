// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"slices"

	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// node is all that can be owned, and what was found there so far.
type node struct {
	places []*place
	byUUID map[string]*place
}

// place is a GPU or an instance.
type place struct {
	device.Target

	split     bool   // it is owned by its instances
	answered  bool   // the kubelet says now to whom it gave the place, or that it gave it to nobody
	blind     string // why its processes are not all seen; "" if they are
	given     []Owner
	processes []seen
}

// newNode has a place for each GPU and each instance.
func newNode(inv device.Inventory) *node {
	n := &node{byUUID: make(map[string]*place)}
	for _, g := range inv {
		if whole, ok := inv.Find(device.Name{UUID: g.UUID, GI: device.None, CI: device.None, Profile: device.None}); ok {
			n.at(whole).split = len(g.Instances) > 0
		}
	}
	for _, t := range inv.Targets() {
		n.at(t)
	}
	return n
}

// at is the place of a target.
func (n *node) at(t device.Target) *place {
	p := n.byUUID[t.UUID]
	if p == nil {
		p = &place{Target: t}
		n.byUUID[t.UUID] = p
		n.places = append(n.places, p)
	}
	return p
}

// of lists the places on a GPU.
func (n *node) of(gpu string) []*place {
	return slices.DeleteFunc(slices.Clone(n.places), func(p *place) bool { return p.GPU != gpu })
}

// give adds an owner. A container that has several shares of one device has it once.
func (p *place) give(o Owner) {
	i := slices.IndexFunc(p.given, func(other Owner) bool { return o.same(&other) })
	if i < 0 {
		p.given = append(p.given, o)
		return
	}
	p.given[i].Shared = p.given[i].Shared || o.Shared
}

// resolve brings together whom the place was given to and who runs there.
func (p *place) resolve(users *process.Users) []Owner {
	owners, jobs := slices.Clone(p.given), false
	shared := false
	for i := range p.processes {
		s := &p.processes[i]
		shared = shared || s.mps
		at, ok := p.ownerOf(&owners, s, users)
		if !ok {
			continue
		}
		jobs = jobs || owners[at].Kind == kindSlurm
		owners[at].add(s)
	}
	if jobs {
		owners = withoutHosts(owners)
	}
	for i := range owners {
		shared = shared || owners[i].Shared
	}
	for i := range owners {
		owners[i].Shared = shared || len(owners) > 1
		owners[i].use.counted = p.blind == "" || owners[i].use.count > 0
	}
	return owners
}

// withoutHosts leaves out pods in which Slurm runs a job: the job has the GPU.
func withoutHosts(owners []Owner) []Owner {
	return slices.DeleteFunc(owners, func(o Owner) bool {
		return o.Kind == kindKubernetes && slices.ContainsFunc(owners, func(job Owner) bool { return job.Kind == kindSlurm && job.samePod(&o) })
	})
}

// ownerOf finds whose process it is, or adds an owner. ok is false if it belongs to one of several owners and
// nothing tells to which.
func (p *place) ownerOf(owners *[]Owner, s *seen, users *process.Users) (at int, ok bool) {
	o := ownerByProcess(s, users)
	pod, certain := p.podOf(*owners, s)
	switch {
	case certain && pod < 0 && p.contradicted(s):
		for i := range p.given {
			(*owners)[i].Reason = reasonContradicted
		}
		return 0, false
	case !certain && o.Kind != kindSlurm:
		return 0, false
	case pod >= 0 && o.Kind == kindSlurm:
		host := (*owners)[pod]
		o.Namespace, o.Pod, o.PodUID = host.Namespace, host.Pod, s.PodUID
		(*owners)[pod].PodUID = s.PodUID
	case pod >= 0:
		host := &(*owners)[pod]
		host.PodUID = s.PodUID
		if host.containerID == "" {
			host.containerID = s.Place.Container
		}
		return pod, true
	}
	if at := slices.IndexFunc(*owners, func(other Owner) bool { return o.same(&other) }); at >= 0 {
		return at, true
	}
	if o.Kind == kindKubernetes && p.answered {
		o.Reason = reasonUnallocated
	}
	*owners = append(*owners, o)
	return len(*owners) - 1, true
}

// contradicted tells that a process, which is in none of the pods that were given the place, claims another. A cgroup
// may have any name: the kubelet is believed.
func (p *place) contradicted(s *seen) bool {
	return p.answered && len(p.given) > 0 && s.PodUID != ""
}

// podOf finds the pod, among those that were given the place, in which a process runs; -1 if it is none of them.
// certain is false if that cannot be told, because the UID of one is not known.
func (p *place) podOf(owners []Owner, s *seen) (at int, certain bool) {
	at, certain = -1, true
	if s.PodUID == "" {
		return at, certain
	}
	unknown := -1
	for i := range owners[:len(p.given)] {
		switch o := &owners[i]; {
		case o.PodUID == "":
			unknown, certain = i, false
		case o.PodUID != s.PodUID:
		case at < 0 || o.containerID == s.Place.Container:
			at = i
		}
	}
	switch {
	case at >= 0:
		return at, true
	case !certain && len(p.given) == 1:
		return unknown, true
	}
	return -1, certain
}

// ownerByProcess is what a process alone tells of its owner.
func ownerByProcess(s *seen, users *process.Users) Owner {
	o := Owner{Kind: kindProcess, Job: s.JobID, Step: s.StepID, PodUID: s.PodUID, Started: s.Started, containerID: s.Place.Container}
	o.use.pid, o.use.started = s.PID, s.Started
	switch {
	case s.JobID != "":
		o.Kind, o.Deployment, o.Account, o.User = kindSlurm, s.JobID, s.Account, s.User
		o.containerID = ""
	case s.PodUID != "":
		o.Kind, o.Container, o.Started = kindKubernetes, s.Place.Container, s.Started
		return o // the user inside of a container is nobody outside
	case s.Place.Container != "":
		o.Kind, o.Container = kindContainer, s.Place.Container
	}
	uid := s.Process.UID
	if s.Place.UID != "" {
		uid = s.Place.UID
	}
	if o.User == "" && uid != "" {
		o.User = users.Name(uid)
	}
	return o
}

// add counts a process of the owner. An owner that is known by its processes began with the oldest.
func (o *Owner) add(s *seen) {
	u := &o.use
	if u.count == 0 {
		u.memoryKnown = true
	}
	u.count++
	u.memoryBytes += s.memoryBytes
	u.memoryKnown = u.memoryKnown && s.memoryKnown
	if u.count == 1 || s.memoryBytes > u.most {
		u.pid, u.name, u.started, u.most = s.PID, s.Name, s.Started, s.memoryBytes
	}
	byProcess := o.Kind != kindKubernetes || o.Pod == ""
	if byProcess && !s.Started.IsZero() && (o.Started.IsZero() || s.Started.Before(o.Started)) {
		o.Started, o.Step = s.Started, s.StepID
	}
}
