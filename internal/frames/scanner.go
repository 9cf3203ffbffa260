// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"errors"
	"io"
	"slices"
)

// Record is one record of a file.
type Record struct {
	Offset  int64
	Head    Head
	Content []byte // metadata, header and body; lies in the scanner's buffer: it is gone with the next record
}

// Span is a stretch of a file that holds no whole record.
type Span struct{ From, To int64 }

// Scanner finds the whole records of a file, in order. What is damaged is skipped: where the head of a record is whole
// by its length, else by searching for the next head.
type Scanner struct {
	Bad []Span
	End int64 // of the last whole record, or where the first one should be

	format Format
	accept func(Record) error
	w      *Window
	next   int64
}

// NewScanner scans from an offset on. What accept has an ErrBad for is skipped as damage is; nil accepts all.
func (f Format) NewScanner(w *Window, from int64, accept func(Record) error) *Scanner {
	return &Scanner{format: f, accept: accept, w: w, next: from, End: from}
}

// Scan returns the next whole record; io.EOF means that there is none, any other error is one of the reader.
func (s *Scanner) Scan() (Record, error) {
	for s.next < s.w.size {
		r, err := s.format.Read(s.w, s.next)
		if err == nil && s.accept != nil {
			err = s.accept(r)
		}
		if err == nil {
			s.next += r.Head.Size()
			s.End = s.next
			return r, nil
		}
		if !errors.Is(err, ErrBad) {
			return Record{}, err
		}
		next, err := s.after(s.next)
		if err != nil {
			return Record{}, err
		}
		s.Skip(Span{s.next, next})
		s.next = next
	}
	return Record{}, io.EOF
}

// Skip notes a bad stretch, as one with the stretch before it if they touch.
func (s *Scanner) Skip(b Span) {
	if last := len(s.Bad) - 1; last >= 0 && s.Bad[last].To == b.From {
		s.Bad[last].To = b.To
		return
	}
	s.Bad = append(s.Bad, b)
}

// Read reads the record at an offset. What lies in it is gone with the window's next use.
func (f Format) Read(w *Window, offset int64) (Record, error) {
	b, err := w.At(offset, HeadBytes)
	if err != nil {
		return Record{}, err
	}
	h, err := f.ParseHead(b)
	if err != nil {
		return Record{}, err
	}
	if b, err = w.At(offset, int(h.Size())); err != nil {
		return Record{}, err
	}
	r := Record{Offset: offset, Head: h, Content: b[HeadBytes : HeadBytes+h.Content()]}
	return r, h.Check(r.Content)
}

// after is where to go on behind a record that is not whole: behind its end if its head tells that, else at
// the next head.
func (s *Scanner) after(offset int64) (int64, error) {
	if b, err := s.w.At(offset, HeadBytes); err == nil {
		if h, err := s.format.ParseHead(b); err == nil && offset+h.Size() <= s.w.size {
			return offset + h.Size(), nil
		}
	}
	for at := (offset + 8) &^ 7; at+HeadBytes <= s.w.size; at += 8 {
		b, err := s.w.At(at, HeadBytes)
		if err != nil {
			return 0, err
		}
		if !slices.Contains(s.format.Kinds, Kind(b)) {
			continue
		}
		if _, err := s.format.ParseHead(b); err == nil {
			return at, nil
		}
	}
	return s.w.size, nil
}

// Tail is the bad stretch at the end of the file: a write that a crash cut short leaves one.
func (s *Scanner) Tail() (Span, bool) {
	if last := len(s.Bad) - 1; last >= 0 && s.Bad[last].To == s.w.size {
		return s.Bad[last], true
	}
	return Span{}, false
}

// ReadAt reads the record at an offset of a file, and no more than that.
func (f Format) ReadAt(file io.ReaderAt, offset int64) (Record, error) {
	b, err := NewWindow(file, offset+HeadBytes).At(offset, HeadBytes)
	if err != nil {
		return Record{}, err
	}
	h, err := f.ParseHead(b)
	if err != nil {
		return Record{}, err
	}
	return f.Read(NewWindow(file, offset+h.Size()), offset)
}
