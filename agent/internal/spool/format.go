// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// FormatVersion is the last byte of every magic below.
const FormatVersion = 1

var (
	segmentMagic = [4]byte{'G', 'F', 'S', FormatVersion}
	recordMagic  = [4]byte{'G', 'F', 'E', FormatVersion}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// Limits of what is read. They bound what a corrupt length can make a reader allocate.
const (
	maxColumnsBytes  = 64 << 10
	maxMetadataBytes = 1 << 10
	maxContentBytes  = maxMetadataBytes + wire.MaxMessageBytes
	maxSegmentBytes  = 1 << 30 // positions in a segment are kept in 32 bits
)

// errBad says that bytes are not what a spool writes: they are damaged, or were never written whole.
var errBad = errors.New("damaged")

// header opens a segment: whose batches follow, and of which columns they are.
//
//	 0         4       5      8        16       24        32       40      44       48      52     56
//	┌─────────┬───────┬──────┬────────┬────────┬─────────┬────────┬───────┬────────┬───────┬──────┬─────────┬────────────┐
//	│ "GFS" 1 │ table │ zero │ node   │ epoch  │ made at │ before │ bytes │ length │ crc   │ zero │ columns │ zeros      │
//	│         │ u8    │ 3    │ uint64 │ uint64 │ int64   │ uint64 │ u32   │ u32    │ u32   │ 4    │ text    │ to 8 bytes │
//	└─────────┴───────┴──────┴────────┴────────┴─────────┴────────┴───────┴────────┴───────┴──────┴─────────┴────────────┘
//
// Little endian. Times are milliseconds since 1970. before is the number of the segment of the same table and life
// before this one, 0 if there is none, and bytes how much of it was durable: what lies behind is what a failed write
// has left, and no damage. length is that of columns, which are the names of the table's columns in the order in
// which the batches hold them, one a line; crc is the CRC-32C of the bytes 0 to 48 and the columns. Records follow,
// each at a multiple of eight bytes.
type header struct {
	table   uint8
	node    uint64
	epoch   uint64
	madeAt  time.Time
	before  predecessor
	columns string
}

// predecessor is a segment that was ended.
type predecessor struct {
	number uint64 // 0: there is none
	bytes  uint32 // that were durable
}

const (
	headerBytes   = 56
	headerCovered = 48 // bytes of it that the checksum covers
)

// columnNames are those of a table in this version, as a header has them.
func columnNames(t schema.Table) string {
	var names []string
	for _, c := range t.WireColumns() {
		names = append(names, c.Name)
	}
	return strings.Join(names, "\n")
}

func (h header) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, segmentMagic[:]...)
	b = append(b, h.table, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.node)
	b = binary.LittleEndian.AppendUint64(b, h.epoch)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.madeAt.UnixMilli()))
	b = binary.LittleEndian.AppendUint64(b, h.before.number)
	b = binary.LittleEndian.AppendUint32(b, h.before.bytes)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.columns)))
	crc := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, []byte(h.columns))
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, 0, 0, 0, 0)
	b = append(b, h.columns...)
	return append(b, make([]byte, padding(len(h.columns)))...)
}

// padding is what n lacks to a multiple of eight.
func padding(n int) int { return (8 - n%8) % 8 }

// errVersion says that another version of this program wrote the file.
var errVersion = errors.New("format of another version")

// parseHeader reads the header of a segment and tells where its first record is.
func parseHeader(w *window) (h header, end int64, err error) {
	b, err := w.at(0, headerBytes)
	if err != nil {
		return h, 0, fmt.Errorf("header of segment: %w", err)
	}
	magic := [4]byte(b)
	length := binary.LittleEndian.Uint32(b[44:])
	if length > maxColumnsBytes {
		return h, 0, fmt.Errorf("header of segment: %d bytes of columns, at most %d: %w", length, maxColumnsBytes, errBad)
	}
	b, err = w.at(0, headerBytes+int(length))
	if err != nil {
		return h, 0, fmt.Errorf("header of segment: %w", err)
	}
	want := binary.LittleEndian.Uint32(b[headerCovered:])
	got := crc32.Update(crc32.Checksum(b[:headerCovered], castagnoli), castagnoli, b[headerBytes:])
	switch {
	case got != want:
		return h, 0, fmt.Errorf("header of segment: CRC-32C %08x, written with %08x: %w", got, want, errBad)
	case magic != segmentMagic && string(magic[:3]) == string(segmentMagic[:3]):
		return h, 0, fmt.Errorf("header of segment: version %d, want %d: %w", magic[3], FormatVersion, errVersion)
	case magic != segmentMagic:
		return h, 0, fmt.Errorf("header of segment: it starts with %q, want %q: %w", magic[:], segmentMagic[:], errBad)
	}
	h = header{
		table: b[4], node: binary.LittleEndian.Uint64(b[8:]), epoch: binary.LittleEndian.Uint64(b[16:]),
		madeAt: time.UnixMilli(int64(binary.LittleEndian.Uint64(b[24:]))), columns: string(b[headerBytes:]),
		before: predecessor{number: binary.LittleEndian.Uint64(b[32:]), bytes: binary.LittleEndian.Uint32(b[40:])},
	}
	return h, int64(headerBytes + int(length) + padding(int(length))), nil
}

