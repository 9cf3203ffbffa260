// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

var (
	// instrumentMethod is a method of metric.Meter that creates an instrument.
	instrumentMethod = regexp.MustCompile(`^(Int64|Float64)(Observable)?(Counter|UpDownCounter|Histogram|Gauge)$`)
	// instrumentName is how our own metrics are called, before Prometheus turns dots into underscores.
	instrumentName = regexp.MustCompile(`^gpufleet\.[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)
	// unitOrTotal is what the Prometheus exporter appends by itself.
	unitOrTotal = regexp.MustCompile(`[._](total|seconds|milliseconds|bytes|ratio)$`)
)

func TestOwnMetricsAreNamedAlike(t *testing.T) {
	report(t, instrumentViolations(checkoutGoFiles(t)))
}

// instrumentViolations finds instruments whose name breaks the pattern, or which nobody explains.
func instrumentViolations(files []goFile) []string {
	var found []string
	for _, f := range files {
		if f.isTest() {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !instrumentMethod.MatchString(sel.Sel.Name) {
				return true
			}
			if why := instrumentFault(call); why != "" {
				found = append(found, fmt.Sprintf("%s:%d: %s", f.path, f.line(call.Pos()), why))
			}
			return true
		})
	}
	return found
}

// instrumentFault says what is wrong with a call that creates an instrument. A name that is not written out is
// judged where it is: in the table it comes from.
func instrumentFault(call *ast.CallExpr) string {
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	name, err := strconv.Unquote(lit.Value)
	switch {
	case err != nil || !instrumentName.MatchString(name):
		return fmt.Sprintf("instrument %s: want gpufleet.<component>.<what>", lit.Value)
	case unitOrTotal.MatchString(name):
		return fmt.Sprintf("instrument %s: the exporter appends unit and _total itself; give the unit with metric.WithUnit", lit.Value)
	case !callsWithDescription(call.Args[1:]):
		return fmt.Sprintf("instrument %s: no metric.WithDescription", lit.Value)
	}
	return ""
}

// callsWithDescription reports whether one of the options is metric.WithDescription.
func callsWithDescription(options []ast.Expr) bool {
	for _, option := range options {
		if call, ok := option.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "WithDescription" {
				return true
			}
		}
	}
	return false
}

func TestInstrumentRuleCatches(t *testing.T) {
	runCases(t, instrumentViolations, []sourceCase{
		{"right", tree{"a/a.go": "package a\nvar c, _ = m.Int64Counter(\"gpufleet.agent.ticks\", metric.WithDescription(\"Ticks.\"))\n"}, nil},
		{"from a table", tree{"a/a.go": "package a\nvar c, _ = m.Int64Counter(row.name)\n"}, nil},
		{"in a test", tree{"a/a_test.go": "package a\nvar c, _ = m.Int64Counter(\"x\")\n"}, nil},
		{"another prefix", tree{"a/a.go": "package a\nvar c, _ = m.Int64Counter(\"ticks\")\n"}, []string{"want gpufleet."}},
		{"no component", tree{"a/a.go": "package a\nvar c, _ = m.Float64Histogram(\"gpufleet.ticks\")\n"}, []string{"want gpufleet."}},
		{"unit in the name", tree{"a/a.go": "package a\nvar c, _ = m.Float64Histogram(\"gpufleet.agent.tick_seconds\")\n"}, []string{"a/a.go:2: instrument \"gpufleet.agent.tick_seconds\": the exporter appends"}},
		{"unexplained", tree{"a/a.go": "package a\nvar c, _ = m.Int64ObservableGauge(\"gpufleet.agent.ticks\", metric.WithUnit(\"s\"))\n"}, []string{"no metric.WithDescription"}},
	})
}
