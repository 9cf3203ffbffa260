// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Pod is what is known of a pod. What is not known is empty.
type Pod struct {
	Namespace, Name, UID string
	Started              time.Time // when the kubelet took it
	Labels               map[string]string
	Deployment           string            // what made it
	Containers           map[string]string // names by id
	Address              string            // IP
	Page                 string            // URL of its metrics, as the annotations prometheus.io/* have it
}

// object is the part of a pod's object that is read.
type object struct {
	Kind     string   `json:"kind"`
	Metadata metadata `json:"metadata"`
	Status   struct {
		StartTime time.Time         `json:"startTime"`
		Address   string            `json:"podIP"`
		Init      []containerStatus `json:"initContainerStatuses"` // sidecars are among them
		Main      []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type metadata struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	UID       string            `json:"uid"`
	Labels    map[string]string `json:"labels"`
	Notes     map[string]string `json:"annotations"`
	Owners    []owner           `json:"ownerReferences"`
}

type owner struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller"`
}

type containerStatus struct {
	Name string `json:"name"`
	ID   string `json:"containerID"` // containerd://5e0c…
}

// parse reads the object of the pod that was asked for.
func parse(body []byte, namespace, name string) (Pod, error) {
	var o object
	if err := json.Unmarshal(body, &o); err != nil {
		return Pod{}, err
	}
	m := &o.Metadata
	if o.Kind != "Pod" || m.Namespace != namespace || m.Name != name || m.UID == "" {
		return Pod{}, errors.New("the answer is not that pod")
	}
	pod := Pod{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, Started: o.Status.StartTime, Labels: m.Labels, Deployment: m.deployment(),
		Containers: make(map[string]string),
	}
	if address, err := netip.ParseAddr(o.Status.Address); err == nil {
		pod.Address = address.String()
		pod.Page = m.page(address)
	}
	for _, list := range [][]containerStatus{o.Status.Init, o.Status.Main} {
		for _, c := range list {
			if _, id, ok := strings.Cut(c.ID, "://"); ok && id != "" {
				pod.Containers[id] = c.Name
			}
		}
	}
	return pod, nil
}

// groupLabels name what several owners of pods make together; the owner itself is a part of it.
var groupLabels = []string{
	"leaderworkerset.sigs.k8s.io/name",
	"jobset.sigs.k8s.io/jobset-name",
	"serving.kserve.io/inferenceservice",
	"training.kubeflow.org/job-name",
	"ray.io/cluster",
	"nvidia.com/dynamo-graph-deployment-name",
}

// The annotations by which pods tell Prometheus servers where their metrics are.
const (
	noteScrape = "prometheus.io/scrape"
	notePort   = "prometheus.io/port"
	notePath   = "prometheus.io/path"
	noteScheme = "prometheus.io/scheme"
)

// page is the URL of the pod's metrics; "" if it does not tell. The address is the pod's own, whatever the annotations say.
func (m *metadata) page(address netip.Addr) string {
	port, err := strconv.ParseUint(m.Notes[notePort], 10, 16)
	if m.Notes[noteScrape] != "true" || err != nil || port == 0 {
		return ""
	}
	u := url.URL{Scheme: "http", Host: netip.AddrPortFrom(address, uint16(port)).String(), Path: "/metrics"}
	if m.Notes[noteScheme] == "https" {
		u.Scheme = "https"
	}
	if path, _, _ := strings.Cut(m.Notes[notePath], "?"); strings.HasPrefix(path, "/") && len(path) <= maxPathBytes {
		u.Path = path
	}
	return u.String()
}

const maxPathBytes = 253

// templateHash is the label by which a Deployment tells its ReplicaSets apart; their names end with it.
const templateHash = "pod-template-hash"

// deployment is what made the pod: of a ReplicaSet its Deployment. A pod that nothing made has none; a static
// one is made by its node.
func (m *metadata) deployment() string {
	for _, label := range groupLabels {
		if name := m.Labels[label]; name != "" {
			return name
		}
	}
	for _, o := range m.Owners {
		if !o.Controller || o.Kind == "Node" {
			continue
		}
		if hash := m.Labels[templateHash]; o.Kind == "ReplicaSet" && hash != "" {
			return strings.TrimSuffix(o.Name, "-"+hash)
		}
		return o.Name
	}
	return ""
}
