// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	// inlineLink and referenceLink find the target of [text](target) and of a "[text]: target" line.
	inlineLink    = regexp.MustCompile(`\]\(\s*<?([^)>\s]+)>?[^)]*\)`)
	referenceLink = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s+<?([^>\s]+)>?`)
	codeSpan      = regexp.MustCompile("`[^`]*`")
	heading       = regexp.MustCompile(`^#{1,6}\s+(.+?)\s*#*$`)
	makeSpan      = regexp.MustCompile("`make ([a-z][a-z-]*)")
	makeLine      = regexp.MustCompile(`^\s*(?:\$ )?make ([a-z][a-z-]*)`)
	makeTarget    = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
)

func TestLinksOfDocumentsResolve(t *testing.T) {
	report(t, linkTargetViolations(checkout(t)))
}

func TestCommandsOfDocumentsExist(t *testing.T) {
	report(t, makeCommandViolations(checkout(t)))
}

// linkTargetViolations finds relative links to files, folders or headings that are not there.
func linkTargetViolations(files tree) []string {
	var found []string
	for _, name := range files.paths() {
		if path.Ext(name) != ".md" {
			continue
		}
		for number, line := range proseLines(files[name]) {
			line = codeSpan.ReplaceAllString(line, "")
			for _, match := range append(inlineLink.FindAllStringSubmatch(line, -1), referenceLink.FindAllStringSubmatch(line, -1)...) {
				if why := brokenLink(files, name, match[1]); why != "" {
					found = append(found, fmt.Sprintf("%s:%d: link to %s: %s", name, number+1, match[1], why))
				}
			}
		}
	}
	return found
}

// brokenLink says what is wrong with a link in the document name, or nothing. Links to other sites are not followed.
func brokenLink(files tree, name, link string) string {
	target, err := url.Parse(link)
	switch {
	case err != nil:
		return err.Error()
	case target.Scheme != "" || target.Host != "":
		return ""
	}
	file := name
	if target.Path != "" {
		file = path.Join(path.Dir(name), target.Path)
	}
	switch {
	case strings.HasPrefix(target.Path, "/"):
		return "is absolute, so it holds on one site only"
	case !files.has(file):
		return "no such file"
	case target.Fragment != "" && path.Ext(file) == ".md" && !headings(files[file])[target.Fragment]:
		return "no such heading"
	}
	return ""
}

// makeCommandViolations finds `make x` in documents where the Makefile has no x.
func makeCommandViolations(files tree) []string {
	targets := map[string]bool{}
	for _, match := range makeTarget.FindAllStringSubmatch(files["Makefile"], -1) {
		targets[match[1]] = true
	}
	var found []string
	for _, name := range files.paths() {
		if path.Ext(name) != ".md" {
			continue
		}
		prose := proseLines(files[name])
		for number, line := range strings.Split(files[name], "\n") {
			command := makeSpan
			if prose[number] != line { // inside a code block
				command = makeLine
			}
			for _, match := range command.FindAllStringSubmatch(line, -1) {
				if !targets[match[1]] {
					found = append(found, fmt.Sprintf("%s:%d: the Makefile has no target %q", name, number+1, match[1]))
				}
			}
		}
	}
	return found
}

// proseLines returns the lines of a document, those of code blocks empty, so that line numbers hold.
func proseLines(text string) []string {
	lines := strings.Split(text, "\n")
	fence := ""
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			lines[i] = ""
		case strings.HasPrefix(trimmed, "```"), strings.HasPrefix(trimmed, "~~~"):
			fence = trimmed[:3]
			lines[i] = ""
		}
	}
	return lines
}

// headings returns the fragments by which the headings of a document are linked.
func headings(text string) map[string]bool {
	fragments := map[string]bool{}
	seen := map[string]int{}
	for _, line := range proseLines(text) {
		match := heading.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		fragment := fragmentOf(match[1])
		if n := seen[fragment]; n > 0 {
			fragments[fmt.Sprintf("%s-%d", fragment, n)] = true
		}
		seen[fragment]++
		fragments[fragment] = true
	}
	return fragments
}

// fragmentOf does what the hosting sites do: lower case, spaces to dashes, punctuation gone.
func fragmentOf(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

func TestLinkTargetRuleCatches(t *testing.T) {
	files := tree{
		"README.md": "# The start\n[docs](docs/)\n[adr](docs/adr/1.md#why-so-2026) [here](#the-start)\n[site](https://example.com/gone)\n" +
			"```\n[code](gone.md)\n```\n`[span](gone.md)`\n[ref]: docs/adr/1.md\n",
		"docs/adr/1.md": "## Why so, 2026?\n## Twice\n## Twice\n[up](../../README.md) [again](#twice-1)\n",
	}
	wantViolations(t, linkTargetViolations(files))

	files["docs/bad.md"] = "[a](gone.md)\n[b](../README.md#gone)\n[c]: adr/2.md\n[d](/README.md)\n[e](../../out.md \"title\")\n[f](#gone)\n"
	wantViolations(t, linkTargetViolations(files),
		"docs/bad.md:1: link to gone.md: no such file",
		"docs/bad.md:2: link to ../README.md#gone: no such heading",
		"docs/bad.md:3: link to adr/2.md: no such file",
		"docs/bad.md:4: link to /README.md: is absolute",
		"docs/bad.md:5: link to ../../out.md: no such file",
		"docs/bad.md:6: link to #gone: no such heading",
	)
}

func TestMakeCommandRuleCatches(t *testing.T) {
	files := tree{
		"Makefile": "up: deps ## starts\ntest-race:\n\tgo test\n",
		"README.md": "Run `make up`, make sure it works, then `make test-race ARGS=x`.\nRun `make love`.\n" +
			"make sure of this:\n```\n$ make up\n  make war\n```\n",
	}
	wantViolations(t, makeCommandViolations(files),
		`README.md:2: the Makefile has no target "love"`,
		`README.md:6: the Makefile has no target "war"`)
}
