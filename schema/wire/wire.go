// SPDX-License-Identifier: Apache-2.0

// Package wire is how batches travel from an agent to a collector: inside Arrow Flight DoPut
// streams, one stream per table.
//
// The stream's first FlightData carries the table's Arrow schema message in data_header and a Hello
// in app_metadata; each one after it carries one batch and its Identity. The collector answers with
// PutResults whose app_metadata is an Answer.
//
// Nothing here trusts its input: sizes are bounded before anything is allocated, the checksum is
// compared before the bytes are decompressed, and what they say is held against the table's schema
// before a column is made of them. A checksum keeps accidents out, not attackers: all else holds for
// bytes that somebody made up, with the right checksum.
package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Limits of one batch. They bound what one message can make a collector allocate.
const (
	MaxFrameBytes   = 16 << 20 // header and body, uncompressed
	MaxRows         = 1 << 17
	MaxMessageBytes = MaxFrameBytes + 1<<16 // one FlightData

	frameLengthsBytes = 8   // before the header in the frame of a Zstd batch
	maxNameBytes      = 253 // of a node name: as long as a DNS name
	maxReasonBytes    = 1 << 10
)

// ProtocolVersion is the last byte of every magic below.
const ProtocolVersion = 1

// NodeHeader is the gRPC header by which a stream names its node, so that it is proved before a
// message is read.
const NodeHeader = "gpufleet-node"

// SentHeader is the gRPC header by which a stream says the highest sequence of its table and epoch that its agent had
// sent before, to whatever collector, in decimal. Where it is not there, any of them may have been.
const SentHeader = "gpufleet-sent"

// Codec tells how the frame of a batch is encoded.
type Codec uint8

// The codecs.
const (
	// Uncompressed batches are standard Flight: the Arrow message's header in data_header, its body in
	// data_body.
	Uncompressed Codec = 0
	// Zstd batches have an empty data_header, and in data_body one zstd frame around
	//
	//	┌────────────────┬──────┬────────┬─────────────────────┬──────┐
	//	│ header length  │ zero │ header │ zeros to 8 bytes    │ body │
	//	│ uint32         │ u32  │        │                     │      │
	//	└────────────────┴──────┴────────┴─────────────────────┴──────┘
	Zstd Codec = 1
)

// Errors that callers tell apart.
var (
	// ErrChecksum means that bytes changed on the way: sending them again may help.
	ErrChecksum = errors.New("checksum does not match")
	// ErrMalformed means that the bytes are not what they should be: sending them again cannot help.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge means that a limit of this package is exceeded.
	ErrTooLarge = errors.New("too large")
)

// NodeID is the fixed-width id of a node: the first eight bytes of the SHA-256 of its name, little
// endian.
func NodeID(name string) uint64 { return id(name) }

// GPUID is the fixed-width id of a GPU or MIG instance: the first eight bytes of the SHA-256 of its
// UUID, little endian. Among 100,000 GPUs two share an id with a chance of 3 in 10 billion.
func GPUID(uuid string) uint64 { return id(uuid) }

func id(s string) uint64 {
	sum := sha256.Sum256([]byte(s))
	return binary.LittleEndian.Uint64(sum[:8])
}

// Identity names a batch for good: the same batch sent again has the same one.
//
//	 0         4       5       6      8       16       24       32     36     40      44
//	┌─────────┬───────┬───────┬──────┬────────┬────────┬────────┬──────┬──────┬───────┐
//	│ "GFB" 1 │ codec │ table │ zero │ node   │ epoch  │ seq    │ rows │ size │ crc   │
//	│         │ u8    │ u8    │ u16  │ uint64 │ uint64 │ uint64 │ u32  │ u32  │ u32   │
//	└─────────┴───────┴───────┴──────┴────────┴────────┴────────┴──────┴──────┴───────┘
//
// Little endian. size is that of the uncompressed frame (0 if the codec is Uncompressed); crc is the
// CRC-32C of the bytes 0 to 40, data_header and data_body, as they are sent.
type Identity struct {
	Codec    Codec
	Table    uint8  // schema.Table.ID
	Node     uint64 // NodeID of the agent's node
	Epoch    uint64 // life of the agent: its start, milliseconds since 1970
	Sequence uint64 // from 1, without gaps, within table, node and epoch
	Rows     uint32
	Size     uint32
	CRC      uint32
}

// Key is an Identity without what describes the bytes.
type Key struct {
	Table    uint8
	Node     uint64
	Epoch    uint64
	Sequence uint64
}

