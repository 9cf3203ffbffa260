// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/agent/gpu"
	"github.com/gpufleet/gpufleet/agent/internal/owner/device"
	"github.com/gpufleet/gpufleet/agent/internal/owner/kubelet"
	"github.com/gpufleet/gpufleet/agent/internal/owner/pods"
	"github.com/gpufleet/gpufleet/agent/internal/owner/process"
)

// looker finds out who has what at a moment. It belongs to Run's goroutine.
type looker struct {
	cfg      Config
	table    *process.Table // nil without a /proc
	users    *process.Users
	pods     *podCache
	kubelet  kubeletState
	memories map[string]*memory // by UUID of a GPU
	logger   *slog.Logger
}

// kubeletState is what is known of the kubelet.
type kubeletState struct {
	given    []kubelet.Allocation // by its last good answer
	answered bool                 // at some time
	away     bool                 // it should answer, and does not
	failure  string               // that was logged
	unknown  string               // a device that was logged
}

// snapshot is who has what.
type snapshot struct {
	found []found
	away  bool // the kubelet does not answer: what it had given is taken to be so still
}

// found is who has one GPU or instance.
type found struct {
	device.Target

	owners  []Owner // not empty; if nobody has it, the kind is none
	certain bool    // of none: nobody has it, and it is not only that nobody was found
}

func newLooker(cfg Config) *looker {
	l := &looker{
		cfg: cfg, users: process.NewUsers(cfg.Users), pods: newPodCache(cfg), memories: make(map[string]*memory), logger: cfg.Logger,
	}
	if cfg.Proc != nil {
		l.table = process.NewTable(cfg.Proc, cfg.Environment)
	}
	return l
}

// look asks everybody.
func (l *looker) look(ctx context.Context, gpus []gpuUse) snapshot {
	l.askKubelet(ctx)
	inv := inventory(gpus)
	n := newNode(inv)
	for i := range gpus {
		l.place(n, inv, &gpus[i])
	}
	l.give(ctx, n, inv)
	s := snapshot{away: l.kubelet.away}
	for _, p := range n.places {
		p.answered = l.kubelet.answered && !l.kubelet.away
		s.found = append(s.found, l.resolve(p))
	}
	return s
}

// inventory is what there is to own.
func inventory(gpus []gpuUse) device.Inventory {
	var inv device.Inventory
	for i := range gpus {
		u := &gpus[i]
		g := device.GPU{UUID: u.UUID, Minor: device.None, MIG: len(u.Instances) > 0}
		if u.Minor != nil {
			g.Minor = int(*u.Minor)
		}
		for _, part := range u.Instances {
			one := device.Instance{UUID: part.UUID, GI: int(part.GI), CI: int(part.CI), Profile: device.None, Start: device.None}
			if part.Placed {
				one.Profile, one.Start = int(part.Profile), int(part.Start)
			}
			g.Instances = append(g.Instances, one)
		}
		inv = append(inv, g)
	}
	return inv
}

// askKubelet takes a new answer. While there is none, the last one counts.
func (l *looker) askKubelet(ctx context.Context) {
	k := &l.kubelet
	if l.cfg.Kubelet == nil {
		return
	}
	answer, err := l.cfg.Kubelet.List(ctx)
	switch {
	case err == nil:
		if k.failure != "" {
			l.logger.Info("the kubelet answers again")
		}
		k.given, k.answered, k.away, k.failure = answer.Allocations, true, false, ""
		if answer.Unknown > 0 && answer.Example != k.unknown {
			k.unknown = answer.Example
			l.logger.Info("the kubelet gave devices out that are no GPUs here", "count", answer.Unknown, "example", answer.Example)
		}
	case errors.Is(err, kubelet.ErrAbsent) && !k.answered:
		k.away = false // there is none, as far as anybody knows
	case ctx.Err() == nil:
		k.away = true
		if err.Error() != k.failure {
			k.failure = err.Error()
			l.logger.Warn("the kubelet does not say who has the GPUs; those who had them are taken to have them still", "error", err)
		}
	}
}

// place puts the processes on a GPU to where they run.
func (l *looker) place(n *node, inv device.Inventory, g *gpuUse) {
	fresh := time.Since(g.at) < 3*l.cfg.Interval
	for _, p := range n.of(g.UUID) {
		switch {
		case !fresh:
			p.blind = reasonSilent
		case !l.cfg.View.All || g.Return == gpu.NoPermission:
			p.blind = reasonHidden
		case !g.Return.OK():
			p.blind = reasonUnsupported
		}
	}
	for _, s := range l.processes(g) {
		target, ok := inv.Part(g.UUID, number(s.gi), number(s.ci))
		if ok {
			at := n.at(target)
			at.processes = append(at.processes, s)
		}
	}
}

func number(instance uint32) int {
	if instance == gpu.NoInstance {
		return device.None
	}
	return int(instance)
}

// give adds whom the kubelet gave a device to.
func (l *looker) give(ctx context.Context, n *node, inv device.Inventory) {
	ctx, cancel := context.WithTimeout(ctx, podBudget)
	defer cancel()
	for _, a := range l.kubelet.given {
		target, ok := inv.Find(a.Device)
		if !ok {
			continue
		}
		p := n.at(target)
		o := Owner{Kind: kindKubernetes, Namespace: a.Namespace, Pod: a.Pod, Container: a.Container, Claim: a.Claim, Shared: a.Device.Share}
		if pod, known := l.pods.get(ctx, podName{a.Namespace, a.Pod}, l.fits(p)); known {
			o.PodUID, o.Started = pod.UID, pod.Started
			o.containerID = containerID(pod, a.Container)
			o.offer = offer{address: pod.Address, page: pod.Page, role: first(pod.Labels, l.cfg.Labels.Role)}
			l.cfg.Labels.apply(&o, pod.Labels, pod.Deployment)
		}
		p.give(o)
	}
	l.pods.sweep()
}

// fits tells of a pod whether it can still be what it was, as far as the processes at its place show: those of
// the pod are in containers that it has, the others in pods that are known.
func (l *looker) fits(p *place) func(pods.Pod) bool {
	return func(pod pods.Pod) bool {
		return !slices.ContainsFunc(p.processes, func(s seen) bool {
			if s.PodUID != pod.UID {
				return s.PodUID != "" && !l.pods.knows(s.PodUID)
			}
			_, has := pod.Containers[s.Place.Container]
			return s.Place.Container != "" && !has
		})
	}
}

// containerID is the id of a container that is known by its name.
func containerID(pod pods.Pod, name string) string {
	for id, of := range pod.Containers {
		if of == name {
			return id
		}
	}
	return ""
}

// resolve says who has a place, or why nobody was found.
func (l *looker) resolve(p *place) found {
	f := found{Target: p.Target, owners: p.resolve(l.users)}
	if len(f.owners) > 0 {
		return f
	}
	o := Owner{Kind: kindNone}
	switch {
	case p.split:
		o.Reason, f.certain = reasonSplit, true
	case l.kubelet.away && !l.kubelet.answered:
		o.Reason = reasonUnreachable
	case p.blind == "":
		o.Reason, f.certain = reasonFree, true
	case l.kubelet.answered:
		o.Reason, f.certain = reasonUnallocated, true
	default:
		o.Reason = p.blind
	}
	f.owners = []Owner{o}
	return f
}
