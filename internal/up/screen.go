// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gpufleet/gpufleet/agent"
)

// screen shows what happens: on a terminal a table that is redrawn in place, elsewhere plain lines.
type screen struct {
	out      io.Writer
	terminal bool
	silent   bool

	mu    sync.Mutex // guards drawn
	drawn int        // lines of the table that stand on the terminal
}

func newScreen(cfg Config) *screen {
	return &screen{out: cfg.Out, terminal: cfg.Terminal, silent: cfg.JSON}
}

// interval between two views: a log needs fewer than a person who watches.
func (s *screen) interval() time.Duration {
	if s.terminal {
		return time.Second
	}
	return 5 * time.Second
}

// say prints a line above the table.
func (s *screen) say(format string, args ...any) {
	if s.silent {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eraseLocked()
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *screen) eraseLocked() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\r\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// show draws the table.
func (s *screen) show(places []place, stats agent.Stats, known bool, running time.Duration) {
	if s.silent {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := table(places, stats, known, running)
	if !s.terminal {
		text = summary(places, stats, known, running)
	}
	s.eraseLocked()
	io.WriteString(s.out, text) //nolint:errcheck // nobody to tell
	if s.terminal {
		s.drawn = strings.Count(text, "\n")
	}
}

// table is the live table with a line for each region and one for all.
func table(places []place, stats agent.Stats, asked bool, running time.Duration) string {
	var b strings.Builder
	line := func(cloud, region string, p place) {
		fmt.Fprintf(&b, "%-8s %-18s %7d %8s %9s %8s %7d %9.0f %8.1f\n",
			cloud, region, p.GPUs, known("%.1f %%", p.Busy, 100), known("%.1f", p.PowerWatts, 1e-3), margin(p.Margin), p.Faults, p.RowsPerSec, p.Freshness)
	}
	fmt.Fprintf(&b, "%-8s %-18s %7s %8s %9s %8s %7s %9s %8s\n", "cloud", "region", "GPUs", "busy", "power kW", "margin", "faults", "rows/s", "age s")
	for _, p := range places {
		line(p.Provider, p.Region, p)
	}
	line("all", "", total(places))
	b.WriteString(footer(stats, asked, running))
	return b.String()
}

// summary is the same in one line.
func summary(places []place, stats agent.Stats, asked bool, running time.Duration) string {
	all := total(places)
	return fmt.Sprintf("%d GPUs, busy %s, power %s, smallest margin %s, %d faults in 10 minutes, %.0f rows/s, age %.1f s; %s",
		all.GPUs, known("%.1f %%", all.Busy, 100), known("%.1f kW", all.PowerWatts, 1e-3), margin(all.Margin), all.Faults, all.RowsPerSec, all.Freshness, footer(stats, asked, running))
}

func footer(stats agent.Stats, known bool, running time.Duration) string {
	text := running.Round(time.Second).String()
	if known {
		text += fmt.Sprintf(", %d ticks (%d missed, %d late), %d batches wait", stats.Ticks, stats.MissedTicks, stats.LateTicks, stats.BatchesWaiting)
	}
	return text + "\n"
}

// known prints a figure times a factor, or a dash where nobody measured it.
func known(format string, figure *float64, factor float64) string {
	if figure == nil {
		return "–"
	}
	return fmt.Sprintf(format, *figure*factor)
}

func margin(celsius *int16) string {
	if celsius == nil {
		return "–"
	}
	return fmt.Sprintf("%d °C", *celsius)
}

// total adds the places up.
func total(places []place) (sum place) {
	var busy, busyGPUs, power float64
	for _, p := range places {
		sum.GPUs += p.GPUs
		if p.Busy != nil {
			busy += *p.Busy * float64(p.GPUs)
			busyGPUs += float64(p.GPUs)
		}
		if p.PowerWatts != nil {
			power += *p.PowerWatts
			sum.PowerWatts = &power
		}
		sum.Faults += p.Faults
		sum.RowsPerSec += p.RowsPerSec
		sum.Freshness = max(sum.Freshness, p.Freshness)
		if p.Margin != nil && (sum.Margin == nil || *p.Margin < *sum.Margin) {
			sum.Margin = p.Margin
		}
	}
	if busyGPUs > 0 {
		sum.Busy = new(busy / busyGPUs)
	}
	return sum
}
