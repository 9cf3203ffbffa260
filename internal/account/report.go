// SPDX-License-Identifier: Apache-2.0

package account

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	Right   Verdict = "right"   // every row is what it is made of, and all adds up
	Wrong   Verdict = "wrong"   // some are not, or something does not
	Nothing Verdict = "nothing" // there was no hour to compare: nothing is proved
)

// Report is what a check found.
type Report struct {
	Verdict     Verdict      `json:"verdict"`
	From        time.Time    `json:"from"`
	To          time.Time    `json:"to"`
	Hours       int          `json:"hours"`   // that were made again
	Waiting     int          `json:"waiting"` // whose rollups are not complete
	Rows        int          `json:"rows"`
	Different   int          `json:"different"`   // columns, or rows
	Behind      int          `json:"behind"`      // hours that differ, and of which something has come since they were made
	Identity    []Identity   `json:"identity"`    // for whatever the fleet is divided by
	Totals      []Total      `json:"totals"`      // by currency and basis
	Differences []Difference `json:"differences"` // the first 200
}

// Identity is whether states add up to the inventory, in each group of one column.
type Identity struct {
	By         string `json:"by"`
	Groups     uint64 `json:"groups"` // by the column, currency and basis
	Wrong      uint64 `json:"wrong"`  // of these
	TimeError  int64  `json:"error_milliseconds"`
	MoneyError string `json:"error_price_milliseconds"` // price of an hour × milliseconds
}

// Total is what counts of one currency and basis.
type Total struct {
	Currency  *string           `json:"currency"` // nil: no price is known
	Basis     *string           `json:"basis"`
	Cost      *string           `json:"cost"`
	Inventory uint64            `json:"inventory_milliseconds"`
	States    map[string]uint64 `json:"milliseconds"`
}

// Difference is one column of one row that is not what it is made of.
type Difference struct {
	Hour       time.Time `json:"hour"`
	Node       string    `json:"node_id"` // text: JSON's numbers are too short for it
	NodeName   string    `json:"node_name"`
	Team       string    `json:"team"`
	Deployment string    `json:"deployment"`
	Column     string    `json:"column"` // empty: the whole row
	Stored     string    `json:"stored"`
	Made       string    `json:"made"`
}

func (r Report) verdict() Verdict {
	for _, i := range r.Identity {
		if i.Wrong > 0 {
			return Wrong
		}
	}
	switch {
	case r.Different > 0:
		return Wrong
	case r.Hours == 0 || r.Rows == 0:
		return Nothing
	default:
		return Right
	}
}

// Join adds up the reports of several databases that have accounts of their own, as the shards of a cluster.
func Join(reports []Report) (sum Report) {
	for i, r := range reports {
		if i == 0 {
			sum = r
			continue
		}
		if r.From.Before(sum.From) {
			sum.From = r.From
		}
		if r.To.After(sum.To) {
			sum.To = r.To
		}
		sum.Hours, sum.Waiting, sum.Rows = max(sum.Hours, r.Hours), max(sum.Waiting, r.Waiting), sum.Rows+r.Rows
		sum.Different, sum.Behind = sum.Different+r.Different, sum.Behind+r.Behind
		sum.Identity, sum.Totals = append(sum.Identity, r.Identity...), append(sum.Totals, r.Totals...)
		sum.Differences = append(sum.Differences, r.Differences...)
	}
	sum.Verdict = sum.verdict()
	return sum
}

// WriteJSON writes one line.
func (r Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes it for people.
func (r Report) WriteText(w io.Writer) error {
	const layout = "2006-01-02 15:04"
	var text strings.Builder
	if r.Verdict == Nothing {
		fmt.Fprintf(&text, "Nothing to check from %s to %s UTC: no hour of which the rollups are complete has GPUs.\n", r.From.Format(layout), r.To.Format(layout))
		_, err := io.WriteString(w, text.String())
		return err
	}
	fmt.Fprintf(&text, "From %s to %s UTC, %d hours made again: %d rows, %d differences.\n", r.From.Format(layout), r.To.Format(layout), r.Hours, r.Rows, r.Different)
	for _, t := range r.Totals {
		fmt.Fprintf(&text, "  %s: %s GPU-hours", t.what(), hours(t.Inventory))
		for _, s := range schema.AccountStates() {
			fmt.Fprintf(&text, ", %s %s", strings.ReplaceAll(s.Name, "_", " "), hours(t.States[s.Name]))
		}
		text.WriteString("\n")
	}
	for _, i := range r.Identity {
		fmt.Fprintf(&text, "  states less inventory by %s: %d of %d groups differ, at most by %d ms and %s price × ms\n", i.By, i.Wrong, i.Groups, i.TimeError, i.MoneyError)
	}
	for _, d := range r.Differences {
		what := d.Column + " is "
		if d.Column == "" {
			what = ""
		}
		fmt.Fprintf(&text, "  %s node %s (%s) team %q deployment %q: %s%s, made again %s\n", d.Hour.Format(layout), d.Node, d.NodeName, d.Team, d.Deployment, what, d.Stored, d.Made)
	}
	switch {
	case r.Behind > 0:
		fmt.Fprintf(&text, "Of %d hours something has come since they were accounted. They are made again when a collector next looks, or now: gpufleet account rebuild --since %s --until %s\n", r.Behind, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	case r.Verdict == Wrong:
		fmt.Fprintf(&text, "Make them again: gpufleet account rebuild --since %s --until %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	default:
		text.WriteString("Every row is what it is made of, and the states add up to the inventory.\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (t Total) what() string {
	if t.Cost == nil || t.Currency == nil || t.Basis == nil {
		return "without a price"
	}
	return *t.Cost + " " + *t.Currency + " (" + *t.Basis + ")"
}

// hours is a time in hours, for people.
func hours(milliseconds uint64) string {
	return fmt.Sprintf("%.2f", float64(milliseconds)/float64(hour))
}
