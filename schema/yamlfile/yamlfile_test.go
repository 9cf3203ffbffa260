// SPDX-License-Identifier: Apache-2.0

package yamlfile

import (
	"strings"
	"testing"
)

func TestDocument(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1":           "",
		"":               "",
		"# nothing":      "",
		"a: [":           "f.yaml:1: not YAML: ",
		"a: 1\nb: : 2\n": "f.yaml:2: not YAML: ",
		"a: 1\n---\nb":   "f.yaml:2: a second document",
	} {
		f := File{Name: "f.yaml"}
		n := f.Document([]byte(text))
		err := f.Err()
		if want == "" && err != nil || want != "" && (err == nil || n != nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if text == "a: 1" && (n == nil || len(n.Content) != 2) {
			t.Errorf("%q is read as %+v", text, n)
		}
	}
}

func TestMistakesAreBounded(t *testing.T) {
	f := File{Name: "f.yaml"}
	for line := range 10 * MaxMistakes {
		f.Wrong(line+1, "no")
	}
	lines := strings.Split(f.Err().Error(), "\n")
	if len(lines) != MaxMistakes+1 || lines[0] != "f.yaml:1: no" || lines[MaxMistakes] != "f.yaml: more mistakes follow" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}
