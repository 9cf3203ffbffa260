// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gpufleet/gpufleet/internal/catalog"
)

func TestFold(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		width      int
		want       string
	}{
		{"narrow enough", "a bc\n\nd", 4, "a bc\n\nd"},
		{"between words", "one two three four\n", 9, "one two\nthree\nfour\n"},
		{"below the last column", "name   view  the meaning of what stands here\n", 38, "name   view  the meaning of what\n             stands here\n"},
		{"below what is moved in", "    → drain it, then reboot the node\n", 26, "    → drain it, then\n      reboot the node\n"},
		{"no room for the last column", "a very long first column  and the last one\n", 30, "a very long first column  and\n  the last one\n"},
		{"characters, not bytes", "äöü äöü äöü\n", 7, "äöü äöü\näöü\n"},
		{"a word that is too long", "/a/very/long/path/that/has/no/space and more\n", 10, "/a/very/long/path/that/has/no/space\nand more\n"},
		{"a command", "  gpufleet query 'SELECT 1'\n", 10, "  gpufleet query 'SELECT 1'\n"},
		{"a command with a comment", "  gpufleet up    # until somebody ends it\n", 42, "  gpufleet up    # until somebody ends it\n"},
		{"nothing but such a word", "/a/very/long/path\n", 10, "/a/very/long/path\n"},
	} {
		if got := fold(tt.text, tt.width); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestRefill(t *testing.T) {
	if got := refill("a\nb\n\nc\nd"); got != "a b\n\nc d" {
		t.Errorf("%q", got)
	}
}

// TestFoldLosesNoWord holds the longest text that there is against what is made of it.
func TestFoldLosesNoWord(t *testing.T) {
	var text strings.Builder
	if err := catalog.WriteList(&text, catalog.Objects(), catalog.Text, "gpufleet"); err != nil {
		t.Fatal(err)
	}
	for width := 1; width < 200; width += 7 {
		got := fold(text.String(), width)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(text.String()), " ") {
			t.Errorf("%d columns: words are lost", width)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width >= 80 && n > width {
				t.Errorf("%d columns: a line of %d characters: %s", width, n, line)
			}
		}
	}
}
