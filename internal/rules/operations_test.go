// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const operationsPage = "docs/operations.md"

var (
	metricRow   = regexp.MustCompile("(?m)^\\| `gpufleet_[a-z_]+` \\| [^|]* \\|$")
	reasonsRow  = regexp.MustCompile("(?m)^\\| (`gpufleet_[a-z_]+_total`(?:, `gpufleet_[a-z_]+_total`)*) \\| `reason` \\| (.*) \\|$")
	reasonValue = regexp.MustCompile("`([a-zN_]+)`")
)

// ofFleet are what the collector sends to other backends, which docs/neighbours.md lists: metrics of the fleet, not of a
// program.
var ofFleet = regexp.MustCompile(`^gpufleet\.(gpu|node)\.`)

// reasonFunctions are those whose results are the values of a label reason.
var reasonFunctions = map[string]string{
	"gpufleet_collector_retried_batches_total":     "collector/internal/receiver.whyAgain",
	"gpufleet_collector_quarantined_batches_total": "collector/internal/receiver.reasonOf",
	"gpufleet_collector_unclear_inserts_total":     "collector/internal/store.reasonOf",
	"gpufleet_collector_store_failures_total":      "collector/internal/store.reasonOf",
}

// TestOperationsPageListsTheMetrics holds the page against the instruments in the code: names, help and reasons.
func TestOperationsPageListsTheMetrics(t *testing.T) {
	files := checkoutGoFiles(t)
	report(t, operationsViolations(files, checkout(t)[operationsPage], reasonFunctions))
}

func operationsViolations(files []goFile, page string, reasons map[string]string) []string {
	var found []string
	want := metricRows(files)
	got := metricRow.FindAllString(page, -1)
	for _, row := range want {
		if !slices.Contains(got, row) {
			found = append(found, fmt.Sprintf("%s lacks the row: %s", operationsPage, row))
		}
	}
	for _, row := range got {
		if !slices.Contains(want, row) {
			found = append(found, fmt.Sprintf("%s has a row that is not of the code: %s", operationsPage, row))
		}
	}
	listed := make(map[string][]string)
	for _, row := range reasonsRow.FindAllStringSubmatch(page, -1) {
		for _, name := range reasonValue.FindAllStringSubmatch(row[1], -1) {
			for _, value := range reasonValue.FindAllStringSubmatch(row[2], -1) {
				listed[name[1]] = append(listed[name[1]], value[1])
			}
		}
	}
	for name, function := range reasons {
		want := results(files, function)
		got := slices.Sorted(slices.Values(listed[name]))
		if len(want) == 0 || !slices.Equal(want, got) {
			found = append(found, fmt.Sprintf("%s says of %s the reasons %q, and %s has %q", operationsPage, name, got, function, want))
		}
	}
	slices.Sort(found)
	return found
}

// metricRows are the rows of the page: what Prometheus calls each instrument, and its help.
func metricRows(files []goFile) []string {
	var rows []string
	for _, f := range files {
		if f.isTest() {
			continue
		}
		kind := "" // of the instruments in a table: what it is called
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				kind = n.Name.Name
			case *ast.AssignStmt:
				if name, ok := n.Lhs[0].(*ast.Ident); ok {
					kind = name.Name
				}
			case *ast.CompositeLit:
				rows = append(rows, metricRowOf(kind, n.Elts)...)
			case *ast.CallExpr:
				rows = append(rows, metricRowOf(calledName(n), n.Args)...)
			}
			return true
		})
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// calledName is the name of a function or method that is called.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	default:
		return ""
	}
}

// metricRowOf is the row of an instrument, if the expressions are a name and a help: of which kind it is says the name
// of what it is passed to or is in.
func metricRowOf(kind string, expressions []ast.Expr) []string {
	if len(expressions) == 0 {
		return nil
	}
	name := text(expressions[0])
	if !instrumentName.MatchString(name) || ofFleet.MatchString(name) {
		return nil
	}
	var help, unit string
	for _, e := range expressions[1:] {
		value := text(e)
		if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 {
			switch calledName(call) {
			case "WithDescription":
				help = text(call.Args[0])
			case "WithUnit":
				unit = text(call.Args[0])
			}
		}
		switch {
		case strings.Contains(value, " "):
			help = value
		case value != "":
			unit = value
		}
	}
	if help == "" {
		return nil // an attribute, not an instrument
	}
	name = strings.ReplaceAll(name, ".", "_") + map[string]string{"By": "_bytes", "s": "_seconds"}[unit]
	if k := strings.ToLower(kind); strings.Contains(k, "counter") && !strings.Contains(k, "updown") { // that goes down, too
		name += "_total"
	}
	return []string{fmt.Sprintf("| `%s` | %s |", name, help)}
}

