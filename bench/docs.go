// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/template"

	"github.com/gpufleet/gpufleet/internal/docpage"
)

//go:generate go run . --tables --out results.json --docs ../docs/benchmarks.md

// tables.tmpl has a template for each part, by its name: what stands in the documentation as the table bench NAME.
//
//go:embed tables.tmpl
var tables string

// writeDocs puts the figures into the documentation: what stands there was measured, and is what the results say.
func writeDocs(path string, r results) error {
	before, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	after, err := withTables(string(before), r)
	if err != nil {
		return fmt.Errorf("write tables: %s: %w", path, err)
	}
	if after == string(before) {
		return nil
	}
	if err := os.WriteFile(path, []byte(after), 0o644); err != nil { //nolint:gosec // documentation for everybody
		return fmt.Errorf("write tables: %w", err)
	}
	return nil
}

// withTables is the text with all its tables made anew.
func withTables(text string, r results) (string, error) {
	all, err := template.New("tables").Funcs(template.FuncMap{"figure": r.figure, "budget": r.budget, "measured": r.measured}).Parse(tables)
	if err != nil {
		return "", fmt.Errorf("read templates: %w", err)
	}
	for _, name := range parts {
		var table strings.Builder
		if err := r.table(&table, all, name); err != nil {
			return "", err
		}
		if text, err = docpage.WithTable(text, "bench "+string(name), table.String()); err != nil {
			return "", err
		}
	}
	return text, nil
}

func (r results) table(to *strings.Builder, all *template.Template, name part) error {
	if r.measured(name).At.IsZero() {
		fmt.Fprintf(to, "Not measured yet: `make %s`.", commands[name])
		return nil
	}
	return all.ExecuteTemplate(to, string(name), r.measured(name))
}

// measured is how a part was measured.
func (r results) measured(name part) measured {
	if name == partPipeline {
		return measured{Machine: r.Machine, Version: r.Version, ClickHouse: r.ClickHouse, At: r.Measured, Data: r.Data, Command: r.Command}
	}
	return r.Runs[name]
}

// figure is a figure with so many decimals, and commas between thousands; – if it was not measured.
func (r results) figure(name string, decimals int) string {
	value, ok := r.Figures[name]
	if !ok {
		return "–"
	}
	return grouped(value, decimals)
}

func grouped(value float64, decimals int) string {
	text := strconv.FormatFloat(value, 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

// budget is the bound of a figure and, if it is not kept, that and why.
func (r results) budget(name string, why ...string) (string, error) {
	b, ok := budgets[name]
	if !ok {
		return "", fmt.Errorf("figure %s has no budget", name)
	}
	text := b.sign() + " " + grouped(b.bound, decimalsOf(b.bound))
	if value, ok := r.Figures[name]; ok && !b.kept(value) {
		text += strings.Join(append([]string{": not reached"}, why...), ", ")
	}
	return text, nil
}

// decimalsOf is how many decimals it takes to write a bound.
func decimalsOf(bound float64) int {
	_, fraction, _ := strings.Cut(strconv.FormatFloat(bound, 'f', -1, 64), ".")
	return len(fraction)
}
