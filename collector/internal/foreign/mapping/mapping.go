// SPDX-License-Identifier: Apache-2.0

// Package mapping says which metrics of other programs become which columns, and how their units are converted: the
// names of OpenTelemetry's semantic conventions (hw.gpu.*) and of NVIDIA's dcgm-exporter (DCGM_FI_*). It is one table;
// the list in docs/neighbours.md is made of it. A conversion is exact or it is none: what does not fit a column is told,
// and never cut to fit.
package mapping

import (
	"fmt"
	"slices"

	"github.com/gpufleet/gpufleet/schema"
)

// Family tells who gave a metric its name.
type Family uint8

// The families.
const (
	Semantic Family = iota // OpenTelemetry's semantic conventions, and names that follow them
	DCGM                   // dcgm-exporter
)

// Name is one metric of others. A metric may have several rows, that differ in the attributes that they want.
type Name struct {
	Metric string
	Family Family
	Unit   string // in which it is pushed if it does not say so itself: UCUM
	// Where are attributes that a point must have. A value "" stands for an attribute that is not there.
	Where []Attribute
	// Column is the metric of the schema; "" if it is known and not kept, and Note says why.
	Column string
	// The stored value is the pushed one, in Unit, × Multiply ÷ Divide; 0 counts as 1.
	Multiply, Divide int64
	Note             string
}

// Attribute is a key with a value.
type Attribute struct{ Key, Value string }

// Target is where a metric goes: bit numbers the targets, so that a set of them is a Mask.
type Target struct {
	Metric schema.Metric
	Bit    int
}

// Counter tells whether the metric counts up.
func (t *Target) Counter() bool { return t.Metric.Kind == schema.Counter }

// Mask is a set of targets.
type Mask [2]uint64

// maxTargets is how many a Mask can hold.
const maxTargets = 128

// Has tells whether a target is in the set.
func (m *Mask) Has(bit int) bool { return m[bit/64]&(1<<(bit%64)) != 0 }

// Add puts a target into the set.
func (m *Mask) Add(bit int) { m[bit/64] |= 1 << (bit % 64) }

// Join puts the targets of another set into the set.
func (m *Mask) Join(other Mask) {
	m[0] |= other[0]
	m[1] |= other[1]
}

// Table looks metrics up by their names. It is safe for use by several goroutines.
type Table struct {
	rows map[string][]row
}

type row struct {
	Name
	target *Target // nil if it is not kept
}

// New makes the table of all names.
func New() *Table {
	metrics := make(map[string]schema.Metric)
	for _, m := range schema.Metrics() {
		metrics[m.Name] = m
	}
	t := &Table{rows: make(map[string][]row)}
	byColumn := make(map[string]*Target)
	for _, n := range Names() {
		var target *Target
		if n.Column != "" {
			target = byColumn[n.Column]
			if target == nil {
				m, ok := metrics[n.Column]
				if !ok || len(byColumn) == maxTargets {
					panic(fmt.Sprintf("mapping: %s goes to %s, which the schema does not have, or there are more than %d", n.Metric, n.Column, maxTargets))
				}
				target = &Target{Metric: m, Bit: len(byColumn)}
				byColumn[n.Column] = target
			}
		}
		t.rows[n.Metric] = append(t.rows[n.Metric], row{n, target})
	}
	return t
}

// Verdict says what is to be done with a reading.
type Verdict uint8

// The verdicts.
const (
	Kept        Verdict = iota // it has a target and a value
	NotKept                    // it is known, and there is no column for it
	Unknown                    // nothing is known of such a metric
	UnknownUnit                // the metric is known, its unit is not one of its kind
	Absent                     // it is no number: NULL
	Unfit                      // it is one that the column cannot hold
)

// Find looks a reading up and converts its value. A unit of "" is that of the table.
func (t *Table) Find(metric, unit string, attribute func(key string) string, v Value) (*Target, int64, Verdict) {
	rows, ok := t.rows[metric]
	if !ok {
		if scrape(metric) {
			return nil, 0, NotKept
		}
		return nil, 0, Unknown
	}
	i := slices.IndexFunc(rows, func(r row) bool { return r.matches(attribute) })
	if i < 0 {
		return nil, 0, Unknown
	}
	if rows[i].target == nil || rows[i].Name.Family == DCGM && attribute("nvlink") != "" { // of one link, and not of the GPU
		return nil, 0, NotKept
	}
	if v.none() || rows[i].Name.Family == DCGM && v.blank() {
		return nil, 0, Absent
	}
	factor, ok := rows[i].factor(unit)
	if !ok {
		return nil, 0, UnknownUnit
	}
	stored, ok := v.scaled(factor)
	if !ok || !fits(rows[i].target.Metric, stored) {
		return nil, 0, Unfit
	}
	return rows[i].target, stored, Kept
}

// Family is whose name a metric has.
func (t *Table) Family(metric string) (Family, bool) {
	rows, ok := t.rows[metric]
	if !ok {
		return 0, false
	}
	return rows[0].Name.Family, true
}

func (n *Name) matches(attribute func(key string) string) bool {
	return !slices.ContainsFunc(n.Where, func(a Attribute) bool { return attribute(a.Key) != a.Value })
}

// scrape are the metrics that Prometheus, and what scrapes like it, adds to those of every target.
func scrape(metric string) bool {
	return slices.Contains([]string{
		"up", "target_info", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added",
		"scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes",
	}, metric)
}
