// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent"
	"github.com/gpufleet/gpufleet/internal/terminal"
)

// view is what is shown at one moment.
type view struct {
	places  []place
	stats   agent.Stats
	known   bool // the agents could be asked for stats
	running time.Duration
	readers string // whose readings these are, if they are not this machine's
}

// column is one of the table.
type column struct {
	head string
	left bool // of its width
	cell func(p place) string
}

// regionColumn is the place of the one column that may be cut.
const regionColumn = 1

var columns = []column{
	{"cloud", true, func(p place) string { return p.Provider }},
	{"region", true, func(p place) string { return p.Region }},
	{"GPUs", false, gpusOf},
	{"busy", false, func(p place) string { return known("%.1f %%", p.Busy, 100) }},
	{"power", false, func(p place) string { return power(p.PowerWatts) }},
	{"margin", false, func(p place) string { return margin(p.Margin) }},
	{"faults", false, func(p place) string { return strconv.FormatUint(p.Faults, 10) }},
	{"rows/s", false, func(p place) string { return rate(p.RowsPerSec) }},
	{"age", false, func(p place) string { return known("%.1f s", p.Freshness, 1) }},
}

// gpusOf is how many GPUs give rows, of how many if some do not.
func gpusOf(p place) string {
	if p.Silent == 0 {
		return strconv.FormatUint(p.GPUs, 10)
	}
	return fmt.Sprintf("%d/%d", p.GPUs, p.GPUs+p.Silent)
}

// table is the live table: a head, a line for each region, one for all, and one about the agents.
func table(v view, width int) []string {
	if len(v.places) == 0 {
		return []string{"no rows yet", footer(v)}
	}
	all := total(v.places)
	all.Provider = "all"
	rows := [][]string{make([]string, len(columns))}
	for i, c := range columns {
		rows[0][i] = c.head
	}
	for _, p := range append(append([]place(nil), v.places...), all) {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = c.cell(p)
		}
		rows = append(rows, cells)
	}
	return append(layout().Lines(rows, width), footer(v))
}

// layout of the table; the region gives way if it is too wide.
func layout() terminal.Columns {
	l := terminal.Columns{Narrowest: []int{7, 10, 5, 7, 7, 6, 6, 6, 5}, Elastic: regionColumn, Least: len("region")}
	for _, c := range columns {
		l.Left = append(l.Left, c.left)
	}
	return l
}

// summary is the same in one line.
func summary(v view) string {
	if len(v.places) == 0 {
		return "no rows yet; " + footer(v)
	}
	all := total(v.places)
	gpus := counted(all.GPUs, "GPU")
	if all.Silent > 0 {
		gpus += fmt.Sprintf(" (%d silent)", all.Silent)
	}
	return fmt.Sprintf("%s, busy %s, power %s, smallest margin %s, %s in 10 minutes, %s rows/s, age %s; %s",
		gpus, known("%.1f %%", all.Busy, 100), power(all.PowerWatts), margin(all.Margin), counted(all.Faults, "fault"),
		rate(all.RowsPerSec), known("%.1f s", all.Freshness, 1), footer(v))
}

func footer(v view) string {
	text := v.running.Round(time.Second).String()
	if v.readers != "" {
		text += ", " + v.readers
	}
	if v.known {
		text += fmt.Sprintf("; %s (%d missed, %d late), %s waiting", counted(v.stats.Ticks, "tick"), v.stats.MissedTicks, v.stats.LateTicks, counted(uint64(v.stats.BatchesWaiting), "batch"))
	}
	return text
}

// counted is a number and what it counts.
func counted(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "ch"):
		return fmt.Sprintf("%d %ses", n, what)
	default:
		return fmt.Sprintf("%d %ss", n, what)
	}
}

// known prints a figure times a factor, or a dash where nobody measured it.
func known(format string, figure *float64, factor float64) string {
	if figure == nil {
		return "–"
	}
	return fmt.Sprintf(format, *figure*factor)
}

// power is in the unit that suits it: one GPU idles at 70 W, a fleet draws megawatts.
func power(watts *float64) string {
	switch {
	case watts == nil || *watts < 1e3:
		return known("%.0f W", watts, 1)
	case *watts < 1e6:
		return known("%.1f kW", watts, 1e-3)
	default:
		return known("%.2f MW", watts, 1e-6)
	}
}

func margin(celsius *int16) string {
	if celsius == nil {
		return "–"
	}
	return fmt.Sprintf("%d °C", *celsius)
}

// rate shows that something comes, however slowly.
func rate(perSecond float64) string {
	if perSecond < 10 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return fmt.Sprintf("%.0f", perSecond)
}

// total adds the places up.
func total(places []place) (sum place) {
	var busy, busyGPUs, power float64
	for _, p := range places {
		sum.GPUs += p.GPUs
		sum.Silent += p.Silent
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
		if p.Freshness != nil && (sum.Freshness == nil || *p.Freshness > *sum.Freshness) {
			sum.Freshness = p.Freshness
		}
		if p.Margin != nil && (sum.Margin == nil || *p.Margin < *sum.Margin) {
			sum.Margin = p.Margin
		}
	}
	if busyGPUs > 0 {
		sum.Busy = new(busy / busyGPUs)
	}
	return sum
}
