// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpufleet/gpufleet/schema"
)

const prefix = "gpufleet_gpu_"

// baseUnit turns a stored unit into the one that Prometheus asks for.
type baseUnit struct {
	stored, base     string // words in names
	multiply, divide float64
}

var baseUnits = map[string]baseUnit{
	"‰":      {"permille", "ratio", 1, 1000},
	"us":     {"microseconds", "seconds", 1, 1e6},
	"ms":     {"milliseconds", "seconds", 1, 1e3},
	"mJ":     {"millijoules", "joules", 1, 1e3},
	"mW":     {"milliwatts", "watts", 1, 1e3},
	"MHz":    {"megahertz", "hertz", 1e6, 1},
	"MiBy/s": {"mebibytes_per_second", "bytes_per_second", 1 << 20, 1},
	"MBy/s":  {"megabytes_per_second", "bytes_per_second", 1e6, 1},
}

// series is a metric of the schema under our own name.
type series struct {
	reading
	unit baseUnit
	kind prometheus.ValueType
	desc *prometheus.Desc
}

// gpuLabels name a GPU in all series of our own.
var gpuLabels = []string{"gpu_uuid", "gpu_index", "model", "pci_bus_id", "node", "mig_profile", "gpu_instance"}

func (v *view) gpuLabels(more ...string) []string {
	i := &v.identity
	return append([]string{i.uuid, i.index, i.model, i.pci, v.node, i.profile, i.instance}, more...)
}

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	all := append(append([]string{}, gpuLabels...), labels...)
	return prometheus.NewDesc(prefix+name, help, all, nil)
}

// ownSeries is the schema's table of metrics as Prometheus sees it.
func ownSeries() []series {
	var all []series
	for _, m := range schema.Metrics() {
		name, unit := ownName(m)
		s := series{reading: readingOf(m), unit: unit, kind: prometheus.GaugeValue, desc: newDesc(name, m.Meaning)}
		if m.Kind == schema.Counter {
			s.kind = prometheus.CounterValue
		}
		all = append(all, s)
	}
	return all
}

// ownName is a metric's name after the prefix, in its base unit.
func ownName(m schema.Metric) (string, baseUnit) {
	unit, ok := baseUnits[m.Unit]
	if !ok {
		unit = baseUnit{multiply: 1, divide: 1}
	}
	name := strings.TrimPrefix(strings.Replace(m.Name, unit.stored, unit.base, 1), "gpu_")
	if m.Kind == schema.Counter {
		name += "_total"
	}
	return name, unit
}

var (
	infoDesc = newDesc("info", "What the GPU is; always 1. A GPU that is lost has none.",
		"parent_gpu_uuid", "serial_number", "vbios_version", "architecture", "driver_version")
	workloadDesc = newDesc("workload_info", "Who has the GPU: one series for each pod or job; always 1.", "namespace", "pod", "container", "job_id")
	xidDesc      = newDesc("xid_total", "Faults with this XID code since the agent started, also of a GPU that is lost.", "xid")
)

// collectOwn shows a GPU under our own names.
func (p *Page) collectOwn(v *view, metrics chan<- prometheus.Metric) {
	if !p.cfg.GPUs {
		return
	}
	for xid, count := range v.xids {
		send(metrics, xidDesc, prometheus.CounterValue, float64(count), v.gpuLabels(strconv.FormatInt(xid, 10)))
	}
	if !v.fresh {
		return
	}
	i := &v.identity
	send(metrics, infoDesc, prometheus.GaugeValue, 1, v.gpuLabels(i.parent, i.serial, i.vbios, i.architecture, v.driver))
	for _, o := range v.owners {
		send(metrics, workloadDesc, prometheus.GaugeValue, 1, v.gpuLabels(o.namespace, o.pod, o.container, o.job))
	}
	labels := v.gpuLabels()
	for k := range p.own {
		s := &p.own[k]
		if value, ok := s.of(v); ok {
			send(metrics, s.desc, s.kind, value*s.unit.multiply/s.unit.divide, labels)
		}
	}
}

// send shows one value. A label that Prometheus refuses is told in its place.
func send(metrics chan<- prometheus.Metric, desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels []string) {
	m, err := prometheus.NewConstMetric(desc, kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	metrics <- m
}
