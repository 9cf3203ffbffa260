// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheDocumentationHasTheFigures: make generate writes it.
func TestTheDocumentationHasTheFigures(t *testing.T) {
	r, err := readResults("results.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "docs", "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := withTables(string(text), r)
	if err != nil {
		t.Fatal(err)
	}
	if want != string(text) {
		t.Error("docs/benchmarks.md has other figures than bench/results.json: run make generate")
	}
}

// page is a text with a place for each part's table.
func page() string {
	var text strings.Builder
	for _, name := range parts {
		text.WriteString("before " + string(name) + "\n<!-- bench " + string(name) + " -->\nold\n<!-- /bench " + string(name) + " -->\n")
	}
	return text.String() + "end\n"
}

func TestTablesSayWhatWasMeasured(t *testing.T) {
	r := results{
		Machine: "a machine", Version: "v1", ClickHouse: "26.7", Measured: time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC), Data: "data", Command: "make bench",
		Figures: map[string]float64{"disk_bytes_per_row": 26.08, "wire_bytes_per_row": 32.46, "collector_rows_per_second": 1259834.2, "peer_prometheus_query_a_p50_ms": 12.345},
		Runs:    map[part]measured{partPeers: {At: time.Now(), Others: map[string]string{"prometheus": "3.1"}}},
	}
	text, err := withTables(page(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before fleet\n<!-- bench fleet -->\n\nNot measured yet: `make bench-fleet`.\n\n<!-- /bench fleet -->\n", "\nend\n",
		"26 November 2026", "a machine", "`make bench`", "26.1 bytes | ≤ 26: not reached", "32.5 bytes | ≤ 57 |", "1,259,834", "12.3", "Prometheus 3.1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(text, "old") || strings.Contains(text, "no value") {
		t.Errorf("has what should not be there:\n%s", text)
	}
	if again, err := withTables(text, r); err != nil || again != text {
		t.Errorf("a second time it differs: %v", err)
	}
}

// TestTablesNeedResults: a page keeps its tables if the file of results is cut or not there.
func TestTablesNeedResults(t *testing.T) {
	for name, content := range map[string]string{"missing": "", "cut": `{"figures": {`, "whole": `{"figures": {}}`} {
		dir := t.TempDir()
		o := options{tables: true, out: filepath.Join(dir, "results.json"), docs: filepath.Join(dir, "page.md")}
		write := func(path, text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(o.docs, page())
		if content != "" {
			write(o.out, content)
		}
		wrong := run(t.Context(), o)
		text, err := os.ReadFile(o.docs)
		if err != nil {
			t.Fatal(err)
		}
		if whole, kept := name == "whole", string(text) == page(); whole != (wrong == nil) || whole == kept {
			t.Errorf("results %s: %v; the page is kept: %t", name, wrong, kept)
		}
	}
}

func TestTablesNeedTheirPlaces(t *testing.T) {
	for _, text := range []string{"", strings.Replace(page(), "<!-- bench fleet -->", "", 1), strings.Replace(page(), "<!-- /bench peers -->", "", 1)} {
		if _, err := withTables(text, results{}); err == nil {
			t.Errorf("tables went into %q", text)
		}
	}
	if _, err := (results{}).budget("rows"); err == nil {
		t.Error("a figure without a budget has one")
	}
}

func TestThousandsAreGrouped(t *testing.T) {
	for want, value := range map[string]float64{"0": 0, "999": 999, "1,000": 1000, "-1,000": -1000, "-100": -100, "12,345,678": 12345678} {
		if got := grouped(value, 0); got != want {
			t.Errorf("%v is %s", value, got)
		}
	}
	if got := grouped(1234.567, 2); got != "1,234.57" {
		t.Error(got)
	}
}