// text is the value of a string literal; "" if it is none.
func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	value, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return value
}

// results are the texts that a function of a package can return, or picks one of in a map. A number in one is N.
func results(files []goFile, function string) []string {
	dot := strings.LastIndex(function, ".")
	var found []string
	add := func(e ast.Expr) {
		if value := strings.ReplaceAll(text(e), "%d", "N"); value != "" {
			found = append(found, value)
		}
	}
	for _, f := range files {
		if f.isTest() || f.dir() != function[:dot] {
			continue
		}
		for _, d := range f.ast.Decls {
			declared, ok := d.(*ast.FuncDecl)
			if !ok || declared.Recv != nil || declared.Name.Name != function[dot+1:] {
				continue
			}
			ast.Inspect(declared.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					add(n.Key)
				case *ast.ReturnStmt:
					for _, e := range n.Results {
						add(e)
						if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 {
							add(call.Args[0])
						}
					}
				}
				return true
			})
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestOperationsRuleCatches(t *testing.T) {
	const code = "package a\n" +
		"func make(m meter) {\n\tcounters := []instrument{{\"gpufleet.a.ticks\", \"Ticks there were.\", nil}}\n\tgauges := []instrument{{\"gpufleet.a.depth\", \"Depth it has.\", nil}}\n" +
		"\tc, _ := m.Int64Counter(\"gpufleet.a.rows\", metric.WithDescription(\"Rows it took.\"))\n\tgauge(\"gpufleet.a.size\", \"By\", \"Bytes it has.\")\n" +
		"\tm.Float64Histogram(\"gpufleet.a.age\", metric.WithUnit(\"s\"), metric.WithDescription(\"Age it has.\"))\n\tattribute.String(\"gpufleet.a.key\", value)\n}\n" +
		"func why(e error) string {\n\tfor r := range map[string]error{\"full\": e} {\n\t\treturn r\n\t}\n\tif e == nil {\n\t\treturn fmt.Sprintf(\"code_%d\", 1)\n\t}\n\treturn \"other\"\n}\n"
	const page = "| `gpufleet_a_ticks_total` | Ticks there were. |\n| `gpufleet_a_depth` | Depth it has. |\n| `gpufleet_a_rows_total` | Rows it took. |\n" +
		"| `gpufleet_a_size_bytes` | Bytes it has. |\n| `gpufleet_a_age_seconds` | Age it has. |\n\n| `gpufleet_a_rows_total`, `gpufleet_a_ticks_total` | `reason` | `full` no room, `code_N`, `other` |\n"
	parsed, err := tree{"a/a.go": code}.goFiles()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{"gpufleet_a_rows_total": "a.why", "gpufleet_a_ticks_total": "a.why"}
	for _, tt := range []struct {
		name, old, new string
		want           []string
	}{
		{"right", "", "", nil},
		{"a row less", "| `gpufleet_a_depth` | Depth it has. |\n", "", []string{"lacks the row: | `gpufleet_a_depth` | Depth it has. |"}},
		{"a row more", "| `gpufleet_a_depth`", "| `gpufleet_a_width` | Width. |\n| `gpufleet_a_depth`", []string{"not of the code: | `gpufleet_a_width` | Width. |"}},
		{"another help", "Rows it took", "Rows", []string{"has a row that is not of the code: | `gpufleet_a_rows_total` | Rows. |", "lacks the row"}},
		{"a reason less", "`full` no room, ", "", []string{"of gpufleet_a_rows_total the reasons [\"code_N\" \"other\"], and a.why has", "of gpufleet_a_ticks_total"}},
		{"a reason more", "`other`", "`other`, `gone`", []string{"of gpufleet_a_rows_total the reasons", "of gpufleet_a_ticks_total"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantViolations(t, operationsViolations(parsed, strings.Replace(page, tt.old, tt.new, 1), reasons), tt.want...)
		})
	}
}
