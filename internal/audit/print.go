// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

// WriteJSON writes the report as one line, for programs.
func (r Report) WriteJSON(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// WriteText writes the report for people: the agents, the gaps, and a closing line.
func (r Report) WriteText(w io.Writer) error {
	if err := r.writeLines(w); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(w, "gap: %s %s: %s of the agent's life from %s\n", g.Node, g.Table, g.batches(), moment(time.UnixMilli(int64(g.Epoch))))
	}
	if r.GapsLeftOut > 0 {
		fmt.Fprintf(w, "and %s gaps more\n", number(r.GapsLeftOut))
	}
	for _, t := range r.Tables {
		if t.Since.After(r.Since) {
			fmt.Fprintf(w, "%s is audited since %s: older rows go by age\n", t.Name, moment(t.Since))
		}
	}
	text := fmt.Sprintf("%s lost, %s duplicated in %s batches of %s agents since %s", number(r.Lost), number(r.Duplicated), number(r.Batches), number(r.Agents), moment(r.Since))
	if r.settle > 0 {
		text += fmt.Sprintf(", without those of the last %s", r.settle)
	}
	if r.Quarantined > 0 {
		text += fmt.Sprintf("; %s in quarantine", number(r.Quarantined))
	}
	if r.Unrecorded > 0 {
		text += fmt.Sprintf("; %s stored and not recorded: a collector records them when it starts", number(r.Unrecorded))
	}
	if _, err := fmt.Fprintln(w, text); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

func (r Report) writeLines(w io.Writer) error {
	if len(r.Lines) == 0 {
		return nil
	}
	fmt.Fprintf(w, "%12s %12s %12s %10s %11s %11s  %-15s %s\n", "sent", "stored", "quarantined", "lost", "duplicated", "unrecorded", "table", "agent")
	for _, l := range r.Lines {
		if _, err := fmt.Fprintf(w, "%12d %12d %12d %10d %11d %11d  %-15s %s\n",
			l.Sent, l.Stored, l.Quarantined, l.Lost, l.Duplicated, l.Unrecorded, l.Table, l.Node); err != nil {
			return err
		}
	}
	return nil
}

func (g Gap) batches() string {
	if g.From == g.To {
		return fmt.Sprintf("batch %d", g.From)
	}
	return fmt.Sprintf("batches %d to %d", g.From, g.To)
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// number groups the digits by three.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
