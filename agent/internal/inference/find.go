// SPDX-License-Identifier: Apache-2.0

package inference

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/agent/internal/owner"
	"github.com/gpufleet/gpufleet/internal/loopback"
	"github.com/gpufleet/gpufleet/schema"
)

// found is a server, and whose it is. What is not known is empty.
type found struct {
	url     string
	by      string // how it was found
	source  string // as in the schema
	guessed bool   // by its port alone: something else may listen there
	nowhere bool   // a process of an engine that listens nowhere that is known
	engine  string // as the name of the process has it

	namespace, pod, job string
	deployment, team    string
	role                string
	model, podModel     string // as the operator said; as the pod's label says, which counts where the server names none
	gpus                []string
}

// name is what the row calls the server: the address without what is the same everywhere.
func (f *found) name() string {
	if f.nowhere {
		return f.url
	}
	u, err := url.Parse(f.url)
	if err != nil {
		return f.url
	}
	return u.Host + strings.TrimSuffix(u.Path, "/metrics")
}

// finder finds servers.
type finder struct {
	options Options
	engines []engine
	holders func() []owner.Holder
	ports   *portFinder // nil: ports are not looked for
}

// workload is who has GPUs, with all of them.
type workload struct {
	owner.Holder

	gpus []string
	pids []uint32
}

// find lists the servers, each once: what the operator said of one counts, then what its pod says.
func (f *finder) find() []found {
	var all []found
	held := f.workloads()
	for _, s := range f.options.Servers {
		one := found{url: s.URL, by: "configuration", source: schema.TokensScraped, deployment: s.Deployment, team: s.Team, role: s.Role, model: s.Model}
		if i := slices.IndexFunc(held, func(w workload) bool { return w.has(s.URL) }); i >= 0 {
			one.belongTo(&held[i])
		}
		all = append(all, one)
	}
	if f.options.Find {
		for i := range held {
			all = append(all, f.serversOf(&held[i])...)
		}
	}
	var each []found
	for _, one := range all {
		if !slices.ContainsFunc(each, func(other found) bool { return whereabouts(other.url) == whereabouts(one.url) }) {
			each = append(each, one)
		}
	}
	return each
}

// whereabouts are equal of two addresses of one page: localhost, 127.0.0.1 and ::1 are one host, and what a port finder
// found there is what an operator named.
func whereabouts(address string) string {
	u, err := url.Parse(address)
	if err != nil || !loopback.Is(u.Hostname()) {
		return address
	}
	u.Host = net.JoinHostPort("localhost", u.Port())
	return u.String()
}

// workloads puts together what one pod, job or process has. Those that have no name but their process are apart.
func (f *finder) workloads() []workload {
	if f.holders == nil {
		return nil
	}
	var all []workload
	for _, h := range f.holders() {
		i := slices.IndexFunc(all, func(w workload) bool { return w.isSame(&h) })
		if i < 0 {
			all = append(all, workload{Holder: h})
			i = len(all) - 1
		}
		w := &all[i]
		w.gpus = append(w.gpus, h.UUID)
		if h.PID != 0 {
			w.pids = append(w.pids, h.PID)
		}
		w.Process = cmp.Or(w.Process, h.Process)
	}
	return all
}

func (w *workload) isSame(h *owner.Holder) bool {
	switch {
	case w.Kind != h.Kind:
		return false
	case h.PodUID != "" || h.Pod != "":
		return w.PodUID == h.PodUID && w.Namespace == h.Namespace && w.Pod == h.Pod && w.Job == h.Job
	case h.Job != "":
		return w.Job == h.Job
	default:
		return h.PID != 0 && w.PID == h.PID
	}
}

// has tells whether an address is the pod's.
func (w *workload) has(address string) bool {
	u, err := url.Parse(address)
	return err == nil && w.Address != "" && u.Hostname() == w.Address
}

// belongTo says whose a server is. What was known before stays.
func (f *found) belongTo(w *workload) {
	f.namespace, f.pod, f.job, f.gpus = w.Namespace, w.Pod, w.Job, w.gpus
	f.deployment, f.team, f.role = cmp.Or(f.deployment, w.Deployment), cmp.Or(f.team, w.Team), cmp.Or(f.role, roleWord(w.Role))
	f.podModel = w.Model
}

// roleWord is a role as pods call it in the schema's word; "" for what is none.
func roleWord(label string) string {
	label = strings.ToLower(label)
	switch {
	case slices.Contains(Roles(), label):
		return label
	case label == "prefill-decode" || label == "aggregated" || label == "unified":
		return schema.RoleBoth
	case label == "router" || label == "frontend":
		return schema.RoleGateway
	default:
		return ""
	}
}

// serversOf lists the servers of one workload: the page that its pod names, else what listens on a known port.
func (f *finder) serversOf(w *workload) []found {
	engine := engineOfProcess(f.engines, w.Process)
	var all []found
	add := func(address, by string, guessed bool) {
		one := found{url: address, by: by, source: schema.TokensScraped, guessed: guessed, engine: engine}
		one.belongTo(w)
		all = append(all, one)
	}
	switch {
	case w.Page != "":
		add(w.Page, "annotations", false)
	case f.ports != nil:
		for _, at := range f.ports.find(w) {
			add(pageAt(at), "port", true)
		}
	}
	if len(all) == 0 && engine != "" {
		add(w.name(), "process", false)
		all[0].nowhere = true
	}
	return all
}

// name is what is known of a workload in one word.
func (w *workload) name() string {
	switch {
	case w.Pod != "":
		return w.Namespace + "/" + w.Pod
	case w.PodUID != "":
		return "pod " + w.PodUID
	case w.Job != "":
		return "job " + w.Job
	default:
		return "process " + strconv.FormatUint(uint64(w.PID), 10)
	}
}

func pageAt(at netip.AddrPort) string {
	u := url.URL{Scheme: "http", Host: at.String(), Path: "/metrics"}
	return u.String()
}

// engineOfProcess is the engine whose processes have such a name; "" if none has.
func engineOfProcess(all []engine, name string) string {
	for _, e := range all {
		for _, begin := range e.process {
			if name != "" && strings.HasPrefix(name, begin) {
				return e.name
			}
		}
	}
	return ""
}
