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
	if err := r.writeRefusals(w); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	for _, t := range r.Tables {
		if t.Since.After(r.Since) {
			fmt.Fprintf(w, "%s is audited since %s: older rows go by age\n", t.Name, moment(t.Since))
		}
	}
	closing := r.summary()
	if r.Verdict == Nothing {
		closing = r.nothing()
	}
	if _, err := fmt.Fprintln(w, closing); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// summary is the closing line of an audit that looked at something.
func (r Report) summary() string {
	text := fmt.Sprintf("%s lost, %s duplicated in %s of %s, recorded from %s to %s", number(r.Lost), number(r.Duplicated),
		count(r.Batches, "batch", "batches"), count(r.Agents, "agent", "agents"), moment(r.Since), moment(r.Until))
	if r.OnTheirWay.Batches > 0 {
		text += fmt.Sprintf("; %s of the last %s left out: more may be on its way", count(r.OnTheirWay.Batches, "batch", "batches"), r.settle)
	}
	if r.Quarantined > 0 {
		text += fmt.Sprintf("; %s in quarantine", number(r.Quarantined))
	}
	if r.Unrecorded > 0 {
		text += fmt.Sprintf("; %s stored and not recorded: a collector records them when it starts", number(r.Unrecorded))
	}
	return text
}

// nothing is the closing line of an audit that had nothing to look at: it must not read like a pass.
func (r Report) nothing() string {
	text := fmt.Sprintf("nothing to audit yet: no agent has a batch that was recorded from %s to %s; ", moment(r.Since), moment(r.Until))
	switch {
	case r.OnTheirWay.Batches > 0:
		return text + fmt.Sprintf("%s of %s of the last %s left out, as more may be on its way: ask again in a minute",
			count(r.OnTheirWay.Batches, "batch", "batches"), count(r.OnTheirWay.Agents, "agent", "agents"), r.settle)
	case r.newest.IsZero():
		return text + "the ledger is empty: no collector has stored anything here. Do agents and a collector run?"
	default:
		return text + fmt.Sprintf("the newest entry of the ledger is of %s: --since looks further back", moment(r.newest))
	}
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

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// number groups the digits by three.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
