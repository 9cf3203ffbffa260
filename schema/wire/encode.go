// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/klauspost/compress/zstd"
)

// Batch is one encoded batch, ready to be sent as often as it takes.
type Batch struct {
	Identity Identity
	Metadata []byte // app_metadata
	Header   []byte // data_header: empty with codec Zstd
	Body     []byte // data_body
	Scope    Scope  // proved by who sent it; not on the wire
}

// Bytes is what the batch takes on the wire and in a queue, without gRPC's framing.
func (b *Batch) Bytes() int { return len(b.Metadata) + len(b.Header) + len(b.Body) }

// Encoder turns Arrow record batches into Batches. It reuses its buffers: one per goroutine.
type Encoder struct {
	zstd  *zstd.Encoder
	frame bytes.Buffer
}

// compressor is shared by the encoders of a process: its tables take about a MiB for each batch that
// is compressed at the same time, which a thousand simulated agents cannot each have.
var compressor = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
})

// NewEncoder makes an encoder.
func NewEncoder() (*Encoder, error) {
	z, err := compressor()
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &Encoder{zstd: z}, nil
}

// Encode makes a compressed batch of the record. Of the identity the table, node, epoch and sequence
// must be set. The batch owns its bytes.
func (e *Encoder) Encode(record arrow.RecordBatch, identity Identity) (*Batch, error) {
	payload, err := ipc.GetRecordBatchPayload(record)
	if err != nil {
		return nil, fmt.Errorf("encode batch %v: %w", identity.Key(), err)
	}
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	e.begin(meta.Bytes())
	if err := payload.SerializeBody(&e.frame); err != nil {
		return nil, fmt.Errorf("encode batch %v: write body: %w", identity.Key(), err)
	}
	return e.finish(record.NumRows(), identity)
}

// Pack makes the compressed batch of a message that is encoded already: the header and body of one that EncodePlain has
// made. Of the identity the table, node, epoch and sequence must be set. The batch owns its bytes.
func (e *Encoder) Pack(header, body []byte, rows int64, identity Identity) (*Batch, error) {
	e.begin(header)
	e.frame.Write(body)
	return e.finish(rows, identity)
}

// finish compresses the frame.
func (e *Encoder) finish(rows int64, identity Identity) (*Batch, error) {
	identity.Codec, identity.Size = Zstd, uint32(e.frame.Len())
	if err := identity.describe(rows, e.frame.Len()); err != nil {
		return nil, fmt.Errorf("encode %w", err)
	}
	body := e.zstd.EncodeAll(e.frame.Bytes(), make([]byte, 0, e.frame.Len()/4))
	b := &Batch{Body: body, Metadata: identity.AppendTo(make([]byte, 0, IdentityBytes), nil, body)}
	b.Identity = identity
	return b, nil
}

// describe sets the rows of the identity and refuses what no decoder would take: better here than after
// it has been sent for ever.
func (i *Identity) describe(rows int64, frameBytes int) error {
	if rows > MaxRows {
		return fmt.Errorf("batch %v: %d rows, at most %d: %w", i.Key(), rows, MaxRows, ErrTooLarge)
	}
	if frameBytes > MaxFrameBytes {
		return fmt.Errorf("batch %v: frame of %d bytes, at most %d: %w", i.Key(), frameBytes, MaxFrameBytes, ErrTooLarge)
	}
	i.Rows = uint32(rows)
	return i.validate()
}

// begin lays out what stands before the body, as the Zstd codec draws it.
func (e *Encoder) begin(header []byte) {
	e.frame.Reset()
	var lengths [frameLengthsBytes]byte
	binary.LittleEndian.PutUint32(lengths[:], uint32(len(header)))
	e.frame.Write(lengths[:])
	e.frame.Write(header)
	e.frame.Write(make([]byte, padding(len(header))))
}

// padding is what an Arrow message header lacks to a multiple of eight bytes.
func padding(n int) int { return (8 - n%8) % 8 }

// EncodePlain makes an uncompressed batch: what any Flight client sends. Of the identity the table, node,
// epoch and sequence must be set.
func EncodePlain(record arrow.RecordBatch, identity Identity) (*Batch, error) {
	payload, err := ipc.GetRecordBatchPayload(record)
	if err != nil {
		return nil, fmt.Errorf("encode batch %v: %w", identity.Key(), err)
	}
	defer payload.Release()
	meta := payload.Meta()
	defer meta.Release()
	var body bytes.Buffer
	if err := payload.SerializeBody(&body); err != nil {
		return nil, fmt.Errorf("encode batch %v: write body: %w", identity.Key(), err)
	}
	header := bytes.Clone(meta.Bytes())
	identity.Codec, identity.Size = Uncompressed, 0
	if err := identity.describe(record.NumRows(), len(header)+body.Len()); err != nil {
		return nil, fmt.Errorf("encode %w", err)
	}
	b := &Batch{Header: header, Body: body.Bytes(), Metadata: identity.AppendTo(make([]byte, 0, IdentityBytes), header, body.Bytes())}
	b.Identity = identity
	return b, nil
}
