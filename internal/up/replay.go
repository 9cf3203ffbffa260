// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/internal/terminal"
	"github.com/gpufleet/gpufleet/schema"
)

// newReplay plays a recording as the node that it was made on, again and again.
func (p *pipeline) newReplay() (*simulation, error) {
	played := p.recording
	cfg := agent.DefaultConfig()
	cfg.Collector, cfg.Token, cfg.Flush = p.address, p.key.For(played.Provenance.Node), p.cfg.Flush
	cfg.DrainWait, cfg.Logger = drainWait, p.logger
	a, err := agent.NewReplay(cfg, played, agent.ReplayOptions{Loop: true})
	if err != nil {
		return nil, err
	}
	return &simulation{
		agents: []*agent.Agent{a}, what: describeRecording(played),
		label: "recorded on " + played.Provenance.RecordedAt.UTC().Format(time.DateOnly),
	}, nil
}

// describeRecording says whose readings are shown, and how much there is of them: nobody shall take them for live ones.
func describeRecording(r *recording.Recording) string {
	from := r.Provenance
	lines := []string{"playing a recording again and again, with its times moved to now: nothing of this is live", from.String()}
	if from.Machine != "" {
		lines = append(lines, "on a "+from.Machine)
	}
	if from.Licence != "" {
		lines = append(lines, "licence of the readings: "+from.Licence)
	}
	lines = append(lines, "it holds "+holds(r)+"; what it does not hold is NULL")
	for _, note := range from.Notes {
		lines = append(lines, "note: "+note)
	}
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n  ")
}

// holds counts the rows by tables.
func holds(r *recording.Recording) string {
	var parts []string
	for _, t := range schema.Tables() {
		if n := r.Rows(t.ID); n > 0 {
			parts = append(parts, counted(uint64(n), "row")+" of "+t.Name)
		}
	}
	return fmt.Sprintf("%s over %s", strings.Join(parts, ", "), r.Last.Sub(r.First).Round(time.Second))
}

// printable keeps what a file says from steering a terminal, and from filling it.
func printable(text string) string {
	const longest = 500
	return terminal.Cut(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text), longest)
}
