// SPDX-License-Identifier: Apache-2.0

package exposition

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gpufleet/gpufleet/schema"
)

// field is one of DCGM's fields, as dcgm-exporter shows it.
type field struct {
	name string
	kind prometheus.ValueType // as in dcgm-exporter's default-counters.csv
	help string
	unit string   // in words, for people
	from []string // metrics of the schema; the first that the GPU answers counts
	// The shown value is the stored one × multiply ÷ divide; 0 counts as 1. DCGM cuts off what follows the
	// point of some.
	multiply, divide float64
	whole            bool
	// compute, if not nil, makes the value of several metrics, in the order of from; all must be known.
	compute func(v *view, values []float64) (float64, bool)
	// readings are those of from, placed.
	readings []reading
}

// dcgmFields is what dcgm-exporter 4.5 shows by default, and what is often switched on besides, as far as
// it is known here. Names, units and kinds are those of its default-counters.csv and of dcgm_fields.h;
// how DCGM computes them is in its DcgmCacheManager.cpp.
func dcgmFields() []field {
	metrics := map[string]schema.Metric{}
	for _, m := range schema.Metrics() {
		metrics[m.Name] = m
	}
	var all []field
	for _, group := range [][]field{dcgmClocks, dcgmUse, dcgmMemory(), dcgmFaults, dcgmThrottles, dcgmLinks, dcgmProfile, dcgmECC()} {
		all = append(all, group...)
	}
	for i := range all {
		for _, name := range all[i].from {
			m, ok := metrics[name]
			if !ok {
				panic("exposition: " + all[i].name + " comes from " + name + ", which the schema does not have")
			}
			all[i].readings = append(all[i].readings, readingOf(m))
		}
	}
	return all
}

// value is what DCGM would show of a GPU; false if it is not known now.
func (f *field) value(v *view) (float64, bool) {
	if f.compute != nil {
		return f.computed(v)
	}
	for i := range f.readings {
		if value, ok := f.readings[i].of(v); ok {
			return f.scaled(value), true
		}
	}
	return 0, false
}

func (f *field) computed(v *view) (float64, bool) {
	values := make([]float64, len(f.readings))
	for i := range f.readings {
		value, ok := f.readings[i].of(v)
		if !ok {
			return 0, false
		}
		values[i] = value
	}
	value, ok := f.compute(v, values)
	return f.scaled(value), ok
}

func (f *field) scaled(value float64) float64 {
	if f.multiply != 0 {
		value *= f.multiply
	}
	if f.divide != 0 {
		value /= f.divide
	}
	if f.whole {
		value = float64(int64(value))
	}
	return value
}

// dcgmLabels are dcgm-exporter's, and their values. A MIG instance goes by its GPU, and has labels that
// others lack; so has a GPU that one pod has.
func (p *Page) dcgmLabels(v *view) (names, values []string) {
	of := v
	if v.parent != nil {
		of = v.parent
	}
	i := &of.identity
	device := ""
	if i.index != "" {
		device = "nvidia" + i.index
	}
	names = []string{"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION"}
	values = []string{i.index, i.uuid, dcgmBusID(i.pci), device, i.model, v.node, v.driver}
	if v.identity.profile != "" || v.identity.instance != "" {
		names = append(names, "GPU_I_PROFILE", "GPU_I_ID")
		values = append(values, v.identity.profile, v.identity.instance)
	}
	if pod, ok := v.onlyPod(); ok {
		names = append(names, "pod", "namespace", "container")
		values = append(values, pod.pod, pod.namespace, pod.container)
	}
	return names, values
}

// onlyPod is the pod that has a GPU, if one has it alone.
func (v *view) onlyPod() (owner, bool) {
	if len(v.owners) != 1 || v.owners[0].pod == "" {
		return owner{}, false
	}
	return v.owners[0], true
}

// collectDCGM shows a GPU under dcgm-exporter's names. A GPU that is lost keeps its last XID: that says why.
func (p *Page) collectDCGM(v *view, metrics chan<- prometheus.Metric) {
	if !p.cfg.DCGM || !v.fresh && v.lastXID == 0 {
		return
	}
	names, values := p.dcgmLabels(v)
	for i := range p.dcgm {
		f := &p.dcgm[i]
		if value, ok := f.value(v); ok {
			send(metrics, prometheus.NewDesc(f.name, f.help, names, nil), f.kind, value, values)
		}
	}
	d := prometheus.NewDesc(dcgmXID, "Code of the last XID that the GPU reported; 0 if it reported none since the agent started.", append(names, "err_code"), nil)
	send(metrics, d, prometheus.GaugeValue, float64(v.lastXID), append(values, strconv.FormatInt(v.lastXID, 10)))
}

// dcgmXID is the one field that comes from events.
const dcgmXID = "DCGM_FI_DEV_XID_ERRORS"

// dcgmBusID writes a PCI address as DCGM does, with eight digits of domain and capitals:
// 00000000:0A:00.0.
func dcgmBusID(kernel string) string {
	domain, rest, found := strings.Cut(kernel, ":")
	if !found {
		return ""
	}
	return strings.ToUpper(strings.Repeat("0", max(8-len(domain), 0)) + domain + ":" + rest)
}
