// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// screen shows what happens: on a terminal a table that is redrawn in place, elsewhere plain lines.
type screen struct {
	out    io.Writer
	size   func() (width, height int) // of the terminal; nil: there is none
	silent bool

	mu    sync.Mutex // guards drawn
	drawn int        // lines of the table that stand on the terminal
}

func newScreen(cfg Config) *screen {
	return &screen{out: cfg.Out, size: cfg.TerminalSize, silent: cfg.JSON}
}

// interval between two views: a log needs fewer than a person who watches.
func (s *screen) interval() time.Duration {
	if s.size != nil {
		return time.Second
	}
	return 5 * time.Second
}

// say prints a line above the table.
func (s *screen) say(format string, args ...any) {
	if s.silent {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	io.WriteString(s.out, s.erasingLocked()+fmt.Sprintf(format+"\n", args...)) //nolint:errcheck // nobody to tell
	s.drawn = 0
}

// erasingLocked is what takes the table off the terminal.
func (s *screen) erasingLocked() string {
	if s.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", s.drawn)
}

// show draws the table, in one write so that it does not flicker. No line is wider than the terminal and no table
// higher: a line that wraps, or one that has left at the top, is not found again when the table is redrawn.
func (s *screen) show(v view) {
	if s.silent {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size == nil {
		io.WriteString(s.out, summary(v)+"\n") //nolint:errcheck // nobody to tell
		return
	}
	width, height := s.size()
	lines := fit(table(v, width), width, height-1)
	io.WriteString(s.out, s.erasingLocked()+strings.Join(lines, "\n")+"\n") //nolint:errcheck // nobody to tell
	s.drawn = len(lines)
}

// fit cuts lines to a width, and takes some out of the middle if there are too many: head and sums stay.
func fit(lines []string, width, height int) []string {
	const head, foot = 1, 2
	if more := len(lines) - height; more > 0 && height > head+foot {
		last := height - foot - 1
		left := fmt.Sprintf("… and %d regions more", more+1)
		lines = append(append(append([]string(nil), lines[:last]...), left), lines[len(lines)-foot:]...)
	}
	for i := range lines {
		lines[i] = cut(lines[i], width)
	}
	return lines
}

// cut shortens a text to some characters.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(width-1, 0)]) + "…"
}
