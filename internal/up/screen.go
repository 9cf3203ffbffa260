// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/internal/terminal"
)

// screen shows what happens: on a terminal a table that is redrawn in place, elsewhere plain lines.
type screen struct {
	size   terminal.Size // of the terminal; nil: there is none
	silent bool
	drawn  *terminal.Screen
}

func newScreen(cfg Config) *screen {
	return &screen{size: cfg.TerminalSize, silent: cfg.JSON, drawn: terminal.NewScreen(cfg.Out)}
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
	if !s.silent {
		s.drawn.Say(fmt.Sprintf(format, args...))
	}
}

// show draws the table, no wider and no higher than the terminal.
func (s *screen) show(v view) {
	switch {
	case s.silent:
	case s.size == nil:
		s.drawn.Say(summary(v))
	default:
		width, height := s.size()
		s.drawn.Draw(fit(table(v, width), width, height-1))
	}
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
		lines[i] = terminal.Cut(lines[i], width)
	}
	return lines
}
