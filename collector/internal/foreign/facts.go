// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/collector/internal/foreign/mapping"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// fact is one column of an inventory row.
type fact struct {
	column string
	text   string
	number int64
}

// facts are those that are known; what is not is NULL.
type facts []fact

func (f *facts) text(column, value string) {
	if value != "" && len(value) <= maxFactBytes {
		*f = append(*f, fact{column: column, text: value})
	}
}

func (f *facts) number(column, value string) {
	if n, err := strconv.ParseUint(value, 10, 16); err == nil {
		*f = append(*f, fact{column: column, number: int64(n)})
	}
}

// maxFactBytes is how long a fact may be: what is longer was not meant to be one.
const maxFactBytes = 253

// hash is content_hash: equal facts have equal ones.
func (f facts) hash() uint64 {
	h := fnv.New64a()
	for _, one := range f {
		fmt.Fprintf(h, "%s\x00%s\x00%d\x00", one.column, one.text, one.number)
	}
	return h.Sum64()
}

// nodeFacts are those of a node.
type nodeFacts struct {
	name string
	facts
}

// gpuFacts are those of a GPU or MIG instance.
type gpuFacts struct {
	uuid   string
	parent string // UUID of the GPU that it is part of; "" if it is none's
	facts
}

// owner is a pod that has a GPU.
type owner struct{ namespace, pod, uid, container string }

var (
	errNoGPU  = errors.New("no GPU is named, or by more than 126 bytes: DCGM's metrics need the label UUID, those of hw.* the attribute hw.id")
	errNoHost = errors.New("no node is named: set the resource attribute host.name, or keep the label Hostname")
)

// dcgmHost is where dcgm-exporter ran. It says so itself (Hostname): host.name may be that of a gateway that scraped it.
func dcgmHost(resource Labels, find func(string) string) string {
	return cmp.Or(find("Hostname"), find("hostname"), resource["host.name"], resource["k8s.node.name"], scraped(resource, find))
}

// semanticHost is the host of OpenTelemetry's attributes.
func semanticHost(resource Labels, find func(string) string) string {
	return cmp.Or(resource["host.name"], resource["k8s.node.name"], find("host.name"), scraped(resource, find))
}

// dcgmSubject reads the labels of dcgm-exporter. If host.name is that of a gateway then so is what else the resource says
// of a host.
func dcgmSubject(from Source, resource Labels, key subjectKey, find func(string) string) (*nodeFacts, *gpuFacts, error) {
	uuid, instance := key.uuid, key.instance
	if uuid == "" || len(uuid) > maxFactBytes/2 {
		return nil, nil, errNoGPU
	}
	own := resource["host.name"] == "" || resource["host.name"] == key.host
	n, err := newNode(from, key.host, resource, own, find("DCGM_FI_DRIVER_VERSION"))
	if err != nil {
		return nil, nil, err
	}
	g := &gpuFacts{uuid: uuid}
	if instance != "" { // the label UUID is that of the whole GPU
		g.uuid, g.parent = uuid+"/gi/"+instance, uuid
	}
	if len(g.uuid) > maxFactBytes {
		return nil, nil, errNoGPU
	}
	g.text("gpu_uuid", g.uuid)
	if instance != "" {
		g.text("parent_gpu_uuid", uuid)
		g.number("gpu_instance_id", instance)
		g.text("mig_profile", find("GPU_I_PROFILE"))
	}
	g.number("gpu_index", find("gpu"))
	g.text("model", cmp.Or(find("modelName"), find("model_name")))
	g.text("pci_bus_id", busID(find("pci_bus_id")))
	return n, g, nil
}

// semanticSubject reads OpenTelemetry's attributes of hardware.
func semanticSubject(from Source, resource Labels, key subjectKey, find func(string) string) (*nodeFacts, *gpuFacts, error) {
	id := key.uuid
	if id == "" || len(id) > maxFactBytes/2 {
		return nil, nil, errNoGPU
	}
	n, err := newNode(from, key.host, resource, true, find("hw.driver_version"))
	if err != nil {
		return nil, nil, err
	}
	g := &gpuFacts{uuid: id}
	if !strings.HasPrefix(id, "GPU-") && !strings.HasPrefix(id, "MIG-") { // unique in its host alone
		g.uuid = n.name + "/" + id
	}
	if len(g.uuid) > maxFactBytes {
		return nil, nil, errNoGPU
	}
	g.text("gpu_uuid", g.uuid)
	if parent := find("hw.parent"); strings.HasPrefix(parent, "GPU-") && len(parent) <= maxFactBytes {
		g.parent = parent
		g.text("parent_gpu_uuid", parent)
	}
	g.text("model", cmp.Or(find("hw.model"), find("hw.name")))
	g.text("serial_number", find("hw.serial_number"))
	g.text("vbios_version", find("hw.firmware_version"))
	return n, g, nil
}

