// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/schema"
)

// TestTablesDoNotChangeWithoutAVersion holds the statements against those of the version, as they were
// committed. They are in databases: a change is a new version, see DESIGN.md.
func TestTablesDoNotChangeWithoutAVersion(t *testing.T) {
	var statements []string
	for _, table := range schema.StoredTables() {
		statements = append(statements, table.CreateTable("gpufleet"))
	}
	for _, feed := range schema.Feeds() {
		statements = append(statements, feed.CreateFeed("gpufleet"))
	}
	want, err := os.ReadFile(fmt.Sprintf("testdata/versions/%d.sql", schema.Version))
	if err != nil {
		t.Fatalf("%v: if version %d is new, write it with: go generate ./schema/...", err, schema.Version)
	}
	if diff := cmp.Diff(string(want), strings.Join(statements, ";\n\n")+";\n"); diff != "" {
		t.Errorf("the tables are not those of version %d: raise schema.Version, see DESIGN.md\n(-version %[1]d +now):\n%s", schema.Version, diff)
	}
}

func TestViewsAreAsReviewed(t *testing.T) {
	var statements []string
	for _, view := range schema.Views() {
		statements = append(statements, view.CreateView("gpufleet"))
	}
	want, err := os.ReadFile("testdata/views.sql")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.Join(statements, ";\n\n")+";\n"); diff != "" {
		t.Errorf("views have changed. If that is meant, run: go generate ./schema/...\n(-reviewed +now):\n%s", diff)
	}
}

// TestVersionsOnlyAdd compares each version with the one before it.
func TestVersionsOnlyAdd(t *testing.T) {
	files, err := filepath.Glob("testdata/versions/*.sql")
	if err != nil || len(files) != schema.Version {
		t.Fatalf("%d files for %d versions, %v", len(files), schema.Version, err)
	}
	var earlier map[string]string
	for version := 1; version <= schema.Version; version++ {
		text, err := os.ReadFile(fmt.Sprintf("testdata/versions/%d.sql", version))
		if err != nil {
			t.Fatal(err)
		}
		now := columnsIn(string(text))
		if len(now) < 100 {
			t.Fatalf("version %d has %d columns: they are not found", version, len(now))
		}
		for _, change := range changesBetween(earlier, now) {
			t.Errorf("version %d: %s", version, change)
		}
		earlier = now
	}
}

var (
	createLine = regexp.MustCompile("^CREATE TABLE IF NOT EXISTS `gpufleet`.`(\\w+)`$")
	columnLine = regexp.MustCompile("^    `(\\w+)` (.*?) COMMENT '.* CODEC\\((.*)\\),?$")
)

// columnsIn finds the type of each column in statements: by table.column.
func columnsIn(statements string) map[string]string {
	columns, table := map[string]string{}, ""
	for line := range strings.Lines(statements) {
		line = strings.TrimSuffix(line, "\n")
		if m := createLine.FindStringSubmatch(line); m != nil {
			table = m[1]
		}
		if m := columnLine.FindStringSubmatch(line); m != nil {
			columns[table+"."+m[1]] = m[2]
		}
	}
	return columns
}

func changesBetween(earlier, now map[string]string) []string {
	var changes []string
	for column, was := range earlier {
		switch is, ok := now[column]; {
		case !ok:
			changes = append(changes, column+" is gone: columns are never removed or renamed")
		case is != was:
			changes = append(changes, fmt.Sprintf("%s was %s and is %s: columns never change their type", column, was, is))
		}
	}
	slices.Sort(changes)
	return changes
}

func TestVersionRuleCatches(t *testing.T) {
	const one = "CREATE TABLE IF NOT EXISTS `gpufleet`.`a`\n(\n    `x` UInt8 COMMENT 'It''s (x).' CODEC(ZSTD(1)),\n    `y` DateTime64(3, 'UTC') COMMENT 'Y.' CODEC(Delta, ZSTD(1))\n)\n"
	added := strings.Replace(one, "    `y`", "    `z` Nullable(String) COMMENT 'Z.' CODEC(ZSTD(1)),\n    `y`", 1)
	tests := []struct {
		two  string
		want []string
	}{
		{one, nil},
		{added, nil},
		{strings.Replace(one, "`x` UInt8", "`x` UInt16", 1), []string{"a.x was UInt8 and is UInt16: columns never change their type"}},
		{strings.Replace(one, "`y`", "`w`", 1), []string{"a.y is gone: columns are never removed or renamed"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, changesBetween(columnsIn(one), columnsIn(tt.two))); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
	}
}
