// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// metricsPage is docs/metrics.md.
func metricsPage() []byte {
	var p page
	p.text("# Tables, metrics and views")
	p.text("<!-- Written by go generate ./schema/... from the tables in schema/. Change those. -->")
	p.text("What gpufleet stores in ClickHouse, column by column. The same words are comments of the tables and views in ClickHouse itself: `DESCRIBE TABLE fleet_samples`.")
	p.text("- **NULL** means that the GPU did not answer, or does not have it. It is never written as 0.\n" +
		"- **Units** are [UCUM](https://ucum.org/) codes, as OpenTelemetry uses them; `‰` marks ratios, stored per mille. The views turn stored units into plain ones.\n" +
		"- **Source** is where NVML has it. Where several are given, the first that a GPU supports is used.\n" +
		"- **Requires** names the GPUs that answer; empty for all from A100 on.\n" +
		"- A **counter** named `x` is stored as `x_delta`, its increment since the GPU's previous row with resets taken care of, and as `x_total`, the driver's own count.")
	p.text("By minute and hour there are [gpu_samples_1m](#gpu_samples_1m) and [gpu_samples_1h](#gpu_samples_1h). What of a metric is in them stands under \"In the rollups\": never an average, but the sum and the number of readings, so that any average over any GPUs and any time is exact. A sketch gives quantiles that are at most 1 % off, and is merged with `quantilesDDMerge(0.01, 0.5, 0.95, 0.99)`.")
	p.text("For SQL by hand start from the [views](#views). The tables are for programs, and for what the views leave out.")
	p.text("## Tables")
	for _, t := range schema.StoredTables() {
		p.table(t)
	}
	p.events()
	p.text("## Views")
	for _, v := range schema.Views() {
		p.view(v)
	}
	return []byte(strings.TrimRight(p.String(), "\n") + "\n")
}

type page struct{ strings.Builder }

// text adds a paragraph.
func (p *page) text(s string) { p.WriteString(s + "\n\n") }

// row adds a line of a table.
func (p *page) row(cells ...string) {
	for i := range cells {
		cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
	}
	p.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// header begins a table.
func (p *page) header(cells ...string) {
	p.row(cells...)
	p.WriteString(strings.Repeat("| --- ", len(cells)) + "|\n")
}

func (p *page) table(t schema.Table) {
	p.text("### " + t.Name)
	p.text(t.Meaning)
	facts := fmt.Sprintf("Ordered by `%s`, indexed by `%s`, partitioned by `%s`", t.OrderBy, cmp.Or(t.PrimaryKey, t.OrderBy), t.PartitionBy)
	if t.TTLDays > 0 {
		facts += fmt.Sprintf(", kept for %d days unless changed", t.TTLDays)
	}
	p.text(facts + ".")
	for _, f := range schema.Feeds() {
		if f.Copies() && f.To.Name == t.Name {
			p.text(fmt.Sprintf("The columns are those of [%s](#%[1]s).", f.From.Name))
			return
		}
	}
	metrics := metricsByColumn()
	header := []string{"Column", "Type", "Unit", "Meaning"}
	if t.ID == schema.SamplesID || t.ID == schema.HealthID {
		header = append(header, "Source in NVML", "Requires", "OpenTelemetry")
	}
	if t.ID == schema.SamplesID {
		header = append(header, "In the rollups")
	}
	counters := networkCountersByColumn()
	if t.ID == schema.NetworkPortsID {
		header = append(header, "Source in sysfs")
	}
	p.header(header...)
	for _, c := range t.Columns {
		cells := []string{"`" + c.Name + "`", "`" + c.ClickHouseType() + "`", c.Unit, c.Meaning}
		switch t.ID {
		case schema.SamplesID, schema.HealthID:
			m := metrics[c.Name]
			cells = append(cells, sources(m.Sources), m.Requires, c.OTel)
			if t.ID == schema.SamplesID {
				cells = append(cells, rolled(m))
			}
		case schema.NetworkPortsID:
			cells = append(cells, networkSources(counters[c.Name].Sources))
		}
		p.row(cells...)
	}
	p.WriteString("\n")
}

func (p *page) events() {
	p.text("## Event kinds")
	p.text("Values of `gpu_events.kind`.")
	p.header("Kind", "Source", "Count", "Meaning")
	for _, k := range schema.EventKinds() {
		p.row("`"+k.Name+"`", k.Source, k.Count, k.Meaning)
	}
	p.WriteString("\n")
}

func (p *page) view(v schema.View) {
	p.text("### " + v.Name)
	p.text(v.Meaning)
	p.header("Column", "Type", "Unit", "Meaning")
	for _, c := range v.Columns {
		p.row("`"+c.Name+"`", "`"+c.Type+"`", c.Unit, c.Meaning)
	}
	p.WriteString("\n")
}

// rolled says what becomes of a metric in the rollups; a column that is none has nothing to say.
func rolled(m schema.Metric) string {
	switch {
	case m.Name == "":
		return ""
	case m.Sketch:
		return m.Roll().String() + ", sketch of quantiles"
	default:
		return m.Roll().String()
	}
}

// metricsByColumn finds the metric that a column of gpu_samples or gpu_health holds.
func metricsByColumn() map[string]schema.Metric {
	metrics := map[string]schema.Metric{}
	for _, m := range schema.Metrics() {
		if c, ok := m.SamplesColumn(); ok {
			metrics[c.Name] = m
		}
		for _, c := range m.HealthColumns() {
			metrics[c.Name] = m
		}
	}
	return metrics
}

func sources(list []schema.Source) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = source(s)
	}
	return strings.Join(words, "; else ")
}

// source names a place in NVML and what is done with the number from there.
func source(s schema.Source) string {
	var words string
	combine := [...]string{schema.Sum: "sum", schema.Max: "maximum", schema.Min: "minimum", schema.Mean: "mean", schema.Last: "newest"}[s.Combine]
	switch s.Kind {
	case schema.FromField:
		words = "`NVML_FI_" + s.Name + "`"
		switch s.Scope {
		case 0:
		case ^uint32(0):
			words += ", all links"
		default:
			words += fmt.Sprintf(", scope %d", s.Scope)
		}
	case schema.FromFieldPerLink:
		words = "`NVML_FI_" + s.Name + "`, " + combine + " over the links"
		if s.Decoding == schema.IsEqual {
			words = fmt.Sprintf("`NVML_FI_%s`, number of links with %d", s.Name, s.Equal)
		}
	case schema.FromGetter:
		words = "`" + s.Name + "`"
		if s.Argument != "" {
			words += " of " + s.Argument
		}
	case schema.FromProfile:
		words = fmt.Sprintf("GPM metric %d `%s`", s.ID, s.Name)
	case schema.FromRing:
		words = "`nvmlDeviceGetSamples` `NVML_" + s.Name + "`, " + combine
	}
	if s.Multiply > 1 {
		words += fmt.Sprintf(" × %d", s.Multiply)
	}
	if s.Divide > 1 {
		words += fmt.Sprintf(" ÷ %d", s.Divide)
	}
	if s.Decoding == schema.BitErrorRate {
		words += ", decoded from mantissa and exponent"
	}
	return words
}
