// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/klauspost/compress/zstd"
)

// Decoder turns the bytes of batches of one table into Arrow record batches. It keeps nothing from
// one batch to the next, so that a bad one cannot harm those after it. Decoders of one process may
// share a decompressor; a Decoder may be used by several goroutines at once.
//
// It does not use Arrow's own reader, which trusts what it reads: one forged count in a message
// header makes it allocate 64 GiB, and that ends the process. What is read here is the header alone
// (message.go) and where it says the columns lie (column.go), each number held against the schema
// and the length of the body before it is used.
type Decoder struct {
	layout *layout
	zstd   *zstd.Decoder
}

// NewDecompressor makes the zstd decoder that the Decoders of a process share. It must be closed.
func NewDecompressor() (*zstd.Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxFrameBytes), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(MaxFrameBytes), zstd.WithDecoderConcurrency(0)) // as many at once as there are cores
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return z, nil
}

// NewDecoder makes a decoder for batches of the schema (schema.Table.WireSchema).
func NewDecoder(schema *arrow.Schema, z *zstd.Decoder) *Decoder {
	return &Decoder{layout: newLayout(schema), zstd: z}
}

// Decode reads the batch that the identity, already checked, describes. The record must be released.
// Its columns lie in body if the batch is uncompressed: body must not change while the record lives.
// Every error is an ErrMalformed or an ErrTooLarge.
func (d *Decoder) Decode(identity Identity, header, body []byte) (arrow.RecordBatch, error) {
	columns, err := d.Columns(identity, header, body)
	if err != nil {
		return nil, err
	}
	return columns.Record(), nil // which keeps their memory: it is not given back
}

// Columns reads the batch as Decode does, and makes no Arrow record of it. The columns must be released.
func (d *Decoder) Columns(identity Identity, header, body []byte) (columns *Columns, err error) {
	c := d.layout.get(frameRoom(identity))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v: %w", p, ErrMalformed)
		}
		if err != nil {
			c.Release()
			columns, err = nil, fmt.Errorf("batch %v: %w", identity.Key(), err)
		}
	}()
	if identity.Codec == Zstd {
		if header, body, err = d.unpack(identity, header, body, c.frame); err != nil {
			return nil, err
		}
	}
	if len(header)+len(body) > MaxFrameBytes {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(header)+len(body), MaxFrameBytes, ErrTooLarge)
	}
	m, err := parseMessage(header)
	if err != nil {
		return nil, err
	}
	switch {
	case m.bodyBytes != int64(len(body)):
		return nil, fmt.Errorf("arrow body of %d bytes, announced %d: %w", len(body), m.bodyBytes, ErrMalformed)
	case m.rows != int64(identity.Rows):
		return nil, fmt.Errorf("%d rows, announced %d: %w", m.rows, identity.Rows, ErrMalformed)
	}
	if err := c.read(m, body); err != nil {
		return nil, err
	}
	return c, nil
}

// frameRoom is the memory that a batch is decompressed into. The decompressor is faster where it may write
// somewhat past the end.
func frameRoom(identity Identity) int {
	if identity.Codec != Zstd {
		return 0
	}
	return int(min(identity.Size, MaxFrameBytes)) + frameSlack
}

const frameSlack = 32

// unpack decompresses a frame into memory of the announced size.
func (d *Decoder) unpack(identity Identity, header, body, room []byte) (h, b []byte, err error) {
	if len(header) != 0 {
		return nil, nil, fmt.Errorf("data_header of %d bytes beside a compressed frame: %w", len(header), ErrMalformed)
	}
	var announced zstd.Header
	if err := announced.Decode(body); err != nil {
		return nil, nil, fmt.Errorf("zstd frame of %d bytes: %w: %w", len(body), err, ErrMalformed)
	}
	if announced.HasFCS && announced.FrameContentSize != uint64(identity.Size) {
		return nil, nil, fmt.Errorf("zstd frame of %d bytes, announced %d: %w", announced.FrameContentSize, identity.Size, ErrMalformed)
	}
	frame, err := d.zstd.DecodeAll(body, room[:0:frameRoom(identity)])
	if err != nil {
		return nil, nil, fmt.Errorf("decompress %d bytes to %d: %w: %w", len(body), identity.Size, err, ErrMalformed)
	}
	if len(frame) != int(identity.Size) || len(frame) < frameLengthsBytes {
		return nil, nil, fmt.Errorf("frame of %d bytes, announced %d: %w", len(frame), identity.Size, ErrMalformed)
	}
	n, zero := uint64(binary.LittleEndian.Uint32(frame)), binary.LittleEndian.Uint32(frame[4:])
	start := frameLengthsBytes + n + uint64(padding(int(n%8)))
	if start > uint64(len(frame)) || zero != 0 {
		return nil, nil, fmt.Errorf("header of %d bytes in a frame of %d: %w", n, len(frame), ErrMalformed)
	}
	return frame[frameLengthsBytes : frameLengthsBytes+n : frameLengthsBytes+n], frame[start:], nil
}
