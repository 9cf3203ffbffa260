// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Recording is a recording in memory, ready to be played as often as one likes.
type Recording struct {
	Provenance  Provenance
	First, Last time.Time // of its rows, UTC
	Cut         error     // an ErrCut that says what of its end is missing; nil if nothing is

	records map[uint8][]arrow.RecordBatch
	bytes   int64
}

// Open loads the recording in a file.
func Open(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	r, err := Load(f)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return r, nil
}

// Load reads a whole recording. One that is cut off is read as far as it is whole, and says so in Cut;
// any other damage is an error.
func Load(in io.Reader) (*Recording, error) { return load(in, MaxLoadBytes) }

func load(in io.Reader, maxBytes int64) (*Recording, error) {
	reader, err := NewReader(in)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	r := &Recording{Provenance: reader.Provenance(), records: make(map[uint8][]arrow.RecordBatch)}
	for {
		b, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.loaded()
		case errors.Is(err, ErrCut):
			r.Cut = err
			return r.loaded()
		case err != nil:
			return nil, err
		}
		if err := r.add(b, maxBytes); err != nil {
			return nil, err
		}
	}
}

func (r *Recording) loaded() (*Recording, error) {
	if len(r.records) == 0 {
		return nil, errors.Join(fmt.Errorf("recording of node %s holds no rows: %w", r.Provenance.Node, wire.ErrMalformed), r.Cut)
	}
	return r, nil
}

func (r *Recording) add(b Batch, maxBytes int64) error {
	r.bytes += int64(b.Identity.Size)
	if r.bytes > maxBytes {
		return fmt.Errorf("recording of node %s: more than %d bytes of rows: %w", r.Provenance.Node, maxBytes, wire.ErrTooLarge)
	}
	first, last, err := span(b)
	if err != nil {
		return err
	}
	if r.First.IsZero() || first.Before(r.First) {
		r.First = first
	}
	if last.After(r.Last) {
		r.Last = last
	}
	if r.Last.Sub(r.First) > MaxSpan {
		return fmt.Errorf("recording of node %s: rows from %s to %s, at most %s apart: %w", r.Provenance.Node,
			r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), MaxSpan, wire.ErrTooLarge)
	}
	r.records[b.Identity.Table] = append(r.records[b.Identity.Table], b.Record)
	return nil
}

// maxTime is the latest time that a row may have: far away, and small enough to be reckoned with.
var maxTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// span is the earliest and the latest time of a batch.
func span(b Batch) (first, last time.Time, err error) {
	times := b.Record.Column(0).(*array.Timestamp).TimestampValues()
	low, high := times[0], times[0]
	for _, t := range times[1:] {
		low, high = min(low, t), max(high, t)
	}
	unit, limit := arrow.Millisecond, arrow.Timestamp(maxTime.UnixMilli())
	if b.Table.Columns[0].Type == schema.TimeMicroseconds {
		unit, limit = arrow.Microsecond, arrow.Timestamp(maxTime.UnixMicro())
	}
	if low < 1 || high >= limit {
		return first, last, fmt.Errorf("batch %v: rows that are not from between 1970 and 2200: %w", b.Identity.Key(), wire.ErrMalformed)
	}
	return low.ToTime(unit), high.ToTime(unit), nil
}

// Records are the batches of a table in the order in which they were made. They belong to the
// recording: callers must neither change nor release them.
func (r *Recording) Records(table uint8) []arrow.RecordBatch { return r.records[table] }

// Rows counts the rows of a table.
func (r *Recording) Rows(table uint8) int64 {
	var sum int64
	for _, record := range r.records[table] {
		sum += record.NumRows()
	}
	return sum
}
