// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Sequences that take the terminal and give it back as it was, text and cursor.
const (
	enter = "\x1b[?1049h\x1b[?25l"
	leave = "\x1b[?25h\x1b[?1049l"
)

// Full has the whole terminal: what stood there comes back with Close.
type Full struct {
	out     io.Writer
	in      *os.File
	before  *term.State // of in
	keys    chan byte
	stop    chan struct{}
	reading sync.WaitGroup
}

// keyWait is how long a look for keys takes, and so Close.
const keyWait = 100 * time.Millisecond

// Take takes the terminal. Keys come one by one, Ctrl-C among them, which is then no signal.
func Take(in *os.File, out io.Writer) (*Full, error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("take the terminal: %w", err)
	}
	f := &Full{out: out, in: in, before: before, keys: make(chan byte), stop: make(chan struct{})}
	io.WriteString(out, enter) //nolint:errcheck // nobody to tell
	f.reading.Go(f.read)
	return f, nil
}

// Keys are what is typed. The channel is closed when the terminal is gone.
func (f *Full) Keys() <-chan byte { return f.keys }

// read looks for keys until it is told to stop: a read that blocks could not be ended.
func (f *Full) read() {
	defer close(f.keys)
	fds := []unix.PollFd{{Fd: int32(f.in.Fd()), Events: unix.POLLIN}}
	buffer := make([]byte, 64)
	for {
		select {
		case <-f.stop:
			return
		default:
		}
		n, err := unix.Poll(fds, int(keyWait.Milliseconds()))
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return
		}
		if n, err = f.in.Read(buffer); err != nil {
			return
		}
		for _, key := range buffer[:n] {
			select {
			case f.keys <- key:
			case <-f.stop:
				return
			}
		}
	}
}

// Draw shows lines from the top on, cut to the terminal's size.
func (f *Full) Draw(lines []string, size Size) {
	width, height := size()
	lines = lines[:min(len(lines), height)]
	var picture strings.Builder
	picture.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			picture.WriteString("\r\n")
		}
		picture.WriteString(Cut(line, width) + toEnd)
	}
	picture.WriteString("\x1b[J")
	io.WriteString(f.out, picture.String()) //nolint:errcheck // nobody to tell
}

// Close gives the terminal back.
func (f *Full) Close() error {
	close(f.stop)
	f.reading.Wait()
	io.WriteString(f.out, leave) //nolint:errcheck // nobody to tell
	if err := term.Restore(int(f.in.Fd()), f.before); err != nil {
		return fmt.Errorf("give the terminal back: %w", err)
	}
	return nil
}
