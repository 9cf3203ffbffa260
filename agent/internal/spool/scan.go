// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// record is one batch in a segment.
type record struct {
	offset int64
	head   head
	batch  *wire.Batch // lies in the scanner's buffer: it is gone with the next record
}

// span is a stretch of a segment that holds no whole record.
type span struct{ from, to int64 }

// scanner finds the whole records of a segment, in order. What is damaged is skipped: where the head of a
// record is whole by its length, else by searching for the next head.
type scanner struct {
	header    header
	headerErr error // why there is no header
	bad       []span
	end       int64 // of the last whole record, or of the header

	w    window
	next int64
}

// newScanner begins with the header. An error is one of the reader: damage is none.
func newScanner(r io.ReaderAt, size int64) (*scanner, error) {
	s := &scanner{w: window{reader: r, size: size}}
	var err error
	s.header, s.end, err = parseHeader(&s.w)
	switch {
	case errors.Is(err, errVersion):
		s.headerErr, s.next = err, size // its records may look otherwise, too
	case errors.Is(err, errBad):
		s.headerErr, s.end = err, 0
	case err != nil:
		return nil, err
	}
	s.next = max(s.next, s.end)
	return s, nil
}

// scan returns the next whole record; io.EOF means that there is none, any other error is one of the reader.
func (s *scanner) scan() (record, error) {
	for s.next < s.w.size {
		r, err := s.read(s.next)
		if err == nil {
			s.next += r.head.size()
			s.end = s.next
			return r, nil
		}
		if !errors.Is(err, errBad) {
			return record{}, err
		}
		next, err := s.after(s.next)
		if err != nil {
			return record{}, err
		}
		s.skip(span{s.next, next})
		s.next = next
	}
	return record{}, io.EOF
}

// skip notes a bad stretch, as one with the stretch before it if they touch.
func (s *scanner) skip(b span) {
	if last := len(s.bad) - 1; last >= 0 && s.bad[last].to == b.from {
		s.bad[last].to = b.to
		return
	}
	s.bad = append(s.bad, b)
}

// read reads the record at an offset.
func (s *scanner) read(offset int64) (record, error) {
	b, err := s.w.at(offset, headBytes)
	if err != nil {
		return record{}, err
	}
	h, err := parseHead(b)
	if err != nil {
		return record{}, err
	}
	if b, err = s.w.at(offset, int(h.size())); err != nil {
		return record{}, err
	}
	batch, err := h.batch(b[headBytes : headBytes+h.content()])
	if err != nil {
		return record{}, err
	}
	return record{offset: offset, head: h, batch: batch}, nil
}

// after is where to go on behind a record that is not whole: behind its end if its head tells that, else at
// the next head.
func (s *scanner) after(offset int64) (int64, error) {
	if b, err := s.w.at(offset, headBytes); err == nil {
		if h, err := parseHead(b); err == nil && offset+h.size() <= s.w.size {
			return offset + h.size(), nil
		}
	}
	for at := (offset + 8) &^ 7; at+headBytes <= s.w.size; at += 8 {
		b, err := s.w.at(at, headBytes)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(b[:4], recordMagic[:]) {
			continue
		}
		if _, err := parseHead(b); err == nil {
			return at, nil
		}
	}
	return s.w.size, nil
}

// tail is the bad stretch at the end of the segment: a write that a crash cut short leaves one.
func (s *scanner) tail() (span, bool) {
	if last := len(s.bad) - 1; last >= 0 && s.bad[last].to == s.w.size {
		return s.bad[last], true
	}
	return span{}, false
}

// window reads a file through a buffer that holds no more than the largest record.
type window struct {
	reader io.ReaderAt
	size   int64
	buffer []byte
	start  int64 // of the buffer in the file
}

// windowBytes is how much is read at a time at least.
const windowBytes = 64 << 10

// at returns n bytes at an offset; they are gone with the next call. Bytes beyond the end are an errBad.
func (w *window) at(offset int64, n int) ([]byte, error) {
	if offset < 0 || offset+int64(n) > w.size {
		return nil, fmt.Errorf("%d bytes at %d of %d: it is cut off: %w", n, offset, w.size, errBad)
	}
	if from := offset - w.start; from >= 0 && from+int64(n) <= int64(len(w.buffer)) {
		return w.buffer[from : from+int64(n)], nil
	}
	want := int(min(max(int64(n), windowBytes), w.size-offset))
	if cap(w.buffer) < want {
		w.buffer = make([]byte, want)
	}
	w.buffer, w.start = w.buffer[:want], offset
	if got, err := w.reader.ReadAt(w.buffer, offset); got < want {
		w.buffer = w.buffer[:0]
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%d bytes at %d: it has become shorter: %w", n, offset, errBad)
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", want, offset, err)
	}
	return w.buffer[:n], nil
}
