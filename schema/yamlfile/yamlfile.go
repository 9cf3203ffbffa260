// SPDX-License-Identifier: Apache-2.0

// Package yamlfile reads files that operators write: one YAML document, of which every mistake is told with its line.
// It walks the nodes of the document, because only nodes know their line. It starts no goroutines.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxMistakes is how many mistakes of one file are told: a file of another kind has thousands.
const MaxMistakes = 20

// File is a file that is read, and what is wrong with it so far.
type File struct {
	Name     string // stands in each mistake
	mistakes []error
}

// Wrong notes a mistake.
func (f *File) Wrong(line int, format string, args ...any) {
	switch {
	case len(f.mistakes) < MaxMistakes:
		f.mistakes = append(f.mistakes, fmt.Errorf("%s:%d: %s", f.Name, line, fmt.Sprintf(format, args...)))
	case len(f.mistakes) == MaxMistakes:
		f.mistakes = append(f.mistakes, fmt.Errorf("%s: more mistakes follow", f.Name))
	}
}

// Err is all that is wrong; nil if nothing is.
func (f *File) Err() error { return errors.Join(f.mistakes...) }

// yamlLine finds the line in an error of the YAML package.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// Document is what the file holds; nil if it is empty or no YAML.
func (f *File) Document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = strings.TrimPrefix(err.Error(), m[0])
		}
		f.Wrong(line, "not YAML: %s", message)
		return nil
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		f.Wrong(max(second.Line, 1), "a second document, or something after the first: one file is one document")
		return nil
	}
	if len(document.Content) == 0 {
		return nil
	}
	return document.Content[0]
}