// Key names the batch.
func (i Identity) Key() Key {
	return Key{Table: i.Table, Node: i.Node, Epoch: i.Epoch, Sequence: i.Sequence}
}

// String is for logs and file names: table-node-epoch-sequence.
func (k Key) String() string {
	return fmt.Sprintf("%d-%016x-%d-%d", k.Table, k.Node, k.Epoch, k.Sequence)
}

// IdentityBytes is what an Identity takes.
const IdentityBytes = 44

const identityCovered = 40 // bytes of it that the checksum covers

var (
	identityMagic = [4]byte{'G', 'F', 'B', ProtocolVersion}
	helloMagic    = [4]byte{'G', 'F', 'H', ProtocolVersion}
	answerMagic   = [4]byte{'G', 'F', 'A', ProtocolVersion}
	castagnoli    = crc32.MakeTable(crc32.Castagnoli)
)

// AppendTo appends the identity with the checksum over itself, header and body, and sets i.CRC.
func (i *Identity) AppendTo(b, header, body []byte) []byte {
	start := len(b)
	b = append(b, identityMagic[:]...)
	b = append(b, byte(i.Codec), i.Table, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, i.Node)
	b = binary.LittleEndian.AppendUint64(b, i.Epoch)
	b = binary.LittleEndian.AppendUint64(b, i.Sequence)
	b = binary.LittleEndian.AppendUint32(b, i.Rows)
	b = binary.LittleEndian.AppendUint32(b, i.Size)
	i.CRC = checksum(b[start:], header, body)
	return binary.LittleEndian.AppendUint32(b, i.CRC)
}

func checksum(identity, header, body []byte) uint32 {
	crc := crc32.Update(0, castagnoli, identity)
	crc = crc32.Update(crc, castagnoli, header)
	return crc32.Update(crc, castagnoli, body)
}

// ParseIdentity reads the identity of a batch and compares its checksum with the bytes. With
// ErrChecksum the identity is what the bytes claim, for the quarantine's file name alone.
func ParseIdentity(metadata, header, body []byte) (Identity, error) {
	if len(metadata) != IdentityBytes {
		return Identity{}, fmt.Errorf("batch identity of %d bytes, want %d: %w", len(metadata), IdentityBytes, ErrMalformed)
	}
	if [4]byte(metadata) != identityMagic {
		return Identity{}, fmt.Errorf("batch identity starts with %q, want %q: %w", metadata[:4], identityMagic[:], ErrMalformed)
	}
	i := Identity{
		Codec: Codec(metadata[4]), Table: metadata[5],
		Node:     binary.LittleEndian.Uint64(metadata[8:]),
		Epoch:    binary.LittleEndian.Uint64(metadata[16:]),
		Sequence: binary.LittleEndian.Uint64(metadata[24:]),
		Rows:     binary.LittleEndian.Uint32(metadata[32:]),
		Size:     binary.LittleEndian.Uint32(metadata[36:]),
		CRC:      binary.LittleEndian.Uint32(metadata[40:]),
	}
	if n := len(header) + len(body); n > MaxMessageBytes {
		return i, fmt.Errorf("batch %v: %d bytes, at most %d: %w", i.Key(), n, MaxMessageBytes, ErrTooLarge)
	}
	if got := checksum(metadata[:identityCovered], header, body); got != i.CRC {
		return i, fmt.Errorf("batch %v: CRC-32C %08x, sent with %08x: %w", i.Key(), got, i.CRC, ErrChecksum)
	}
	if metadata[6] != 0 || metadata[7] != 0 {
		return i, fmt.Errorf("batch %v: reserved bytes are set: %w", i.Key(), ErrMalformed)
	}
	return i, i.validate()
}

func (i *Identity) validate() error {
	switch {
	case i.Codec > Zstd:
		return fmt.Errorf("batch %v: codec %d is unknown: %w", i.Key(), i.Codec, ErrMalformed)
	case i.Sequence == 0:
		return fmt.Errorf("batch %v: sequence 0: %w", i.Key(), ErrMalformed)
	case i.Rows == 0:
		return fmt.Errorf("batch %v: no rows: %w", i.Key(), ErrMalformed)
	case i.Rows > MaxRows:
		return fmt.Errorf("batch %v: %d rows, at most %d: %w", i.Key(), i.Rows, MaxRows, ErrTooLarge)
	case i.Size > MaxFrameBytes:
		return fmt.Errorf("batch %v: frame of %d bytes, at most %d: %w", i.Key(), i.Size, MaxFrameBytes, ErrTooLarge)
	default:
		return nil
	}
}
