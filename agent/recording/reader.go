// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// Reader reads a recording batch by batch. It belongs to one goroutine and must be closed.
type Reader struct {
	in      *bufio.Reader
	head    head
	node    uint64
	zstd    *zstd.Decoder
	layouts map[uint8]*Layout
	buffer  []byte
	offset  int64 // in the file, of what is read next
	batches int
	err     error // that ended the recording
}

// Batch is one batch of a recording. Its record must be released.
type Batch struct {
	Identity wire.Identity
	Table    schema.Table
	Record   arrow.RecordBatch // of the columns that the table has in this version
}

// NewReader reads the head. Every error is an ErrCut, a wire.ErrMalformed, a wire.ErrTooLarge, a
// wire.ErrChecksum, or one of the underlying reader.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), layouts: make(map[uint8]*Layout)}
	text, err := r.headText()
	if err != nil {
		return nil, err
	}
	if r.head, err = parseHead(text); err != nil {
		return nil, err
	}
	r.node = wire.NodeID(r.head.Node)
	tables, err := r.head.tables()
	if err != nil {
		return nil, err
	}
	if r.zstd, err = wire.NewDecompressor(); err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	for _, t := range tables {
		if err := r.describe(t); err != nil {
			r.zstd.Close()
			return nil, fmt.Errorf("recording of node %s: %w", r.head.Node, err)
		}
	}
	return r, nil
}

func (r *Reader) describe(t schema.Table) error {
	l, err := NewLayout(t, r.head.Columns[t.Name], r.zstd)
	if err != nil {
		return err
	}
	r.layouts[t.ID] = l
	return l.complete()
}

// headText reads the JSON and compares its checksum.
func (r *Reader) headText() ([]byte, error) {
	var prefix [prefixBytes]byte
	if err := r.fill(prefix[:]); err != nil {
		return nil, fmt.Errorf("read head of recording: %w", err)
	}
	if [4]byte(prefix[:]) != magic {
		return nil, fmt.Errorf("this is no recording: it starts with %q, want %q: %w", prefix[:4], magic[:], wire.ErrMalformed)
	}
	length := binary.LittleEndian.Uint32(prefix[4:])
	if length > MaxHeadBytes {
		return nil, fmt.Errorf("head of recording of %d bytes, at most %d: %w", length, MaxHeadBytes, wire.ErrTooLarge)
	}
	text := make([]byte, length)
	if err := r.fill(text); err != nil {
		return nil, fmt.Errorf("read head of recording: %w", err)
	}
	want := binary.LittleEndian.Uint32(prefix[8:])
	if got := crc32.Checksum(text, castagnoli); got != want {
		return nil, fmt.Errorf("head of recording: CRC-32C %08x, written with %08x: %w", got, want, wire.ErrChecksum)
	}
	return text, nil
}

// fill reads exactly len(b) bytes.
func (r *Reader) fill(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.offset += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it has %d bytes: %w", r.offset, ErrCut)
	}
	return err
}

// Provenance says where the rows come from.
func (r *Reader) Provenance() Provenance { return r.head.Provenance }

// Next reads the next batch. io.EOF means that there is none, ErrCut that the recording ends within
// it. Every other error means that the file is damaged there, or could not be read; what comes after
// cannot be found. An error stays.
func (r *Reader) Next() (Batch, error) {
	if r.err != nil {
		return Batch{}, r.err
	}
	start := r.offset
	b, err := r.next()
	switch {
	case err == nil:
		r.batches++
		return b, nil
	case errors.Is(err, io.EOF):
		r.err = io.EOF
	default:
		r.err = fmt.Errorf("recording of node %s, batch %d at byte %d: %w", r.head.Node, r.batches+1, start, err)
	}
	return Batch{}, r.err
}

func (r *Reader) next() (Batch, error) {
	if _, err := r.in.Peek(1); err != nil {
		return Batch{}, err // io.EOF: the recording ends where a batch does
	}
	var length [lengthBytes]byte
	if err := r.fill(length[:]); err != nil {
		return Batch{}, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	switch {
	case n < identityBytes:
		return Batch{}, fmt.Errorf("%d bytes, at least %d: %w", n, identityBytes, wire.ErrMalformed)
	case n > maxBatchBytes:
		return Batch{}, fmt.Errorf("%d bytes, at most %d: %w", n, maxBatchBytes, wire.ErrTooLarge)
	case cap(r.buffer) < int(n):
		r.buffer = make([]byte, n)
	}
	r.buffer = r.buffer[:n]
	if err := r.fill(r.buffer); err != nil {
		return Batch{}, err
	}
	return r.decode(r.buffer[:identityBytes], r.buffer[identityBytes:])
}

func (r *Reader) decode(metadata, frame []byte) (Batch, error) {
	identity, err := wire.ParseIdentity(metadata, nil, frame)
	if err != nil {
		return Batch{}, err
	}
	l := r.layouts[identity.Table]
	switch {
	case identity.Node != r.node:
		return Batch{}, fmt.Errorf("batch %v is not of this node: %w", identity.Key(), wire.ErrMalformed)
	case identity.Codec != wire.Zstd:
		return Batch{}, fmt.Errorf("batch %v: codec %d, want %d: %w", identity.Key(), identity.Codec, wire.Zstd, wire.ErrMalformed)
	case l == nil:
		return Batch{}, fmt.Errorf("batch %v: the head does not describe its table: %w", identity.Key(), wire.ErrMalformed)
	}
	record, err := l.Decode(identity, frame)
	if err != nil {
		return Batch{}, err
	}
	return Batch{Identity: identity, Table: l.table, Record: record}, nil
}

// Close releases the reader's memory. It does not close what it reads from.
func (r *Reader) Close() { r.zstd.Close() }
