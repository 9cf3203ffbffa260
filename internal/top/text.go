// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/gpufleet/gpufleet/internal/terminal"
)

// text is the snapshot in lines: what is wrong first.
func (s *Snapshot) text(width int) []string {
	lines := []string{s.head()}
	lines = append(lines, s.wrongLines()...)
	lines = append(lines, "")
	lines = append(lines, s.collectorLines(width)...)
	if lanes := s.laneLines(width); len(lanes) > 1 {
		lines = append(append(lines, ""), lanes...)
	}
	if reasons := s.lossLines(width); len(reasons) > 1 {
		lines = append(append(lines, ""), reasons...)
	}
	return lines
}

func (s *Snapshot) head() string {
	text := s.At.UTC().Format(time.DateTime) + " UTC"
	if s.Store == nil {
		return text
	}
	gpus := strconv.FormatUint(s.Store.GPUs, 10)
	if s.Store.Silent > 0 {
		gpus += fmt.Sprintf(" of %d", s.Store.GPUs+s.Store.Silent)
	}
	nodes := fmt.Sprintf("%d nodes", s.Store.Nodes)
	if s.Store.Nodes == 1 {
		nodes = "1 node"
	}
	return fmt.Sprintf("%s  %s GPUs of %s give %s rows/s, age %s  ClickHouse %s", text, gpus, nodes, rate(&s.Store.RowsPerSecond), seconds(s.Store.AgeSeconds), s.Store.Version)
}

func (s *Snapshot) wrongLines() []string {
	if len(s.Wrong) == 0 {
		return []string{"ok     nothing is wrong"}
	}
	lines := make([]string, len(s.Wrong))
	for i, w := range s.Wrong {
		lines[i] = "wrong  " + w
	}
	return lines
}

// figures is a layout of a name, which gives way, and figures.
func figures(narrowest ...int) terminal.Columns {
	c := terminal.Columns{Narrowest: narrowest, Least: 12}
	for i := range narrowest {
		c.Left = append(c.Left, i == 0)
	}
	return c
}

func (s *Snapshot) collectorLines(width int) []string {
	rows := [][]string{{"collector", "nodes", "rows/s", "stored/s", "bytes/s", "oldest", "log", "memory", "quar."}}
	for _, c := range s.Collectors {
		if c.Error != "" {
			rows = append(rows, []string{c.Address, "–", "–", "–", "–", "–", "–", "–", "–"})
			continue
		}
		rows = append(rows, []string{
			c.Address, strconv.FormatInt(c.Nodes, 10), rate(c.RowsPerSecond), rate(c.StoredPerSecond), bytes(c.BytesPerSecond),
			seconds(&c.OldestSeconds), percent(c.Log), percent(c.Memory), percent(c.Quarantine),
		})
	}
	return figures(16, 5, 6, 8, 7, 6, 4, 6, 5).Lines(rows, width)
}

// laneLines adds the lanes of all collectors up, table by table.
func (s *Snapshot) laneLines(width int) []string {
	rows := [][]string{{"table", "streams", "rows/s", "stored/s", "p50", "p99", "log", "memory"}}
	for _, l := range s.lanes() {
		if l.Streams == 0 && perSecond(l.RowsPerSecond) == 0 && perSecond(l.StoredPerSecond) == 0 && l.Memory.Bytes == 0 {
			continue // nobody sends any
		}
		rows = append(rows, []string{
			l.Table, strconv.FormatInt(l.Streams, 10), rate(l.RowsPerSecond), rate(l.StoredPerSecond),
			seconds(l.FreshnessP50), seconds(l.FreshnessP99), percent(l.Log), percent(l.Memory),
		})
	}
	return figures(16, 7, 6, 8, 6, 6, 4, 6).Lines(rows, width)
}

// lanes are of all collectors together, in the order of their tables. Of freshness it is the worst collector's.
func (s *Snapshot) lanes() (all []Lane) {
	place := make(map[string]int)
	for _, c := range s.Collectors {
		for _, l := range c.Lanes {
			i, known := place[l.Table]
			if !known {
				place[l.Table] = len(all)
				all = append(all, l)
				continue
			}
			sum := &all[i]
			sum.Streams += l.Streams
			sum.RowsPerSecond, sum.StoredPerSecond = added(sum.RowsPerSecond, l.RowsPerSecond), added(sum.StoredPerSecond, l.StoredPerSecond)
			sum.FreshnessP50, sum.FreshnessP99 = worse(sum.FreshnessP50, l.FreshnessP50), worse(sum.FreshnessP99, l.FreshnessP99)
			sum.Log.Bytes, sum.Log.Limit = sum.Log.Bytes+l.Log.Bytes, sum.Log.Limit+l.Log.Limit
			sum.Memory.Bytes, sum.Memory.Limit = sum.Memory.Bytes+l.Memory.Bytes, sum.Memory.Limit+l.Memory.Limit
		}
	}
	return all
}

func added(a, b *float64) *float64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return new(*a + *b)
}

func worse(a, b *float64) *float64 {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return new(max(*a, *b))
}

// lossLines adds what all collectors refuse up by reason. What went on last comes first.
func (s *Snapshot) lossLines(width int) []string {
	all, place := []Loss{}, make(map[string]int)
	for _, c := range s.Collectors {
		for _, l := range c.Losses {
			i, known := place[l.String()]
			if !known {
				place[l.String()] = len(all)
				all = append(all, l)
				continue
			}
			all[i].Total += l.Total
			all[i].PerSecond = added(all[i].PerSecond, l.PerSecond)
		}
	}
	slices.SortStableFunc(all, worstFirst)
	rows := [][]string{{"refused, failed, sent again", "per s", "since start"}}
	for _, l := range all {
		rows = append(rows, []string{l.String(), rate(l.PerSecond), strconv.FormatUint(l.Total, 10)})
	}
	return figures(27, 8, 11).Lines(rows, width)
}

// rate shows that something comes, however slowly.
func rate(perSecond *float64) string {
	switch {
	case perSecond == nil:
		return "–"
	case *perSecond > 0 && *perSecond < 10:
		return fmt.Sprintf("%.1f", max(*perSecond, 0.1))
	default:
		return fmt.Sprintf("%.0f", *perSecond)
	}
}

// bytes are in the unit that suits them.
func bytes(perSecond *float64) string {
	if perSecond == nil {
		return "–"
	}
	n, unit := *perSecond, "B"
	for _, larger := range []string{"kB", "MB", "GB"} {
		if n < 1000 {
			break
		}
		n, unit = n/1000, larger
	}
	if unit == "B" || n >= 100 {
		return fmt.Sprintf("%.0f %s", n, unit)
	}
	return fmt.Sprintf("%.1f %s", n, unit)
}

func seconds(s *float64) string {
	switch {
	case s == nil:
		return "–"
	case *s < 100:
		return fmt.Sprintf("%.1f s", *s)
	case *s < 2*3600:
		return fmt.Sprintf("%.0f min", *s/60)
	default:
		return fmt.Sprintf("%.0f h", *s/3600)
	}
}

// percent rounds up: what is not empty does not look so.
func percent(f Fill) string {
	share := f.share()
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", math.Ceil(100**share))
}
