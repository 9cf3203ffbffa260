// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// View is a view for people who write SQL by hand: names in place of ids, plain units, and a comment on
// each column. Views are replaced when the program is newer; nothing is stored in them.
type View struct {
	Name    string
	Meaning string
	Columns []ViewColumn
	From    string // what follows FROM; a table or view of ours stands in braces: {gpu_samples}
}

// ViewColumn is one column of a view.
type ViewColumn struct {
	Name       string
	Type       string // in ClickHouse
	Unit       string // "" if it has none
	Meaning    string
	Expression string
}

// Views lists the views, each after those that it reads.
func Views() []View {
	return slices.Concat([]View{
		nodeIntervalsView(), gpuIntervalsView(), fleetNodesView(), fleetGPUsView(),
		fleetSamplesView(), fleetHealthView(), fleetEventsView(), fleetFaultsView(), fleetFaultTraceView(), fleetNowView(), fleetSilentView(),
		workloadIntervalsView(), fleetWorkloadView(), fleetNetworkView(), fleetTokensView(), tokenRatesView(), fleetPricesView(), priceFeedsView(), fleetRatesView(), fleetCostNowView(),
		fleetBillsView(), billMachinesView(), billDriftView(), ingestAuditView(), ingestHoursView(),
		fleetMinutesView(), fleetHoursView(), rollupStatusView(), fleetAccountView(), accountVersionsView(), fleetWaterfallView(), fleetCapacityView(), fleetTokenCostView(),
	}, accountCostViews(), accountWasteViews())
}

// Comment is the column's comment in ClickHouse: meaning and unit.
func (c ViewColumn) Comment() string {
	if c.Unit == "" {
		return c.Meaning
	}
	return c.Meaning + " Unit: " + c.Unit + "."
}

var inBraces = regexp.MustCompile(`\{(\w+)\}`)

// Select is the query of the view.
func (v View) Select(database string) string { return v.selection(Single(database)) }

func (v View) selection(l Layout) string {
	var b strings.Builder
	b.WriteString("SELECT\n")
	for i, c := range v.Columns {
		fmt.Fprintf(&b, "    %s AS %s", c.Expression, QuoteName(c.Name))
		if i < len(v.Columns)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString("FROM " + l.from(v))
	return inBraces.ReplaceAllStringFunc(b.String(), func(name string) string {
		return QuoteName(l.Database) + "." + QuoteName(strings.Trim(name, "{}"))
	})
}

// CreateView is the statement that makes the view, or puts it in the place of an earlier one.
func (v View) CreateView(database string) string { return v.create(Single(database)) }

func (v View) create(l Layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s.%s\n(\n", QuoteName(l.Database), QuoteName(v.Name))
	for i, c := range v.Columns {
		fmt.Fprintf(&b, "    %s %s COMMENT %s", QuoteName(c.Name), c.Type, QuoteText(c.Comment()))
		if i < len(v.Columns)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	// Whoever asks sees the rows that its row filters let it see, whatever the server's default is.
	fmt.Fprintf(&b, ")\nSQL SECURITY INVOKER\nAS %s\nCOMMENT %s", v.selection(l), QuoteText(v.Meaning))
	return b.String()
}

// copied is a column of a table under its own name.
func copied(table Table, name, alias string) ViewColumn {
	for _, c := range table.Columns {
		if c.Name == name {
			return ViewColumn{Name: name, Type: c.ClickHouseType(), Unit: c.Unit, Meaning: c.Meaning, Expression: alias + "." + name}
		}
	}
	panic(fmt.Sprintf("schema: table %s has no column %s", table.Name, name))
}

// copiedAll copies columns of a table.
func copiedAll(table Table, alias string, names ...string) []ViewColumn {
	columns := make([]ViewColumn, len(names))
	for i, name := range names {
		columns[i] = copied(table, name, alias)
	}
	return columns
}

// orNull makes the column NULL where a LEFT JOIN finds nothing, whatever join_use_nulls says.
func (c ViewColumn) orNull() ViewColumn {
	switch {
	case strings.Contains(c.Type, "Nullable"):
	case strings.HasPrefix(c.Type, "LowCardinality("):
		c.Type = strings.Replace(c.Type, "LowCardinality(", "LowCardinality(Nullable(", 1) + ")"
	default:
		c.Type = "Nullable(" + c.Type + ")"
	}
	return c
}
