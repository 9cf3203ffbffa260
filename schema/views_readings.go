// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"slices"
	"strings"
)

// plainUnit turns a stored unit into one that people use.
type plainUnit struct {
	stored, plain string // words in column names
	unit          string
	factor        string // what the stored number is multiplied or divided by
}

var plainUnits = map[string]plainUnit{
	"‰":      {"permille", "ratio", "1", "/ 1000"},
	"us":     {"microseconds", "seconds", "s", "/ 1000000"},
	"ms":     {"milliseconds", "seconds", "s", "/ 1000"},
	"mJ":     {"millijoules", "joules", "J", "/ 1000"},
	"mW":     {"milliwatts", "watts", "W", "/ 1000"},
	"mW/s":   {"milliwatts_per_second", "watts_per_second", "W/s", "/ 1000"},
	"MiBy/s": {"mebibytes_per_second", "bytes_per_second", "By/s", "* 1048576"},
	"MBy/s":  {"megabytes_per_second", "bytes_per_second", "By/s", "* 1000000"},
}

// plain gives a column a plain unit, if its own is not.
func plain(c ViewColumn) ViewColumn {
	c.Meaning = plainText(c.Meaning)
	u, ok := plainUnits[c.Unit]
	if !ok {
		return c
	}
	c.Name = strings.Replace(c.Name, u.stored, u.plain, 1)
	c.Unit = u.unit
	c.Expression += " " + u.factor
	switch {
	case strings.HasPrefix(u.factor, "/"):
		c.Type = pickType(c.Type, "Float64")
	default:
		c.Type = pickType(c.Type, "UInt64")
	}
	return c
}

// pickType is the type, Nullable if the old one was.
func pickType(old, base string) string {
	if strings.HasPrefix(old, "Nullable(") {
		return "Nullable(" + base + ")"
	}
	return base
}

// plainText puts the plain units into what a meaning says of other columns.
func plainText(meaning string) string {
	for _, u := range plainUnits {
		meaning = strings.ReplaceAll(meaning, "_"+u.stored, "_"+u.plain)
	}
	return meaning
}

// readings are the columns of a table of metrics that mean something to people, in plain units.
func readings(table Table, alias string) []ViewColumn {
	var columns []ViewColumn
	for _, c := range table.Columns {
		if isBookkeeping(c) || c.Name == ColumnGPU {
			continue
		}
		columns = append(columns, plain(copied(table, c.Name, alias)))
	}
	return columns
}

// clockReasons are the bits of clocks_event_reasons (nvml.h, nvmlClocksEventReason*).
var clockReasons = []struct {
	bit  int
	name string
}{
	{0x1, "idle"},
	{0x2, "application clocks"},
	{0x4, "software power cap"},
	{0x8, "hardware slowdown"},
	{0x10, "sync boost"},
	{0x20, "software thermal"},
	{0x40, "hardware thermal"},
	{0x80, "hardware power brake"},
	{0x100, "display"},
}

// clockReasonsColumn spells the reasons out.
func clockReasonsColumn(alias string) ViewColumn {
	bits := make([]string, len(clockReasons))
	for i, r := range clockReasons {
		bits[i] = fmt.Sprintf("(%d, '%s')", r.bit, r.name)
	}
	return ViewColumn{
		Name: "clocks_event_reason_names", Type: "Nullable(String)",
		Meaning: "What clocks_event_reasons says, in words with commas between them; empty if nothing holds the clocks.",
		Expression: fmt.Sprintf("if(%s.clocks_event_reasons IS NULL, NULL, arrayStringConcat(arrayMap(r -> r.2, arrayFilter(r -> bitAnd(assumeNotNull(%[1]s.clocks_event_reasons), r.1) != 0, [%s])), ', '))",
			alias, strings.Join(bits, ", ")),
	}
}

// fleetSamplesView drops the suffix _delta: all its counters are increments.
func fleetSamplesView() View {
	table := samplesTable()
	columns := append(copiedAll(table, "s", ColumnTime, ColumnGPU, ColumnNode, ColumnTenant, ColumnResidency), nameColumns()...)
	for _, c := range readings(table, "s") {
		if slices.Contains(turnColumns, strings.TrimPrefix(c.Expression, "s.")) {
			c.Meaning += " Not read at each tick: NULL in the rows between."
		}
		c.Name = strings.TrimSuffix(c.Name, "_delta")
		columns = append(columns, c)
	}
	columns = append(columns, clockReasonsColumn("s"))
	return View{
		Name: "fleet_samples", Columns: columns, From: "{gpu_samples} AS s" + joinNames("s"),
		Meaning: "Rows of gpu_samples with names and in plain units: ratios from 0 to 1, seconds, joules, bytes. Counters are increments since the GPU's previous row. Give a range of ts, and gpu_id for single GPUs. Names are those of today.",
	}
}

func fleetHealthView() View {
	table := healthTable()
	columns := append(copiedAll(table, "h", ColumnTime, ColumnGPU, ColumnNode, ColumnTenant, ColumnResidency), nameColumns()...)
	columns = append(columns, readings(table, "h")...)
	return View{
		Name: "fleet_health", Columns: columns, From: "{gpu_health} AS h" + joinNames("h"),
		Meaning: "Rows of gpu_health with names and in plain units. Columns that end in _total count since the driver was loaded, those in _delta since the GPU's previous row. Give gpu_id or a range of ts. Names are those of today.",
	}
}

func fleetEventsView() View {
	table := eventsTable()
	columns := append(copiedAll(table, "e", ColumnTime, "kind", "source", "xid", "count", "message", ColumnNode, ColumnGPU, ColumnTenant, ColumnResidency), nameColumns()...)
	columns = append(columns, copiedAll(table, "e", "gpu_instance", "compute_instance")...)
	for _, c := range table.Columns[slices.IndexFunc(table.Columns, func(c Column) bool { return c.Name == ColumnFault }):] {
		columns = append(columns, copied(table, c.Name, "e"))
	}
	return View{
		Name: "fleet_events", Columns: columns, From: "{gpu_events} AS e" + joinNames("e"),
		Meaning: "Rows of gpu_events with names, as of today. Rows whose gpu_id is NULL concern the node.",
	}
}
