// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"io"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// record is one batch in a segment.
type record struct {
	offset int64
	head   frames.Head
	batch  *wire.Batch // lies in the scanner's buffer: it is gone with the next record
}

// span is a stretch of a segment that holds no whole record.
type span = frames.Span

// scanner finds the whole records of a segment, in order.
type scanner struct {
	*frames.Scanner
	header    header
	headerErr error // why there is no header
	batch     *wire.Batch
}

// newScanner begins with the header. An error is one of the reader: damage is none.
func newScanner(r io.ReaderAt, size int64) (*scanner, error) {
	s := &scanner{}
	w := frames.NewWindow(r, size)
	h, end, err := parseHeader(w)
	s.header = h
	switch {
	case errors.Is(err, errVersion):
		s.headerErr, end = err, size // its records may look otherwise, too
	case errors.Is(err, errBad):
		s.headerErr, end = err, 0
	case err != nil:
		return nil, err
	}
	s.Scanner = records.NewScanner(w, end, func(r frames.Record) (err error) {
		s.batch, err = batchOf(r)
		return err
	})
	return s, nil
}

// scan returns the next whole record; io.EOF means that there is none, any other error is one of the reader.
func (s *scanner) scan() (record, error) {
	r, err := s.Scan()
	return record{offset: r.Offset, head: r.Head, batch: s.batch}, err
}
