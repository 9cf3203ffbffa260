// SPDX-License-Identifier: Apache-2.0

// Package cgroup reads from /proc/PID/cgroup whom a process belongs to: pod and container, or Slurm job
// and step. It promises to need nothing but that text, and to leave out what the text does not say.
//
//	0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope   v2, systemd
//	5:devices:/kubepods/besteffort/podUID/ID                                                              v1, cgroupfs
//	0::/../../kubepods-podUID.slice/crio-ID.scope          seen from a container with a cgroup namespace of its own
//	0::/system.slice/docker-ID.scope                       docker, systemd
//	9:devices:/slurm/uid_1000/job_123/step_0/task_0        Slurm, v1
//	0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0   Slurm, v2
//
// Containers nest: a pod may run in a docker container that plays the node (kind), a container in a pod
// (docker in docker), a Slurm job in a pod. The outermost pod and job count, and the outermost container
// within the pod: those are what a scheduler placed. Whoever may make cgroups below them can give these any name, and
// so what lies deeper tells nothing. Below user.slice there are neither: users name their own cgroups there as they
// like. A container that is no pod's may still make cgroups that look like a pod's, as kind does: a kubelet that can be
// asked is the better witness.
package cgroup

import (
	"slices"
	"strings"
)

// Place is where a process runs. What is not known is "".
type Place struct {
	PodUID    string // with dashes, as the API server gives it
	Container string // id of the container
	JobID     string // Slurm's number of the job
	StepID    string // batch, interactive, extern, or a number
	UID       string // number of the user, from Slurm's v1 paths
}

// maxDepth bounds the parts of one path that are looked at.
const maxDepth = 64

// Parse reads the text of /proc/PID/cgroup. With cgroup v1 there are several hierarchies, and not each of
// them is used for everything: the first that tells a thing counts.
func Parse(text string) Place {
	var place Place
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(line, ":")
		_, path, found := strings.Cut(rest, ":")
		if !ok || !found {
			continue
		}
		place = place.or(parsePath(strings.TrimSuffix(path, "\n")))
	}
	return place
}

// or fills in what p lacks. A container belongs to its pod, a step to its job: they are not mixed.
func (p Place) or(other Place) Place {
	if p.PodUID == "" && p.Container == "" || p.PodUID == "" && other.PodUID != "" {
		p.PodUID, p.Container = other.PodUID, other.Container
	}
	if p.JobID == "" || p.JobID == other.JobID && p.StepID == "" {
		p.JobID, p.StepID = other.JobID, other.StepID
	}
	if p.UID == "" {
		p.UID = other.UID
	}
	return p
}

// parsePath reads one path from the outside in.
func parsePath(path string) Place {
	var place Place
	slurm, uid := false, ""
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for _, part := range parts[:min(len(parts), maxDepth)] {
		switch {
		case place.JobID != "":
			if place.StepID == "" && strings.HasPrefix(part, "step_") {
				place.StepID = step(part[len("step_"):])
			}
		case strings.Contains(part, "slurm"): // /slurm, /slurm_NODE, slurmstepd.scope, NODE_slurmstepd.scope
			slurm, uid = true, ""
		case slurm && digits(part, "uid_") != "":
			uid = digits(part, "uid_")
		case slurm && digits(part, "job_") != "":
			place.JobID, place.UID = digits(part, "job_"), uid
		default:
			place.enter(part)
		}
	}
	if slices.Contains(parts, "user.slice") {
		return Place{Container: place.Container}
	}
	return place
}

// enter notes the pod and the container that a part of a path means.
func (p *Place) enter(part string) {
	// Where the kubelet drives systemd and containerd does not, both names are one part:
	// kubepods-podUID.slice:cri-containerd:ID
	slice, container, both := strings.Cut(part, ":")
	if uid := podUID(slice); uid != "" && p.PodUID == "" {
		p.PodUID, p.Container = uid, ""
		if both {
			_, id, _ := strings.Cut(container, ":")
			p.Container = containerID(id)
		}
		return
	}
	if p.Container == "" {
		p.Container = containerID(part)
	}
}

// podUID reads podUID (cgroupfs) and …kubepods-…-podUID.slice (systemd, in which a dash separates parents).
func podUID(part string) string {
	if uid, found := strings.CutPrefix(part, "pod"); found {
		return canonicalUID(uid)
	}
	name, found := strings.CutSuffix(part, ".slice")
	if !found || !strings.Contains(name, "kubepods") {
		return ""
	}
	i := strings.LastIndex(name, "-pod")
	if i < 0 {
		return ""
	}
	return canonicalUID(strings.ReplaceAll(name[i+len("-pod"):], "_", "-"))
}

// canonicalUID accepts a UUID, and the 32 digits that a static pod has in its place.
func canonicalUID(uid string) string {
	bare := strings.ReplaceAll(uid, "-", "")
	dashes := len(uid) - len(bare)
	if len(bare) != 32 || dashes != 0 && dashes != 4 || !isHex(bare) {
		return ""
	}
	return uid
}

const (
	longID  = 64 // hexadecimal digits of a container's id
	shortID = 32 // of a task's id on ECS, which a number follows
)

// containerID reads ID, RUNTIME-ID.scope and ECS's TASK-NUMBER. The process that watches over a container
// of cri-o or podman (conmon) is not in it.
func containerID(part string) string {
	name, isScope := strings.CutSuffix(part, ".scope")
	if strings.Contains(name, "conmon") {
		return ""
	}
	if isScope {
		if i := strings.LastIndexByte(name, '-'); i >= 0 {
			name = name[i+1:]
		}
	}
	if len(name) == longID && isHex(name) {
		return name
	}
	task, number, found := strings.Cut(name, "-")
	if found && len(task) == shortID && isHex(task) && digits(number, "") != "" {
		return name
	}
	return ""
}

// step names a step. To those that are none of srun's, Slurm gives numbers just below 2^32; it gave others
// before 20.11.
func step(name string) string {
	switch name {
	case "batch", "4294967291", "4294967294":
		return "batch"
	case "extern", "4294967292", "4294967295":
		return "extern"
	case "interactive", "4294967290":
		return "interactive"
	}
	return digits(name, "")
}

// digits gives the number behind a prefix, as text; "" if there is anything else, or more than a number
// of 64 bits has.
func digits(part, prefix string) string {
	number, found := strings.CutPrefix(part, prefix)
	if !found || number == "" || len(number) > 20 || strings.Trim(number, "0123456789") != "" {
		return ""
	}
	return number
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
