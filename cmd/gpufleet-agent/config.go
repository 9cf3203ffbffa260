// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// A configuration file says what flags say, and no more:
//
//	# /etc/gpufleet/agent.yaml
//	collector: collector.example:4490
//	tls-ca: /etc/gpufleet/ca.pem
//	token-file: /etc/gpufleet/token
//	interval: 1s
//	port-rate:        # a flag that may be repeated takes a list
//	  - mlx5_*=400
//	  - irdma*=200
const (
	maxConfigBytes = 1 << 20
	maxMistakes    = 20
)

// notInFile are flags that make no sense in a file that is read again and again.
var notInFile = []string{"config", "help", "version", "record", "record-for", "record-note"}

// configParser sets flags from a YAML document. It walks the nodes itself: only they know their line.
type configParser struct {
	path     string
	flags    *pflag.FlagSet
	mistakes []error
}

// readConfig sets the flags that a file names. What is wrong with it is told with the line, all of it.
func readConfig(path string, flags *pflag.FlagSet) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxConfigBytes {
		return fmt.Errorf("read configuration %s: it is larger than %d bytes", path, maxConfigBytes)
	}
	return parseConfig(path, text, flags)
}

func parseConfig(path string, text []byte, flags *pflag.FlagSet) error {
	p := configParser{path: path, flags: flags}
	p.document(text)
	return errors.Join(p.mistakes...)
}

// wrong notes a mistake.
func (p *configParser) wrong(line int, format string, args ...any) {
	switch {
	case len(p.mistakes) < maxMistakes:
		p.mistakes = append(p.mistakes, fmt.Errorf("%s:%d: %s", p.path, line, fmt.Sprintf(format, args...)))
	case len(p.mistakes) == maxMistakes:
		p.mistakes = append(p.mistakes, fmt.Errorf("%s: more mistakes follow", p.path))
	}
}

// yamlLine finds the line in an error of the YAML package.
var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func (p *configParser) document(text []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return // an empty file sets nothing
	case err != nil:
		line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = strings.TrimPrefix(err.Error(), m[0])
		}
		p.wrong(line, "not YAML: %s", message)
		return
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		p.wrong(max(second.Line, 1), "a second document, or something after the first: one file is one document")
		return
	}
	for _, n := range document.Content {
		p.top(n)
	}
}

func (p *configParser) top(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // comments alone
	}
	if n.Kind != yaml.MappingNode {
		p.wrong(n.Line, "want lines such as collector: collector.example:4490")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if line, twice := seen[key.Value]; twice {
			p.wrong(key.Line, "%q is there already, at line %d", key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		p.setting(key, value)
	}
}

// setting sets one flag.
func (p *configParser) setting(key, value *yaml.Node) {
	flag := p.flags.Lookup(key.Value)
	switch {
	case key.Kind != yaml.ScalarNode || flag == nil:
		p.wrong(key.Line, "there is no setting %q: gpufleet-agent --help lists them", key.Value)
	case slices.Contains(notInFile, key.Value):
		p.wrong(key.Line, "%s is for the command line alone", key.Value)
	case value.Kind == yaml.SequenceNode:
		p.list(flag, value)
	default:
		p.scalar(flag, value)
	}
}

func (p *configParser) list(flag *pflag.Flag, n *yaml.Node) {
	if _, repeats := flag.Value.(pflag.SliceValue); !repeats {
		p.wrong(n.Line, "%s takes one value, not a list", flag.Name)
		return
	}
	for _, one := range n.Content {
		p.scalar(flag, one)
	}
}

func (p *configParser) scalar(flag *pflag.Flag, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.wrong(n.Line, "%s: want one value; leave the line out to have the default", flag.Name)
		return
	}
	if err := p.flags.Set(flag.Name, n.Value); err != nil {
		p.wrong(n.Line, "%s: %q is no %s", flag.Name, n.Value, flag.Value.Type())
	}
}

// overlay sets in one set of flags what is set in another.
func overlay(from, to *pflag.FlagSet) error {
	var problems []error
	from.Visit(func(f *pflag.Flag) {
		target := to.Lookup(f.Name)
		if target == nil {
			return
		}
		set := func() error { return to.Set(f.Name, f.Value.String()) }
		if list, repeats := f.Value.(pflag.SliceValue); repeats {
			set = func() error { return replace(target, list.GetSlice()) }
		}
		if err := set(); err != nil {
			problems = append(problems, fmt.Errorf("take over --%s: %w", f.Name, err))
		}
	})
	return errors.Join(problems...)
}

// replace sets a flag that may be repeated to a list, instead of adding to what it has.
func replace(f *pflag.Flag, values []string) error {
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return errors.New("it takes one value")
	}
	f.Changed = true
	return list.Replace(values)
}
