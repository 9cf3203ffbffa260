// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowedLicences may be linked into programs under Apache-2.0 and passed on. A licence that is not here needs a
// person's decision first.
var allowedLicences = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0"}

// licenceTexts recognises a licence by sentences that are its alone. The first row whose sentences are all in the
// text counts, so a licence with one sentence more stands before the one with one less.
var licenceTexts = []struct {
	name      string
	sentences []string
}{
	{"Apache-2.0", []string{"apache license version 2.0, january 2004", "terms and conditions for use, reproduction, and distribution"}},
	{"MIT", []string{
		"permission is hereby granted, free of charge, to any person obtaining a copy",
		"the above copyright notice and this permission notice shall be included in all copies",
	}},
	{"MIT-0", []string{"permission is hereby granted, free of charge, to any person obtaining a copy"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "endorse or promote products derived from"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}},
	{"ISC", []string{"permission to use, copy, modify, and", "distribute this software for any purpose with or without fee is hereby granted"}},
}

func TestLicencesOfGoModules(t *testing.T) {
	modules := map[string]string{} // path@version → folder
	out := goCommand(t, nil, "list", "-deps", "-test", "-json=Module", "./...")
	packages, err := decodeAll[struct {
		Module *struct {
			Path, Version, Dir string
			Main               bool
		}
	}](string(out))
	if err != nil {
		t.Fatalf("read go list: %v", err)
	}
	for _, p := range packages {
		if p.Module != nil && !p.Module.Main {
			modules[p.Module.Path+"@"+p.Module.Version] = p.Module.Dir
		}
	}
	if len(modules) == 0 {
		t.Fatal("go list names no dependency, so no licence was checked")
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		licence, err := licenceIn(modules[name])
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !slices.Contains(allowedLicences, licence):
			t.Errorf("%s: licence %s is not on the list: %v", name, licence, allowedLicences)
		default:
			t.Logf("%-14s %s", licence, name)
		}
	}
}

func TestLicencesOfNodePackages(t *testing.T) {
	files := checkout(t)
	locks := 0
	for _, name := range files.paths() {
		if path.Base(name) == "package-lock.json" {
			locks++
			report(t, lockLicenceViolations(name, files[name]))
		}
	}
	if locks == 0 {
		t.Error("no package-lock.json in the checkout: what pins the embedded ClickHouse?")
	}
}

// licenceIn returns the licence of the module in dir.
func licenceIn(dir string) (string, error) {
	for _, pattern := range []string{"LICENSE*", "LICENCE*", "COPYING*", "License*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", fmt.Errorf("look for a licence: %w", err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return "", fmt.Errorf("read the licence: %w", err)
			}
			if licence := licenceOf(string(text)); licence != "" {
				return licence, nil
			}
		}
	}
	return "", errors.New("no licence that allowedLicences could name")
}

// licenceOf recognises a licence text, whatever its line breaks, or returns "".
func licenceOf(text string) string {
	text = strings.Join(strings.Fields(strings.ToLower(text)), " ")
	for _, l := range licenceTexts {
		if !slices.ContainsFunc(l.sentences, func(s string) bool { return !strings.Contains(text, s) }) {
			return l.name
		}
	}
	return ""
}

// lockLicenceViolations checks the licences that an npm lock file records.
func lockLicenceViolations(name, text string) []string {
	var lock struct {
		Packages map[string]struct {
			License string `json:"license"`
		} `json:"packages"`
	}
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		return []string{fmt.Sprintf("%s: %v", name, err)}
	}
	var found []string
	for _, p := range slices.Sorted(maps.Keys(lock.Packages)) {
		if licence := lock.Packages[p].License; !slices.Contains(allowedLicences, licence) {
			found = append(found, fmt.Sprintf("%s: package %q has licence %q, which is not on the list: %v", name, p, licence, allowedLicences))
		}
	}
	return found
}

func TestLicenceRuleCatches(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join(checkoutRoot(t), "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ text, want string }{
		{string(ours), "Apache-2.0"},
		{"Permission is hereby granted, free\nof charge, to any person obtaining a copy of this", "MIT-0"},
		{"Redistribution and use in source and binary forms, with", "BSD-2-Clause"},
		{"GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", ""},
		{"Business Source License 1.1", ""},
	} {
		if got := licenceOf(tt.text); got != tt.want {
			t.Errorf("licenceOf(%.40q) = %q, want %q", tt.text, got, tt.want)
		}
	}
	if licence, err := licenceIn(t.TempDir()); err == nil {
		t.Errorf("a module without a licence passed as %q", licence)
	}
	wantViolations(t, lockLicenceViolations("lock.json",
		`{"packages":{"":{"license":"Apache-2.0"},"node_modules/a":{"license":"AGPL-3.0"},"node_modules/b":{}}}`),
		`package "node_modules/a" has licence "AGPL-3.0"`, `package "node_modules/b" has licence ""`)
	wantViolations(t, lockLicenceViolations("lock.json", `{`), "lock.json: unexpected end")
}
