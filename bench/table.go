// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// printTable prints the figures, those with a budget beside it.
func printTable(w io.Writer, figures map[string]float64) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%-44s %14s %14s\n", "figure", "measured", "budget")
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		bound, verdict := "", ""
		if b, ok := budgets[name]; ok {
			bound = fmt.Sprintf("%s %.10g", b.sign(), b.bound)
			if !b.kept(figures[name]) {
				verdict = "  not reached"
			}
		}
		fmt.Fprintf(&text, "%-44s %14.5g %14s%s\n", name, figures[name], bound, verdict)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
