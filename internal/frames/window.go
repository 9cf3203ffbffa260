// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"errors"
	"fmt"
	"io"
)

// Window reads a file through a buffer that holds no more than the largest record.
type Window struct {
	reader io.ReaderAt
	size   int64
	buffer []byte
	start  int64 // of the buffer in the file
}

// NewWindow reads the first bytes of a file.
func NewWindow(r io.ReaderAt, size int64) *Window { return &Window{reader: r, size: size} }

// windowBytes is how much is read at a time at least.
const windowBytes = 64 << 10

// At returns n bytes at an offset; they are gone with the next call. Bytes beyond the end are an ErrBad.
func (w *Window) At(offset int64, n int) ([]byte, error) {
	if offset < 0 || offset+int64(n) > w.size {
		return nil, fmt.Errorf("%d bytes at %d of %d: it is cut off: %w", n, offset, w.size, ErrBad)
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
			return nil, fmt.Errorf("%d bytes at %d: it has become shorter: %w", n, offset, ErrBad)
		}
		return nil, fmt.Errorf("read %d bytes at %d: %w", want, offset, err)
	}
	return w.buffer[:n], nil
}
