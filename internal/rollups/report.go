// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	Right   Verdict = "right"   // every row is what the samples make
	Wrong   Verdict = "wrong"   // some are not
	Behind  Verdict = "behind"  // those that are there are; but they end before the time that was asked for does
	Nothing Verdict = "nothing" // there was no row to compare: nothing is proved
)

// Report is what a check found.
type Report struct {
	Verdict     Verdict       `json:"verdict"`
	From        time.Time     `json:"since"`
	To          time.Time     `json:"until"`
	Samples     uint64        `json:"samples"` // that the rows were compared with
	Tables      []TableReport `json:"tables"`
	Differences []Difference  `json:"differences"` // the first 200 of each table

	RolledUpUntil time.Time `json:"rolled_up_until"` // of several shards, that of the slowest; 1970: there are no rollups

	stopped  bool // they end before the time that was asked for does
	unproved bool // nothing was compared, though there are samples
}

// TableReport counts what was compared of one rollup.
type TableReport struct {
	Name      string `json:"table"`
	Windows   uint64 `json:"compared_rows"` // a GPU and minute, or hour
	Different uint64 `json:"different_rows"`
	Behind    uint64 `json:"behind_rows"` // of these: there are more samples than the row was made of

	listed int
}

// Difference is one column of one row that is not what the samples make.
type Difference struct {
	Table  string    `json:"table"`
	Window time.Time `json:"window"`
	GPU    string    `json:"gpu_id"` // text: JSON's numbers are too short for it
	Whose  []string  `json:"tenant_and_residency"`
	Column string    `json:"column"` // empty: the whole row
	Stored string    `json:"stored"`
	Made   string    `json:"made_of_samples"`
}

// Join adds up the reports of several databases that have rollups of their own, as the shards of a cluster.
func Join(reports []Report) (sum Report) {
	for i, r := range reports {
		if i == 0 {
			sum = r
			sum.Tables = slices.Clone(r.Tables)
			continue
		}
		if r.From.Before(sum.From) {
			sum.From = r.From
		}
		if r.RolledUpUntil.Before(sum.RolledUpUntil) {
			sum.RolledUpUntil = r.RolledUpUntil
		}
		sum.stopped, sum.unproved = sum.stopped || r.stopped, sum.unproved || r.unproved
		if r.To.After(sum.To) {
			sum.To = r.To
		}
		sum.Samples += r.Samples
		for n, t := range r.Tables {
			sum.Tables[n].Windows += t.Windows
			sum.Tables[n].Different += t.Different
			sum.Tables[n].Behind += t.Behind
		}
		sum.Differences = append(sum.Differences, r.Differences...)
	}
	sum.Verdict = sum.verdict()
	return sum
}

// verdict is the worst that there is to say.
func (r Report) verdict() Verdict {
	for _, t := range r.Tables {
		if t.Different > 0 {
			return Wrong
		}
	}
	switch {
	case r.stopped:
		return Behind
	case r.unproved || r.compared() == 0:
		return Nothing
	default:
		return Right
	}
}

// compared is how many rows were compared.
func (r Report) compared() (rows uint64) {
	for _, t := range r.Tables {
		rows += t.Windows
	}
	return rows
}

// WriteJSON writes one line.
func (r Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteText writes it for people.
func (r Report) WriteText(w io.Writer) error {
	const layout = "2006-01-02 15:04"
	if r.Verdict == Nothing {
		_, err := fmt.Fprintf(w, "Nothing to check from %s to %s UTC: %s.\n", r.From.Format(layout), r.To.Format(layout), r.whyNothing())
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "From %s to %s UTC, %d samples:\n", r.From.Format(layout), r.To.Format(layout), r.Samples)
	var behind uint64
	for _, t := range r.Tables {
		fmt.Fprintf(&text, "  %s: %d rows compared, %d differ\n", t.Name, t.Windows, t.Different)
		behind += t.Behind
	}
	for _, d := range r.Differences {
		what := d.Column + " is "
		if d.Column == "" {
			what = ""
		}
		of := ""
		if whose := strings.Trim(strings.Join(d.Whose, ", "), ", "); whose != "" {
			of = " (" + whose + ")"
		}
		fmt.Fprintf(&text, "  %s %s GPU %s%s: %s%s, the samples make %s\n", d.Table, d.Window.Format(layout), d.GPU, of, what, d.Stored, d.Made)
	}
	switch {
	case behind > 0:
		fmt.Fprintf(&text, "%d rows were made of fewer samples than there are. If these came late, they are rolled up within ten minutes: check again.\n", behind)
	case r.Verdict == Wrong:
		fmt.Fprintf(&text, "Make them anew: gpufleet rollups rebuild --since %s --until %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	case r.compared() > 0:
		text.WriteString("Every row is what the samples make.\n")
	}
	if r.stopped {
		fmt.Fprintf(&text, "The rollups have come to %s UTC, and no further: what is newer was not compared. Is there a collector that makes them, and what does its log say?\n", r.RolledUpUntil.Format(layout))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (r Report) whyNothing() string {
	if r.unproved {
		return "there are samples, on one shard at least, and no rollups of them yet"
	}
	return "no samples that are still kept, and no rollups"
}
