// SPDX-License-Identifier: Apache-2.0

package xid

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/gpufleet/gpufleet/schema/yamlfile"
)

const (
	maxNoteRunes = 500
	lastXID      = FirstSwitchCode - 1
	lastSXID     = 99_999
)

// overridesParser reads the document of a file of overrides.
type overridesParser struct {
	yamlfile.File
	rules map[uint32]override
}

// top reads the two kinds of codes.
func (p *overridesParser) top(n *yaml.Node) {
	p.each(n, "the file", func(key, value *yaml.Node) {
		switch key.Value {
		case "xid":
			p.codes(value, "xid", 1, lastXID)
		case "sxid":
			p.codes(value, "sxid", FirstSwitchCode, lastSXID)
		default:
			p.Wrong(key.Line, "%q: want xid or sxid", key.Value)
		}
	})
}

// codes reads the codes of one kind.
func (p *overridesParser) codes(n *yaml.Node, kind string, first, last uint64) {
	seen := map[uint64]int{}
	p.each(n, kind, func(key, value *yaml.Node) {
		code, err := strconv.ParseUint(key.Value, 10, 32)
		if err != nil || code < first || code > last {
			p.Wrong(key.Line, "%s %q: want a code from %d to %d", kind, key.Value, first, last)
			return
		}
		if line, twice := seen[code]; twice {
			p.Wrong(key.Line, "%s %d is there already, at line %d", kind, code, line)
			return
		}
		seen[code] = key.Line
		p.rule(key, value, uint32(code))
	})
}

// rule reads what is said of one code.
func (p *overridesParser) rule(key, n *yaml.Node, code uint32) {
	var rule override
	p.each(n, "code "+key.Value, func(key, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			p.Wrong(value.Line, "%s: want a text", key.Value)
			return
		}
		switch key.Value {
		case "severity":
			rule.severity = Severity(p.word(value, "severity", Severities()))
		case "class":
			rule.class = Class(p.word(value, "class", Classes()))
		case "action":
			rule.action = Action(p.word(value, "action", Actions()))
			if rule.action == Decode && (code < firstNVLink5 || code > lastNVLink5) {
				p.Wrong(value.Line, "action decode: only lines of XID %d to %d can be decoded", firstNVLink5, lastNVLink5)
			}
		case "note":
			rule.note = p.note(value)
		default:
			p.Wrong(key.Line, "%q: want severity, class, action or note", key.Value)
		}
	})
	if rule == (override{}) && p.Err() == nil {
		p.Wrong(key.Line, "code %d: want at least one of severity, class, action or note", code)
	}
	p.rules[code] = rule
}

// note reads what the operator has to say.
func (p *overridesParser) note(n *yaml.Node) string {
	if utf8.RuneCountInString(n.Value) > maxNoteRunes || strings.ContainsFunc(n.Value, unicode.IsControl) || strings.TrimSpace(n.Value) == "" {
		p.Wrong(n.Line, "note: want one line of at most %d characters", maxNoteRunes)
	}
	return n.Value
}

// word reads a word of a closed set.
func (p *overridesParser) word(n *yaml.Node, what string, set []Word) string {
	names := make([]string, len(set))
	for i, w := range set {
		names[i] = w.Name
	}
	if !slices.Contains(names, n.Value) {
		p.Wrong(n.Line, "%s %q: want %s", what, n.Value, strings.Join(names, ", "))
	}
	return n.Value
}

// each hands out the pairs of a mapping. Nothing at all is an empty one.
func (p *overridesParser) each(n *yaml.Node, what string, pair func(key, value *yaml.Node)) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.Wrong(n.Line, "%s: anchors and aliases are not read", what)
		return
	case n.Kind != yaml.MappingNode:
		p.Wrong(n.Line, "%s: want names with values, as in `xid: {94: {severity: info}}`", what)
		return
	}
	names := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			p.Wrong(key.Line, "%s: want a name or a code before the colon", what)
			continue
		}
		if names[key.Value] {
			p.Wrong(key.Line, "%q is there already", key.Value)
			continue
		}
		names[key.Value] = true
		pair(key, n.Content[i+1])
	}
}
