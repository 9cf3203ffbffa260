// SPDX-License-Identifier: Apache-2.0

// Package catalog shows the tables and views of this version to people, and compares them with those of
// a database.
package catalog

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/schema"
)

// Format is how the catalog is written.
type Format string

// The formats.
const (
	Text     Format = "table" // for a terminal
	SQL      Format = "sql"   // statements that make the objects
	Markdown Format = "md"
)

// Object is a table, view or feed.
type Object struct {
	Name     string
	Kind     string // table, view, feed
	Meaning  string
	KeptDays int // rows go after so many days; 0: never, or not stored
	Columns  []Column
	Create   func(database string) string
}

// Column is one column of an Object.
type Column struct {
	Name, Type, Unit, Meaning string
}

// Objects lists all of this version, in the order in which they can be made.
func Objects() []Object {
	var all []Object
	for _, t := range schema.StoredTables() {
		o := Object{Name: t.Name, Kind: "table", Meaning: t.Meaning, KeptDays: t.TTLDays, Create: t.CreateTable}
		for _, c := range t.Columns {
			o.Columns = append(o.Columns, Column{c.Name, c.ClickHouseType(), c.Unit, c.Meaning})
		}
		all = append(all, o)
	}
	for _, f := range schema.Feeds() {
		all = append(all, Object{Name: f.Name, Kind: "feed", Meaning: f.Meaning, Create: f.CreateFeed})
	}
	for _, v := range schema.Views() {
		o := Object{Name: v.Name, Kind: "view", Meaning: v.Meaning, Create: v.CreateView}
		for _, c := range v.Columns {
			o.Columns = append(o.Columns, Column{c.Name, c.Type, c.Unit, c.Meaning})
		}
		all = append(all, o)
	}
	return all
}

// Find picks the object of the name; the error names similar ones.
func Find(name string) (Object, error) {
	all := Objects()
	if i := slices.IndexFunc(all, func(o Object) bool { return o.Name == name }); i >= 0 {
		return all[i], nil
	}
	var similar []string
	for _, o := range all {
		if strings.Contains(o.Name, name) || strings.Contains(name, o.Name) {
			similar = append(similar, o.Name)
		}
	}
	if len(similar) == 0 {
		return Object{}, fmt.Errorf("no table or view %s: `gpufleet schema` lists them", name)
	}
	return Object{}, fmt.Errorf("no table or view %s: is it %s?", name, strings.Join(similar, " or "))
}

// WriteList writes the objects, without their columns unless the format is SQL.
func WriteList(w io.Writer, all []Object, format Format, database string) error {
	switch format {
	case SQL:
		for _, o := range all {
			if err := o.Write(w, SQL, database); err != nil {
				return err
			}
		}
		return nil
	case Markdown, Text:
		rows := [][]string{{"name", "kind", "columns", "kept", "meaning"}}
		for _, o := range all {
			rows = append(rows, []string{o.Name, o.Kind, strconv.Itoa(len(o.Columns)), o.kept(), o.Meaning})
		}
		return writeRows(w, rows, format)
	default:
		return fmt.Errorf("format %q: table, sql or md", format)
	}
}

func (o Object) kept() string {
	switch {
	case o.Kind != "table":
		return "–"
	case o.KeptDays == 0:
		return "for good"
	default:
		return fmt.Sprintf("%d days", o.KeptDays)
	}
}

// Write writes one object with its columns.
func (o Object) Write(w io.Writer, format Format, database string) error {
	switch format {
	case SQL:
		_, err := fmt.Fprintf(w, "%s;\n\n", o.Create(database))
		return err
	case Markdown:
		fmt.Fprintf(w, "## %s\n\n%s\n\n", o.Name, o.Meaning)
	case Text:
		fmt.Fprintf(w, "%s (%s, kept: %s)\n%s\n\n", o.Name, o.Kind, o.kept(), o.Meaning)
	default:
		return fmt.Errorf("format %q: table, sql or md", format)
	}
	rows := [][]string{{"column", "type", "unit", "meaning"}}
	for _, c := range o.Columns {
		rows = append(rows, []string{c.Name, c.Type, c.Unit, c.Meaning})
	}
	return writeRows(w, rows, format)
}

// writeRows writes rows under their header. The last column is not padded: it is prose.
func writeRows(w io.Writer, rows [][]string, format Format) error {
	if format == Markdown {
		rows = slices.Insert(slices.Clone(rows), 1, strings.Split(strings.Repeat("--- ", len(rows[0]))[:4*len(rows[0])-1], " "))
		for _, row := range rows {
			if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(escaped(row), " | ")); err != nil {
				return err
			}
		}
		return nil
	}
	widths := make([]int, len(rows[0])-1)
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, width := range widths {
			line.WriteString(row[i] + strings.Repeat(" ", width-utf8.RuneCountInString(row[i])+2))
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String()+row[len(widths)], " ")); err != nil {
			return err
		}
	}
	return nil
}

func escaped(row []string) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		cells[i] = strings.ReplaceAll(cell, "|", "\\|")
	}
	return cells
}