// head opens a record: one batch, the bytes that go on the wire.
//
//	 0         4          8        12       16         24        28        32
//	┌─────────┬──────────┬────────┬────────┬──────────┬─────────┬─────────┬──────────┬────────┬──────┬────────────┐
//	│ "GFE" 1 │ metadata │ header │ body   │ taken at │ crc of  │ crc of  │ metadata │ header │ body │ zeros      │
//	│         │ bytes    │ bytes  │ bytes  │ int64    │ bytes   │ content │ wire:    │ often  │      │ to 8 bytes │
//	│         │ u32      │ u32    │ u32    │          │ 0 to 24 │         │ Identity │ empty  │      │            │
//	└─────────┴──────────┴────────┴────────┴──────────┴─────────┴─────────┴──────────┴────────┴──────┴────────────┘
//
// The first checksum makes the lengths trustworthy, so that the next record is found behind one whose content
// is damaged. The second covers the bytes 0 to 28 and metadata, header and body. Both are CRC-32C.
type head struct {
	metadata, header, body int
	takenAt                time.Time
	crc                    uint32 // of the content
	covered                uint32 // CRC-32C of the bytes 0 to 28, to go on from
}

const (
	headBytes   = 32
	headCovered = 24 // bytes of it that the first checksum covers
)

// content is how many bytes follow the head, without padding.
func (h head) content() int { return h.metadata + h.header + h.body }

// size is that of the record.
func (h head) size() int64 { return int64(headBytes + h.content() + padding(h.content())) }

// appendRecord appends a batch as a record.
func appendRecord(b []byte, batch *wire.Batch, takenAt time.Time) []byte {
	start := len(b)
	b = append(b, recordMagic[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(batch.Metadata)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(batch.Header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(batch.Body)))
	b = binary.LittleEndian.AppendUint64(b, uint64(takenAt.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	crc := crc32.Checksum(b[start:], castagnoli)
	for _, part := range [][]byte{batch.Metadata, batch.Header, batch.Body} {
		crc = crc32.Update(crc, castagnoli, part)
	}
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, batch.Metadata...)
	b = append(b, batch.Header...)
	b = append(b, batch.Body...)
	return append(b, make([]byte, padding(batch.Bytes()))...)
}

// recordBytes is what a batch takes in a segment.
func recordBytes(batch *wire.Batch) int64 {
	return head{metadata: len(batch.Metadata), header: len(batch.Header), body: len(batch.Body)}.size()
}

// parseHead reads the head of a record. Every error is an errBad.
func parseHead(b []byte) (head, error) {
	if [4]byte(b) != recordMagic {
		return head{}, fmt.Errorf("record starts with %q, want %q: %w", b[:4], recordMagic[:], errBad)
	}
	want := binary.LittleEndian.Uint32(b[headCovered:])
	if got := crc32.Checksum(b[:headCovered], castagnoli); got != want {
		return head{}, fmt.Errorf("head of record: CRC-32C %08x, written with %08x: %w", got, want, errBad)
	}
	metadata, header, body := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if metadata > maxMetadataBytes || header > wire.MaxMessageBytes || body > wire.MaxMessageBytes || header+body > wire.MaxMessageBytes {
		return head{}, fmt.Errorf("record of %d, %d and %d bytes, at most %d: %w", metadata, header, body, maxContentBytes, errBad)
	}
	return head{
		metadata: int(metadata), header: int(header), body: int(body),
		takenAt: time.UnixMilli(int64(binary.LittleEndian.Uint64(b[16:]))),
		crc:     binary.LittleEndian.Uint32(b[28:]), covered: crc32.Checksum(b[:28], castagnoli),
	}, nil
}

// batch makes the batch of a record's content, which it keeps. What is not a whole batch with a right
// identity is an errBad: the collector would not take it.
func (h head) batch(content []byte) (*wire.Batch, error) {
	if got := crc32.Update(h.covered, castagnoli, content); got != h.crc {
		return nil, fmt.Errorf("record: CRC-32C %08x, written with %08x: %w", got, h.crc, errBad)
	}
	b := &wire.Batch{Metadata: content[:h.metadata:h.metadata], Body: content[h.metadata+h.header:]}
	if h.header > 0 {
		b.Header = content[h.metadata : h.metadata+h.header : h.metadata+h.header]
	}
	var err error
	if b.Identity, err = wire.ParseIdentity(b.Metadata, b.Header, b.Body); err != nil {
		return nil, fmt.Errorf("record: %w: %w", err, errBad)
	}
	return b, nil
}
