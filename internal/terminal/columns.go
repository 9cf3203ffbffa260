// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"strings"
	"unicode/utf8"
)

// gap is between two columns.
const gap = 2

// Columns lay rows of cells out below each other.
type Columns struct {
	Left      []bool // columns whose cells begin at the left; the others end at the right
	Narrowest []int  // keeps columns from moving when their figures get a digit more
	Elastic   int    // the one column that is cut if all are too wide
	Least     int    // what is left of it then
}

// Lines are the rows, no wider than the terminal if the elastic column can give way that far.
func (c Columns) Lines(rows [][]string, width int) []string {
	widths := c.widths(rows, width)
	lines := make([]string, len(rows))
	for i, cells := range rows {
		lines[i] = c.aligned(cells, widths)
	}
	return lines
}

// widths are as wide as what stands in the columns.
func (c Columns) widths(rows [][]string, width int) []int {
	widths := append([]int(nil), c.Narrowest...)
	for _, cells := range rows {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	needed := gap * (len(widths) - 1)
	for _, w := range widths {
		needed += w
	}
	widths[c.Elastic] = max(widths[c.Elastic]-max(needed-width, 0), c.Least)
	return widths
}

func (c Columns) aligned(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		cell = Cut(cell, widths[i])
		padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if c.Left[i] {
			b.WriteString(cell + padding)
		} else {
			b.WriteString(padding + cell)
		}
	}
	return b.String()
}
