// SPDX-License-Identifier: Apache-2.0

// Package terminal shows text that changes. A Screen redraws some lines in place, below what was said before; a Full
// takes the whole terminal until it is closed, and reads keys. Both write each picture at once and erase nothing that
// is drawn again, so that nothing flickers. The one goroutine, of Full, ends with its Close.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Size is asked for the width and the height of a terminal, in characters.
type Size func() (width, height int)

// toEnd erases what is left of a line.
const toEnd = "\x1b[K"

// Screen redraws lines in place.
type Screen struct {
	out io.Writer

	mu    sync.Mutex // guards drawn
	drawn int        // lines that stand on the terminal and are drawn anew
}

// NewScreen draws on a terminal.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out} }

// Say prints a line above those that are redrawn.
func (s *Screen) Say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	erase := ""
	if s.drawn > 0 {
		erase = s.upLocked() + "\x1b[J"
	}
	io.WriteString(s.out, erase+line+"\n") //nolint:errcheck // nobody to tell
	s.drawn = 0
}

// Draw puts lines in the place of those that were drawn before. None may be wider than the terminal, and they may not be
// more than fit on it: a line that wraps, or one that has left at the top, is not found again.
func (s *Screen) Draw(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	picture, end := "", "\n"
	if s.drawn > 0 {
		picture, end = s.upLocked(), toEnd+"\n"
	}
	picture += strings.Join(lines, end) + end
	if s.drawn > len(lines) {
		picture += "\x1b[J"
	}
	io.WriteString(s.out, picture) //nolint:errcheck // nobody to tell
	s.drawn = len(lines)
}

// upLocked moves to where the lines begin.
func (s *Screen) upLocked() string { return fmt.Sprintf("\r\x1b[%dA", s.drawn) }

// Cut shortens a text to some characters.
func Cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(width-1, 0)]) + "…"
}