// newNode makes the facts of a node. Its name has that of the source in it: no source can give a node of an agent, or of
// another source, other facts. If the resource is of another host then only what clouds share is taken from it.
func newNode(from Source, host string, resource Labels, own bool, driver string) (*nodeFacts, error) {
	if host == "" {
		return nil, errNoHost
	}
	n := &nodeFacts{name: host + "@" + from.Name}
	if err := wire.CheckNodeName(n.name); err != nil {
		return nil, err
	}
	n.text("node_name", n.name)
	n.text("reading_source", from.Protocol)
	provider := resource["cloud.provider"]
	n.text("provider", cmp.Or(providers[provider], provider))
	n.text("region", resource["cloud.region"])
	n.text("cluster", resource["k8s.cluster.name"])
	n.text("account_id", resource["cloud.account.id"])
	if own {
		zone := resource["cloud.availability_zone"]
		if provider == "gcp" || zoneID.MatchString(zone) { // elsewhere an account has its own names for them
			n.text("zone_id", zone)
		}
		n.text("zone_name", zone)
		n.text("instance_type", resource["host.type"])
		n.text("instance_id", resource["host.id"])
		n.text("image_id", resource["host.image.id"])
		n.text("platform", resource["cloud.platform"])
	}
	n.text("kubernetes_node", resource["k8s.node.name"])
	n.text("driver_version", driver)
	n.text("place_source", from.Protocol)
	return n, nil
}

// providers are those that OpenTelemetry calls otherwise.
var providers = map[string]string{"oracle_cloud": "oci", "alibaba_cloud": "alibaba", "ibm_cloud": "ibm", "tencent_cloud": "tencent"}

// zoneID is how AWS writes ids of zones, such as use1-az4.
var zoneID = regexp.MustCompile(`^[a-z]+[0-9]-az[0-9]+$`)

// scraped is the host that Prometheus, or what scrapes like it, found the exporter on.
func scraped(resource Labels, find func(string) string) string {
	address := cmp.Or(resource["server.address"], resource["net.host.name"], resource["service.instance.id"], find("instance"))
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// busID writes a PCI address as the kernel does; DCGM writes eight digits of domain, and capitals.
func busID(dcgm string) string {
	domain, rest, found := strings.Cut(strings.ToLower(dcgm), ":")
	if !found {
		return ""
	}
	if len(domain) == 8 && strings.HasPrefix(domain, "0000") {
		domain = domain[4:]
	}
	return domain + ":" + rest
}

// ownerIn is the pod that the labels of a reading name; nil if they name none.
func ownerIn(family mapping.Family, labels Labels) *owner {
	if family == mapping.DCGM {
		return dcgmOwner(labels)
	}
	return semanticOwner(labels)
}

// dcgmOwner is the pod in the labels of dcgm-exporter. Where the scraper has labels of the same names for the exporter's
// own pod, those of the workload are called exported_*.
func dcgmOwner(labels Labels) *owner {
	prefix := ""
	if labels["exported_pod"] != "" {
		prefix = "exported_"
	}
	o := owner{namespace: labels[prefix+"namespace"], pod: labels[prefix+"pod"], uid: labels[prefix+"pod_uid"], container: labels[prefix+"container"]}
	if o.pod == "" || strings.Contains(o.pod, "dcgm-exporter") { // labels of the target, and the GPU has no pod
		return nil
	}
	return &o
}

// semanticOwner is the pod in OpenTelemetry's attributes of a point. Those of the resource may be of the sender's own pod.
func semanticOwner(labels Labels) *owner {
	if labels["k8s.pod.name"] == "" {
		return nil
	}
	return &owner{namespace: labels["k8s.namespace.name"], pod: labels["k8s.pod.name"], uid: labels["k8s.pod.uid"], container: labels["k8s.container.name"]}
}
