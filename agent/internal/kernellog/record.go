// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// record is one entry of the kernel's log, as one read of /dev/kmsg gives it:
//
//	4,1234,56789012,-,caller=T42;NVRM: GPU 0000:3b:00.0: text\x0awith escapes
//	 SUBSYSTEM=pci
//	 DEVICE=+pci:0000:3b:00.0
//
// Before the semicolon: facility times eight plus level, sequence, microseconds since boot, flags, and whatever
// kernels may add. Then the text, in which all that is not printable ASCII, and the backslash, is \xNN. The lines
// that begin with a space are properties, which are not needed here.
type record struct {
	facility uint64 // 0: the kernel itself
	sequence uint64
	since    time.Duration // since boot, by the clock of the log
	text     string        // without escapes; may have several lines
}

const maxMicroseconds = math.MaxInt64 / uint64(time.Microsecond)

var errNoRecord = errors.New("not a record of the kernel log")

// parseRecord reads an entry.
func parseRecord(b []byte) (record, error) {
	head, body, ok := bytes.Cut(b, []byte{';'})
	if !ok {
		return record{}, fmt.Errorf("%w: no semicolon", errNoRecord)
	}
	fields := strings.SplitN(string(head), ",", 5)
	const needed = 4 // flags are the fourth
	if len(fields) < needed {
		return record{}, fmt.Errorf("%w: %d fields", errNoRecord, len(fields))
	}
	var numbers [3]uint64
	for i := range numbers {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return record{}, fmt.Errorf("%w: field %d: %w", errNoRecord, i+1, err)
		}
		numbers[i] = n
	}
	if numbers[2] > maxMicroseconds {
		return record{}, fmt.Errorf("%w: %d microseconds since boot", errNoRecord, numbers[2])
	}
	text, _, _ := bytes.Cut(body, []byte{'\n'})
	return record{
		facility: numbers[0] / 8, sequence: numbers[1], since: time.Duration(numbers[2]) * time.Microsecond, text: unescaped(text),
	}, nil
}

// unescaped replaces \xNN by the byte.
func unescaped(text []byte) string {
	const length = len(`\xNN`)
	var b strings.Builder
	for len(text) > 0 {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			break
		}
		b.Write(text[:i])
		text = text[i:]
		if len(text) >= length && text[1] == 'x' {
			if n, err := strconv.ParseUint(string(text[2:length]), 16, 8); err == nil {
				b.WriteByte(byte(n))
				text = text[length:]
				continue
			}
		}
		b.WriteByte(text[0])
		text = text[1:]
	}
	b.Write(text)
	return b.String()
}

// maxTextBytes bounds the text of a finding. The kernel's own bound of a line is about as long.
const maxTextBytes = 1024

// printable makes text that any table and terminal can take: valid UTF-8, no control characters, bounded.
func printable(text string) string {
	if len(text) > maxTextBytes {
		text = text[:maxTextBytes]
		for range utf8.UTFMax - 1 { // do not leave a part of a character
			if r, size := utf8.DecodeLastRuneInString(text); r != utf8.RuneError || size != 1 {
				break
			}
			text = text[:len(text)-1]
		}
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case ' ' <= r && r <= '~':
			return r // nearly all
		case r == utf8.RuneError, !unicode.IsGraphic(r):
			return ' '
		default:
			return r
		}
	}, text))
}
