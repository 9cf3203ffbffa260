// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"strconv"
	"time"
)

// The kinds of owners: how one was found.
const (
	kindKubernetes = "kubernetes"
	kindSlurm      = "slurm"
	kindContainer  = "container"
	kindProcess    = "process"
	kindNone       = "none"
)

// Why there is no owner, or why one is in doubt. They are explained in docs/ownership.md.
const (
	reasonFree        = "free"
	reasonSplit       = "split"
	reasonUnallocated = "not_allocated"
	reasonUnreachable = "kubelet_unreachable"
	reasonHidden      = "processes_hidden"
	reasonUnsupported = "processes_unsupported"
	reasonSilent      = "gpu_silent"
	// Of an owner that was found.
	reasonContradicted = "cgroup_contradicts"
)

// Owner is who has a GPU. What is not known is empty.
type Owner struct {
	Kind    string
	Reason  string // of none; else what speaks against it
	Shared  bool   // others may have the GPU at the same time
	Started time.Time

	Namespace, Pod, PodUID string
	Container, Claim       string
	Job, Step              string
	User, Account          string
	Team, Model            string
	Deployment             string

	containerID string
	offer       offer
	use         use
}

// offer is what a pod tells of what it serves. It is in no row of gpu_workload.
type offer struct{ address, page, role string }

// use is what the processes of an owner are.
type use struct {
	pid         uint32 // that holds most of the GPU's memory
	name        string
	started     time.Time
	count       int
	counted     bool   // else count means nothing
	memoryBytes uint64 // of all of them
	memoryKnown bool
	most        uint64 // memory of pid
}

// same tells whether two looks have seen one owner. Two names for one pod are the same unless their UIDs
// differ; a UID may be known to one of them alone.
func (o *Owner) same(other *Owner) bool {
	if o.Kind != other.Kind {
		return false
	}
	switch o.Kind {
	case kindKubernetes:
		return o.samePod(other) && (o.Container == other.Container || o.containerID != "" && o.containerID == other.containerID)
	case kindSlurm:
		return o.Job == other.Job
	case kindContainer:
		return o.containerID == other.containerID
	case kindProcess:
		return o.use.pid == other.use.pid && o.use.started.Equal(other.use.started)
	default:
		return o.Reason == other.Reason
	}
}

func (o *Owner) samePod(other *Owner) bool {
	if o.PodUID != "" && other.PodUID != "" {
		return o.PodUID == other.PodUID
	}
	return o.Pod != "" && o.Pod == other.Pod && o.Namespace == other.Namespace
}

// key names an owner in the hash of its interval. With the start it is the same in every life of the agent.
func (o *Owner) key() string {
	switch o.Kind {
	case kindKubernetes:
		if o.Pod != "" {
			return "pod " + o.Namespace + "/" + o.Pod + "/" + o.Container
		}
		return "pod " + o.PodUID + "/" + o.containerID
	case kindSlurm:
		return "job " + o.Job
	case kindContainer:
		return "container " + o.containerID
	case kindProcess:
		return "process " + strconv.FormatUint(uint64(o.use.pid), 10)
	default:
		return o.Reason
	}
}

// remember fills in what this look could not tell and one before it could: who gave the answer may be away.
func (o *Owner) remember(before *Owner) {
	for _, fact := range []struct{ now, then *string }{
		{&o.PodUID, &before.PodUID},
		{&o.Namespace, &before.Namespace},
		{&o.Pod, &before.Pod},
		{&o.containerID, &before.containerID},
		{&o.Step, &before.Step},
		{&o.User, &before.User},
		{&o.Account, &before.Account},
		{&o.Team, &before.Team},
		{&o.Model, &before.Model},
		{&o.Deployment, &before.Deployment},
	} {
		if *fact.now == "" {
			*fact.now = *fact.then
		}
	}
	if o.Started.IsZero() {
		o.Started = before.Started
	}
	if o.offer == (offer{}) {
		o.offer = before.offer
	}
}

// facts are what a row is written for when it changes. Which process has most memory, and how much, changes
// all the time.
func (o *Owner) facts() Owner {
	f := *o
	f.use, f.offer, f.Started = use{count: min(o.use.count, 1)}, offer{}, time.Time{}
	return f
}
