// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/gpufleet/gpufleet/schema/yamlfile"
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
const maxConfigBytes = 1 << 20

// notInFile are flags that make no sense in a file that is read again and again.
var notInFile = []string{"config", "help", "version", "record", "record-for", "record-note", "record-mask"}

// configParser sets flags from a YAML document.
type configParser struct {
	yamlfile.File
	flags *pflag.FlagSet
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
	p := configParser{File: yamlfile.File{Name: path}, flags: flags}
	if n := p.Document(text); n != nil {
		p.top(n)
	}
	return p.Err()
}

func (p *configParser) top(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // comments alone
	}
	if n.Kind != yaml.MappingNode {
		p.Wrong(n.Line, "want lines such as collector: collector.example:4490")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if line, twice := seen[key.Value]; twice {
			p.Wrong(key.Line, "%q is there already, at line %d", key.Value, line)
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
		p.Wrong(key.Line, "there is no setting %q: gpufleet-agent --help lists them", key.Value)
	case slices.Contains(notInFile, key.Value):
		p.Wrong(key.Line, "%s is for the command line alone", key.Value)
	case value.Kind == yaml.SequenceNode:
		p.list(flag, value)
	default:
		p.scalar(flag, value)
	}
}

func (p *configParser) list(flag *pflag.Flag, n *yaml.Node) {
	if _, repeats := flag.Value.(pflag.SliceValue); !repeats {
		p.Wrong(n.Line, "%s takes one value, not a list", flag.Name)
		return
	}
	for _, one := range n.Content {
		p.scalar(flag, one)
	}
}

func (p *configParser) scalar(flag *pflag.Flag, n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.Wrong(n.Line, "%s: want one value; leave the line out to have the default", flag.Name)
		return
	}
	if err := p.flags.Set(flag.Name, n.Value); err != nil {
		p.Wrong(n.Line, "%s: %q is no %s", flag.Name, n.Value, flag.Value.Type())
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
