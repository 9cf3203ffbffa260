// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is our own module path.
const module = "github.com/gpufleet/gpufleet"

// tree is the content of a checkout: path relative to its root, with slashes, to text.
type tree map[string]string

// goFile is one parsed Go file of a tree.
type goFile struct {
	path string
	text string
	ast  *ast.File
	fset *token.FileSet
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f goFile) dir() string  { return path.Dir(f.path) }

// line returns the line of pos, counted from 1.
func (f goFile) line(pos token.Pos) int { return f.fset.Position(pos).Line }

// generated reports whether a program wrote the file.
func (f goFile) generated() bool { return ast.IsGenerated(f.ast) }

// goFiles returns the parsed Go files in order of their paths, without those under testdata.
func (t tree) goFiles() ([]goFile, error) {
	var files []goFile
	for _, name := range t.paths() {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, t[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse: %w", err)
		}
		files = append(files, goFile{path: name, text: t[name], ast: parsed, fset: fset})
	}
	return files, nil
}

// paths returns the paths of all files, sorted.
func (t tree) paths() []string {
	paths := make([]string, 0, len(t))
	for p := range t {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// has reports whether name is a file or a folder of the tree.
func (t tree) has(name string) bool {
	if _, ok := t[name]; ok || name == "." {
		return true
	}
	for p := range t {
		if strings.HasPrefix(p, name+"/") {
			return true
		}
	}
	return false
}

// checkoutRoot is the folder of go.mod.
func checkoutRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("this package has moved, and the rules do not know where the checkout starts: %v", err)
	}
	return root
}

// readCheckout reads the checkout once for all rules.
var readCheckout = sync.OnceValues(func() (tree, error) {
	names, err := trackedFiles("../..")
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed, and not committed yet
		case err != nil:
			return nil, fmt.Errorf("read the checkout: %w", err)
		default:
			t[name] = string(text)
		}
	}
	return t, nil
})

// checkout returns all files that are in version control or about to be.
func checkout(t *testing.T) tree {
	t.Helper()
	files, err := readCheckout()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("the checkout is empty, so no rule would check anything")
	}
	return files
}

// trackedFiles asks git, so that build outputs and downloads are left out; in an unpacked source archive,
// which has no git and no build outputs yet, every file counts.
func trackedFiles(root string) ([]string, error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	if out, err := git.Output(); err == nil {
		return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00"), nil
	}
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "bin", "node_modules", ".data"}, d.Name()) {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the checkout: %w", err)
	}
	return names, nil
}

// goCommand runs the go command at the checkout's root and returns its standard output.
func goCommand(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = checkoutRoot(t)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// report fails the test once for each violation.
func report(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// wantViolations fails unless got has exactly the wanted violations, each found by a part of its text.
func wantViolations(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d violations, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("violation %d is %q, want one with %q", i, got[i], want[i])
		}
	}
}
