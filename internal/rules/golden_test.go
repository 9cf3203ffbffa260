// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestEveryGoldenFileHasATest(t *testing.T) {
	files := checkout(t)
	report(t, goldenViolations(files, checkoutGoFiles(t)))
}

// goldenViolations finds files under testdata that no test of the package above names. A string of a test names
// a file when it holds the file's name, its name without extension, a pattern or a mere extension that fits it
// ("*.sql", "%s.sql", ".sql"), or a folder below testdata on its path.
func goldenViolations(files tree, goFiles []goFile) []string {
	names := map[string][]string{} // folder of a package → the strings and fuzz targets of its tests
	for _, f := range goFiles {
		if f.isTest() {
			names[f.dir()] = append(names[f.dir()], testStrings(f)...)
		}
	}
	var found []string
	for _, name := range files.paths() {
		dir, rest, ok := strings.Cut("/"+name, "/testdata/")
		if !ok {
			continue
		}
		dir = path.Clean("." + dir)
		if !slices.ContainsFunc(names[dir], func(s string) bool { return namesFile(s, rest) }) {
			found = append(found, fmt.Sprintf("%s: no test of %s names it", name, dir))
		}
	}
	return found
}

// testStrings returns the string literals of a test file and the names of its fuzz targets, whose corpora lie in
// folders of the same name.
func testStrings(f goFile) []string {
	var found []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				if text, err := strconv.Unquote(n.Value); err == nil {
					found = append(found, text)
				}
			}
		case *ast.FuncDecl:
			if strings.HasPrefix(n.Name.Name, "Fuzz") {
				found = append(found, n.Name.Name)
			}
		case *ast.ImportSpec:
			return false
		}
		return true
	})
	return found
}

// namesFile reports whether the string text of a test can mean the file at rest, relative to testdata.
func namesFile(text, rest string) bool {
	text = strings.TrimPrefix(text, "testdata/")
	base, folder := path.Base(rest), path.Dir(rest)
	stem := strings.TrimSuffix(base, path.Ext(base))
	last := path.Base(text)
	switch {
	case text == "":
		return false
	case last == base, last == stem:
		return true
	case strings.HasPrefix(text, ".") && strings.HasSuffix(base, text):
		return true
	}
	if glob := strings.NewReplacer("%s", "*", "%d", "*", "%q", "*", "%v", "*").Replace(last); strings.Contains(glob, "*") && glob != "*" {
		if ok, err := path.Match(glob, base); err == nil && ok {
			return true
		}
	}
	return folder != "." && !strings.ContainsAny(text, " \n") && slices.Contains(strings.Split(folder, "/"), last)
}

func TestGoldenRuleCatches(t *testing.T) {
	const test = `package a
import ("os"; "testing"; "example.com/imported.golden")
func FuzzParse(f *testing.F) {}
func TestX(t *testing.T) {
	os.ReadFile("testdata/whole.sql")
	os.ReadFile("testdata/" + "stem" + x)
	os.ReadFile("testdata/" + fmt.Sprintf("%s.tsv", x))
	os.ReadFile("testdata/" + x + ".hex")
	os.ReadDir("testdata/captures")
	os.ReadFile("prose that names.golden is none")
}`
	files := tree{"a/a_test.go": test, "b/b_test.go": "package b\nvar _ = \"alone.txt\"\n"}
	for _, name := range []string{"whole.sql", "stem.json", "any.tsv", "any.hex", "captures/h100/smi.txt", "fuzz/FuzzParse/0123"} {
		files["a/testdata/"+name] = ""
	}
	parsed, err := files.goFiles()
	if err != nil {
		t.Fatal(err)
	}
	wantViolations(t, goldenViolations(files, parsed))

	for _, name := range []string{"other.sql", "fuzz/FuzzGone/0123", "names.golden", "imported.golden", "alone.txt", "old/captures.txt.bak"} {
		files["a/testdata/"+name] = ""
		wantViolations(t, goldenViolations(files, parsed), "a/testdata/"+name+": no test of a names it")
		delete(files, "a/testdata/"+name)
	}
}
