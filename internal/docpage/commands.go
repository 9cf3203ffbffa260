// SPDX-License-Identifier: Apache-2.0

package docpage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Command is one way in which a document, a unit or a manifest runs a program.
type Command struct {
	Line int
	Args []string // without the program
}

// Commands finds where a file runs a program: in code of a page in Markdown, in a unit of systemd, in a manifest of
// Kubernetes. Other files run none.
func Commands(name, text, program string) ([]Command, error) {
	switch path.Ext(name) {
	case ".md":
		return fromPage(text, program), nil
	case ".service":
		return fromUnit(text, program), nil
	case ".yaml":
		return fromManifest(text, program)
	default:
		return nil, nil
	}
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	// separator ends a command in a shell.
	separator = regexp.MustCompile(`(?:^|\s)(?:\||&&|;|>|>>|<|2>&1)(?:\s|$)|; |\)|#\s`)
)

// fromPage takes fenced and indented lines, and spans of code. A line that ends in \ goes on in the next.
func fromPage(text, program string) (found []Command) {
	lines := strings.Split(text, "\n")
	fenced := false
	for i := 0; i < len(lines); i++ {
		number, line := i+1, lines[i]
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if !fenced && !strings.HasPrefix(line, "    ") {
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				if args, ok := commandOf(span[1], program); ok {
					found = append(found, Command{number, args})
				}
			}
			continue
		}
		for ; strings.HasSuffix(line, `\`) && i+1 < len(lines); i++ {
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i+1])
		}
		found = append(found, inShell(number, line, program)...)
	}
	return found
}

// inShell takes the commands of one line.
func inShell(number int, line, program string) (found []Command) {
	for _, part := range separator.Split(line, -1) {
		if args, ok := commandOf(part, program); ok {
			found = append(found, Command{number, args})
		}
	}
	return found
}

// commandOf is the arguments, if a text runs the program; before it may stand assignments, and what starts it.
func commandOf(text, program string) (args []string, ok bool) {
	words := strings.Fields(text)
	for i, word := range words {
		if path.Base(word) == program {
			return words[i+1:], true
		}
		if !strings.Contains(word, "=") && word != "do" && word != "exec" && word != "sudo" && word != "$" {
			return nil, false
		}
	}
	return nil, false
}

// fromUnit takes what ExecStart and its kin run.
func fromUnit(text, program string) (found []Command) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		number, line := i+1, lines[i]
		for ; strings.HasSuffix(line, `\`) && i+1 < len(lines); i++ {
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i+1])
		}
		key, run, set := strings.Cut(line, "=")
		if !set || !strings.HasPrefix(key, "Exec") {
			continue
		}
		if args, ok := commandOf(strings.TrimLeft(run, "-+!@:"), program); ok {
			found = append(found, Command{number, args})
		}
	}
	return found
}

// fromManifest takes containers whose command is the program.
func fromManifest(text, program string) (found []Command, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		found = append(found, containers(&document, program)...)
	}
}

func containers(n *yaml.Node, program string) (found []Command) {
	if n.Kind == yaml.MappingNode {
		var one struct {
			Command []string `yaml:"command"`
			Args    []string `yaml:"args"`
		}
		if n.Decode(&one) == nil && len(one.Command) > 0 && path.Base(one.Command[0]) == program {
			return []Command{{n.Line, append(one.Command[1:], one.Args...)}}
		}
	}
	for _, child := range n.Content {
		found = append(found, containers(child, program)...)
	}
	return found
}
