// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// flagSpan is a flag that a document names without its program; of a whole command the tests of the programs know more.
var flagSpan = regexp.MustCompile("`--([a-z][a-z0-9-]*)")

// TestFlagsOfDocumentsExist holds documents against the flags that programs of ours define.
func TestFlagsOfDocumentsExist(t *testing.T) {
	report(t, flagViolations(checkout(t), checkoutGoFiles(t)))
}

func flagViolations(documents tree, files []goFile) (found []string) {
	known := map[string]bool{"help": true, "version": true}
	for _, f := range files {
		if !f.isTest() {
			addFlags(f, known)
		}
	}
	for _, name := range documents.paths() {
		if path.Ext(name) != ".md" || name == "CHANGELOG.md" { // that one also tells of what is gone
			continue
		}
		for number, line := range strings.Split(documents[name], "\n") {
			for _, match := range flagSpan.FindAllStringSubmatch(line, -1) {
				if flag := match[1]; !known[flag] && !strings.HasSuffix(flag, "-") {
					found = append(found, fmt.Sprintf("%s:%d: no program has a flag --%s", name, number+1, flag))
				}
			}
		}
	}
	return found
}

// addFlags finds calls such as f.StringVar(&x, "name", …).
func addFlags(f goFile, known map[string]bool) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 || !strings.HasSuffix(strings.TrimSuffix(calledName(call), "P"), "Var") {
			return true
		}
		if literal, ok := call.Args[1].(*ast.BasicLit); ok {
			if name, err := strconv.Unquote(literal.Value); err == nil {
				known[name] = true
			}
		}
		return true
	})
}

func TestFlagRuleCatches(t *testing.T) {
	files, err := tree{"cmd/a/main.go": "package main\nfunc add() {\nf.StringVar(&x, \"name\", \"\", \"\")\nf.Var(&y, \"since\", \"\")\n}\n"}.goFiles()
	if err != nil {
		t.Fatal(err)
	}
	documents := tree{
		"docs/a.md":    "`--name`, `--since 24h`, `--tls-*`, `--help`\nwithout `--names` and `a --b`\n",
		"CHANGELOG.md": "`--gone`\n",
	}
	wantViolations(t, flagViolations(documents, files), "docs/a.md:2: no program has a flag --names")
}
