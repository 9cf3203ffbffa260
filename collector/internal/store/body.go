// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"sync"
)

// body is a unit as it is sent: laid out piece by piece, as fast as the connection takes it, so that a unit of a
// quarter of a million rows takes no memory beside that of its batches.
//
// The HTTP client may still be reading it when the request has ended badly, and the batches' memory is soon used
// for others: so end has it read nothing more.
type body struct {
	mu     sync.Mutex // guards the fields below; held while a piece is laid out, never while it is sent
	format *native
	unit   *unit // nil once it must not be looked at any more
	at     cursor
	piece  []byte
	left   []byte // of piece, for Read
}

func newBody(n *native, u *unit) *body { return &body{format: n, unit: u} }

// pieceBytes is how much is laid out at once: it stays in the processor's cache until it is sent.
const pieceBytes = 64 << 10

// errUnitEnded is what the HTTP client reads of a unit that was given up.
var errUnitEnded = errors.New("unit was given up")

// end lets nobody read the unit any more.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unit = nil
}

// next lays out a piece. It is empty at the end.
func (b *body) next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unit == nil {
		return nil, errUnitEnded
	}
	b.piece = b.piece[:0]
	for len(b.piece) < pieceBytes && b.at.column < len(b.format.columns) {
		b.piece = b.format.appendNext(b.piece, b.unit, &b.at)
	}
	return b.piece, nil
}

// WriteTo implements io.WriterTo, which the HTTP client uses.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		piece, err := b.next()
		if err != nil || len(piece) == 0 {
			return n, err
		}
		written, err := w.Write(piece)
		n += int64(written)
		if err != nil {
			return n, err
		}
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	if len(b.left) == 0 {
		if b.left, err = b.next(); err != nil {
			return 0, err
		}
		if len(b.left) == 0 {
			return 0, io.EOF
		}
	}
	n = copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}
