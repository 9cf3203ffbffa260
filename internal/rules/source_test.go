// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	spdxLine = "// SPDX-License-Identifier: Apache-2.0"

	maxFileLines     = 400 // a page per idea
	maxTestFileLines = 600 // tables of cases may go on
	maxFunctionLines = 60  // a screen
)

// longReason is the comment that allows more lines: why this text is better in one piece.
var longReason = regexp.MustCompile(`(?m)^// ?long: \S+ \S+`)

func TestGoFilesBeginWithTheLicence(t *testing.T) {
	report(t, licenceLineViolations(checkoutGoFiles(t)))
}

func TestPackagesHaveOnePackageComment(t *testing.T) {
	report(t, packageCommentViolations(checkoutGoFiles(t)))
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	report(t, lengthViolations(checkoutGoFiles(t)))
}

func TestPackagesWithGoroutinesLookForLeaks(t *testing.T) {
	report(t, leakCheckViolations(checkoutGoFiles(t)))
}

// checkoutGoFiles returns the parsed Go files of the checkout.
func checkoutGoFiles(t *testing.T) []goFile {
	t.Helper()
	files, err := checkout(t).goFiles()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// licenceLineViolations: the first line names the licence, and the second is empty, so that the line is no
// package comment.
func licenceLineViolations(files []goFile) []string {
	var found []string
	for _, f := range files {
		if !strings.HasPrefix(f.text, spdxLine+"\n\n") {
			found = append(found, fmt.Sprintf("%s: does not begin with %q and an empty line", f.path, spdxLine))
		}
	}
	return found
}

// packageCommentViolations: each package says what it promises, once, in the file that bears its name (main.go
// for a program). A folder of tests alone says it in one of them.
func packageCommentViolations(files []goFile) []string {
	packages := map[string][]goFile{}
	testsOnly := map[string]bool{}
	for _, f := range files {
		if only, seen := testsOnly[f.dir()]; !seen || only {
			testsOnly[f.dir()] = f.isTest()
		}
		packages[f.dir()] = append(packages[f.dir()], f)
	}
	var found []string
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		var with []goFile
		for _, f := range packages[dir] {
			if f.isTest() == testsOnly[dir] && f.ast.Doc != nil {
				with = append(with, f)
			}
		}
		if len(with) != 1 {
			found = append(found, fmt.Sprintf("%s: %d files have a package comment, want 1", dir, len(with)))
			continue
		}
		found = append(found, packageCommentFaults(with[0], testsOnly[dir])...)
	}
	return found
}

// packageCommentFaults says what is wrong with the only package comment.
func packageCommentFaults(f goFile, testsOnly bool) []string {
	name := f.ast.Name.Name
	home, begins := name+".go", []string{"Package " + name + " "}
	if name == "main" {
		program := path.Base(f.dir())
		home, begins = "main.go", []string{"Command " + program + " ", strings.ToUpper(program[:1]) + program[1:] + " "}
	}
	var found []string
	if !testsOnly && path.Base(f.path) != home {
		found = append(found, fmt.Sprintf("%s: the package comment belongs in %s", f.path, home))
	}
	text := f.ast.Doc.Text()
	if !slices.ContainsFunc(begins, func(s string) bool { return strings.HasPrefix(text, s) }) {
		found = append(found, fmt.Sprintf("%s: the package comment begins %.30q, want %q", f.path, text, begins[0]))
	}
	return found
}

// lengthViolations finds files and functions that are too long and do not say why.
func lengthViolations(files []goFile) []string {
	var found []string
	for _, f := range files {
		if f.generated() {
			continue
		}
		lines := strings.Count(f.text, "\n")
		switch {
		case f.isTest() && lines > maxTestFileLines:
			found = append(found, fmt.Sprintf("%s: %d lines, a test file has at most %d", f.path, lines, maxTestFileLines))
		case !f.isTest() && lines > maxFileLines && !fileSaysWhyLong(f):
			found = append(found, fmt.Sprintf("%s: %d lines, over %d without a `// long:` reason", f.path, lines, maxFileLines))
		}
		if !f.isTest() {
			found = append(found, longFunctions(f)...)
		}
	}
	return found
}

// fileSaysWhyLong reports whether a reason stands before the first declaration.
func fileSaysWhyLong(f goFile) bool {
	for _, group := range f.ast.Comments {
		for _, decl := range f.ast.Decls {
			if _, isFunc := decl.(*ast.FuncDecl); isFunc && group.End() > decl.Pos() {
				return false
			}
		}
		if longReason.MatchString(commentSource(group)) {
			return true
		}
	}
	return false
}

// longFunctions finds the functions of f with too many lines, comment lines not counted, that do not say why:
// in a `// long:` line of their comment, or in the reason of a `//nolint:funlen`.
func longFunctions(f goFile) []string {
	var found []string
	lines := strings.Split(f.text, "\n")
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		length := 0
		for _, line := range lines[f.line(fn.Pos())-1 : f.line(fn.End())] {
			if !strings.HasPrefix(strings.TrimSpace(line), "//") {
				length++
			}
		}
		reason := commentSource(fn.Doc) + lines[f.line(fn.Pos())-1]
		if length > maxFunctionLines && !longReason.MatchString(reason) && !strings.Contains(reason, "//nolint:funlen //") {
			found = append(found, fmt.Sprintf("%s:%d: %s has %d lines, over %d without a `// long:` reason",
				f.path, f.line(fn.Pos()), fn.Name.Name, length, maxFunctionLines))
		}
	}
	return found
}

// commentSource returns the comment as written, with the slashes.
func commentSource(group *ast.CommentGroup) string {
	if group == nil {
		return ""
	}
	var b strings.Builder
	for _, c := range group.List {
		b.WriteString(c.Text + "\n")
	}
	return b.String()
}

// leakCheckViolations: a package that starts goroutines has tests that notice when one is left behind. A package
// for tests, one that imports testing, is looked after by those who call it; a program ends with its goroutines.
func leakCheckViolations(files []goFile) []string {
	starts, checks := map[string]string{}, map[string]bool{}
	for _, f := range files {
		checkers := []string{strconv.Quote("testing")}
		if f.isTest() { // clickhousetest.Main runs goleak once the server of the tests is stopped
			checkers = []string{strconv.Quote("go.uber.org/goleak"), strconv.Quote(module + "/internal/clickhousetest")}
		}
		checks[f.dir()] = checks[f.dir()] || slices.ContainsFunc(f.ast.Imports, func(i *ast.ImportSpec) bool {
			return slices.Contains(checkers, i.Path.Value)
		})
		if f.isTest() || f.ast.Name.Name == "main" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if startsGoroutine(n) && starts[f.dir()] == "" {
				starts[f.dir()] = fmt.Sprintf("%s:%d", f.path, f.line(n.Pos()))
			}
			return true
		})
	}
	var found []string
	for _, dir := range slices.Sorted(maps.Keys(starts)) {
		if !checks[dir] {
			found = append(found, fmt.Sprintf("%s: starts a goroutine, and no test of the package uses goleak", starts[dir]))
		}
	}
	return found
}

// startsGoroutine finds go statements and the Go methods of sync.WaitGroup and errgroup.Group.
func startsGoroutine(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Go" && len(n.Args) == 1
	}
	return false
}
