// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// FormatVersion is the last byte of every magic below.
const FormatVersion = 1

var (
	segmentMagic = [4]byte{'G', 'F', 'S', FormatVersion}
	recordMagic  = frames.Kind{'G', 'F', 'E', FormatVersion}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// Limits of what is read. They bound what a corrupt length can make a reader allocate.
const (
	maxColumnsBytes  = 64 << 10
	maxMetadataBytes = 1 << 10
	maxSegmentBytes  = 1 << 30 // positions in a segment are kept in 32 bits
)

// errBad says that bytes are not what a spool writes: they are damaged, or were never written whole.
var errBad = frames.ErrBad

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
// as package frames draws them.
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
	return append(b, make([]byte, frames.Padding(len(h.columns)))...)
}

// errVersion says that another version of this program wrote the file.
var errVersion = errors.New("format of another version")

// parseHeader reads the header of a segment and tells where its first record is.
func parseHeader(w *frames.Window) (h header, end int64, err error) {
	b, err := w.At(0, headerBytes)
	if err != nil {
		return h, 0, fmt.Errorf("header of segment: %w", err)
	}
	magic := [4]byte(b)
	length := binary.LittleEndian.Uint32(b[44:])
	if length > maxColumnsBytes {
		return h, 0, fmt.Errorf("header of segment: %d bytes of columns, at most %d: %w", length, maxColumnsBytes, errBad)
	}
	b, err = w.At(0, headerBytes+int(length))
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
	return h, int64(headerBytes + int(length) + frames.Padding(int(length))), nil
}

// records follow the header: one batch each, the bytes that go on the wire. The metadata is a wire.Identity, and the
// header often empty.
var records = frames.Format{Kinds: []frames.Kind{recordMagic}, MaxMetadata: maxMetadataBytes, MaxMessage: wire.MaxMessageBytes}

// appendRecord appends a batch as a record.
func appendRecord(b []byte, batch *wire.Batch, takenAt time.Time) []byte {
	return frames.Append(b, recordMagic, takenAt, batch.Metadata, batch.Header, batch.Body)
}

// recordBytes is what a batch takes in a segment.
func recordBytes(batch *wire.Batch) int64 {
	return frames.Size(batch.Metadata, batch.Header, batch.Body)
}

// batchOf makes the batch of a record, which lies in it. What has no right identity is an errBad: the collector would
// not take it.
func batchOf(r frames.Record) (*wire.Batch, error) {
	b := &wire.Batch{}
	b.Metadata, b.Header, b.Body = r.Head.Split(r.Content)
	var err error
	if b.Identity, err = wire.ParseIdentity(b.Metadata, b.Header, b.Body); err != nil {
		return nil, fmt.Errorf("record: %w: %w", err, errBad)
	}
	return b, nil
}
