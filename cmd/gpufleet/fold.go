// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gpufleet/gpufleet/internal/terminal"
)

// writeProse writes what is meant to be read, with its long lines folded if a terminal shows it: a terminal alone would
// break them in the middle of a word.
func writeProse(c *cobra.Command, write func(w io.Writer) error) error {
	size := terminalSize()
	if size == nil {
		return write(c.OutOrStdout())
	}
	var text strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	width, _ := size()
	_, err := io.WriteString(c.OutOrStdout(), fold(text.String(), width))
	return err
}

// foldHelp has the help of all commands folded, too.
func foldHelp(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		if terminalSize() == nil {
			help(c, args)
			return
		}
		out := c.OutOrStdout()
		err := writeProse(c, func(w io.Writer) error {
			c.Long = refill(c.Long)
			c.SetOut(w)
			defer c.SetOut(out)
			help(c, args)
			return nil
		})
		if err != nil {
			c.PrintErrln("gpufleet:", err)
		}
	})
}

// refill joins the lines of each paragraph, which were broken for a width of its own.
func refill(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.ReplaceAll(p, "\n", " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

// terminalSize asks the terminal on standard output for its size; nil if there is none, or none that can be redrawn.
func terminalSize() terminal.Size {
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return func() (width, height int) {
		width, height, err := term.GetSize(fd)
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
}

// fold breaks lines between words. A line goes on below where its last column begins, which is behind the last two
// spaces in it; if that leaves too little room, a little to the right of where the line begins. A command is left as it
// is: it may be copied.
func fold(text string, width int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, ended := strings.CutSuffix(line, "\n")
		indent := hanging(line, width)
		command := isCommand(line) // and not whether a rest begins like one: a sentence may
		for utf8.RuneCountInString(line) > width && !command {
			at := breakAt(line, width, indent)
			if at < 0 {
				break
			}
			b.WriteString(strings.TrimRight(line[:at], " ") + "\n")
			line = strings.Repeat(" ", indent) + strings.TrimLeft(line[at:], " ")
		}
		b.WriteString(line)
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// isCommand tells that a line is one of this program's command lines, without a comment behind it.
func isCommand(line string) bool {
	line = strings.TrimLeft(line, " ")
	return strings.HasPrefix(line, "gpufleet ") && !strings.Contains(line, "  ")
}

// hanging is how far the rest of a line is moved in.
func hanging(line string, width int) int {
	const least = 24 // for the last column
	margin := len(line) - len(strings.TrimLeft(line, " "))
	if at := strings.LastIndex(line, "  "); at >= margin {
		if column := utf8.RuneCountInString(line[:at+2]); column+least <= width {
			return column
		}
	}
	if margin == 0 && !strings.Contains(line, "  ") {
		return 0
	}
	return min(margin+2, width/2)
}

// breakAt is the byte at which a line is broken: at the last space that leaves it narrow enough, or, if a word is wider than
// that, at the first space there is. It is -1 if there is none.
func breakAt(line string, width, indent int) int {
	best, column := -1, 0
	for i, r := range line {
		if r == ' ' && column > indent && (column <= width || best < 0) {
			best = i
		}
		if column++; column > width && best >= 0 {
			break
		}
	}
	return best
}
