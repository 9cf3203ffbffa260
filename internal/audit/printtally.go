// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// WriteJSON writes the tally as one line, for programs.
func (t Tally) WriteJSON(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(t); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// WriteText writes the tally for people: a line for each hour or node, the gaps, and a closing line.
func (t Tally) WriteText(w io.Writer) error {
	if err := t.writeGroups(w); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	for _, g := range t.Gaps {
		fmt.Fprintf(w, "gap in the hour of %s: %s %s: %s of the agent's life from %s\n", moment(g.Hour), g.Node, g.Table, g.batches(), moment(time.UnixMilli(int64(g.Epoch))))
	}
	if t.GapsLeftOut > 0 {
		fmt.Fprintf(w, "and %s gaps more\n", number(t.GapsLeftOut))
	}
	if _, err := fmt.Fprintln(w, t.summary()); err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

func (t Tally) writeGroups(w io.Writer) error {
	if len(t.Groups) == 0 {
		return nil
	}
	what := "agent"
	if t.By == ByHour {
		what = "hour"
	}
	fmt.Fprintf(w, "%12s %12s %12s %10s %11s %8s  %s\n", "sent", "stored", "quarantined", "lost", "duplicated", "agents", what)
	for _, g := range t.Groups {
		name := g.Node
		if t.By == ByHour {
			name = moment(g.Hour)
		}
		if _, err := fmt.Fprintf(w, "%12d %12d %12d %10d %11d %8d  %s\n", g.Sent, g.Stored, g.Quarantined, g.Lost, g.Duplicated, g.Agents, name); err != nil {
			return err
		}
	}
	return nil
}

func (t Tally) summary() string {
	if t.Verdict == Nothing {
		return fmt.Sprintf("nothing to audit: no agent has a batch that was recorded from %s to %s", moment(t.Since), moment(t.Until))
	}
	text := fmt.Sprintf("%s lost, %s duplicated in %s of %s, by the ledger from %s to %s", number(t.Lost), number(t.Duplicated),
		count(t.Batches, "batch", "batches"), count(t.Agents, "agent", "agents"), moment(t.Since), moment(t.Until))
	if t.Quarantined > 0 {
		text += fmt.Sprintf("; %s in quarantine", number(t.Quarantined))
	}
	return text + "; the rows themselves are counted without --by"
}
