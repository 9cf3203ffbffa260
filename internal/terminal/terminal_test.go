// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bytes"
	"strings"
	"testing"
)

func TestScreenRedrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&out)
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { s.Say("begins") }, "begins\n"},
		{func() { s.Draw([]string{"one", "two"}) }, "one\ntwo\n"},
		{func() { s.Draw([]string{"1", "2"}) }, "\r\x1b[2A1\x1b[K\n2\x1b[K\n"},
		{func() { s.Draw([]string{"1"}) }, "\r\x1b[2A1\x1b[K\n\x1b[J"},
		{func() { s.Say("happens") }, "\r\x1b[1A\x1b[Jhappens\n"},
		{func() { s.Say("ends") }, "ends\n"},
	} {
		out.Reset()
		if step.do(); out.String() != step.want {
			t.Errorf("wrote %q, want %q", out.String(), step.want)
		}
	}
}

func TestColumns(t *testing.T) {
	c := Columns{Left: []bool{true, true, false}, Narrowest: []int{1, 1, 3}, Elastic: 1, Least: 4}
	rows := [][]string{{"a", "a long word", "1"}, {"bb", "x", "12345"}}
	for width, want := range map[int]string{
		80: "a   a long word      1\nbb  x            12345",
		17: "a   a lon…      1\nbb  x       12345",
		15: "a   a l…      1\nbb  x     12345",
		9:  "a   a l…      1\nbb  x     12345", // no less is left of the elastic one
	} {
		if got := strings.Join(c.Lines(rows, width), "\n"); got != want {
			t.Errorf("in %d columns\n%s\nwant\n%s", width, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{{"ünder", 5, "ünder"}, {"ünder", 4, "ünd…"}, {"ünder", 1, "…"}, {"ünder", 0, "…"}} {
		if got := Cut(c.text, c.width); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
