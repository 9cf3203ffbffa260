// SPDX-License-Identifier: Apache-2.0

// Package frames writes batches one behind the other into files, and finds them again however damaged the files are.
// The agent's spool and the collector's log are made of it. It promises that what a Scanner gives out are the bytes
// that were appended, and that what it skips is told. It has no goroutines.
package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// ErrBad says that bytes are not what was appended: they are damaged, or were never written whole.
var ErrBad = errors.New("damaged")

// Kind opens a record and tells what it holds: three letters and the version of the format.
type Kind [4]byte

// Head opens a record: one batch, as it goes on the wire, or what else a Kind stands for.
//
//	 0         4          8        12       16         24        28        32
//	┌─────────┬──────────┬────────┬────────┬──────────┬─────────┬─────────┬──────────┬────────┬──────┬────────────┐
//	│ kind    │ metadata │ header │ body   │ taken at │ crc of  │ crc of  │ metadata │ header │ body │ zeros      │
//	│         │ bytes    │ bytes  │ bytes  │ int64    │ bytes   │ content │          │        │      │ to 8 bytes │
//	│         │ u32      │ u32    │ u32    │          │ 0 to 24 │         │          │        │      │            │
//	└─────────┴──────────┴────────┴────────┴──────────┴─────────┴─────────┴──────────┴────────┴──────┴────────────┘
//
// Little endian, at a multiple of eight bytes. Times are milliseconds since 1970. The first checksum makes the lengths
// trustworthy, so that the next record is found behind one whose content is damaged. The second covers the bytes 0 to
// 28 and metadata, header and body. Both are CRC-32C.
type Head struct {
	Kind                   Kind
	Metadata, Header, Body int // bytes
	TakenAt                time.Time
	crc                    uint32 // of the content
	covered                uint32 // CRC-32C of the bytes 0 to 28, to go on from
}

const (
	// HeadBytes is the length of a head.
	HeadBytes   = 32
	headCovered = 24 // bytes of it that the first checksum covers
)

// Content is how many bytes follow the head, without padding.
func (h Head) Content() int { return h.Metadata + h.Header + h.Body }

// Size is that of the record.
func (h Head) Size() int64 { return int64(HeadBytes + h.Content() + Padding(h.Content())) }

// Check compares the content with its checksum. Every error is an ErrBad.
func (h Head) Check(content []byte) error {
	if got := crc32.Update(h.covered, castagnoli, content); got != h.crc {
		return fmt.Errorf("record: CRC-32C %08x, written with %08x: %w", got, h.crc, ErrBad)
	}
	return nil
}

// Split cuts the content into its parts, which lie in it.
func (h Head) Split(content []byte) (metadata, header, body []byte) {
	metadata, rest := content[:h.Metadata:h.Metadata], content[h.Metadata:]
	if h.Header > 0 {
		header = rest[:h.Header:h.Header]
	}
	return metadata, header, rest[h.Header:]
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Padding is what n lacks to a multiple of eight.
func Padding(n int) int { return (8 - n%8) % 8 }

// Size is what a record of such parts takes.
func Size(metadata, header, body []byte) int64 {
	return Head{Metadata: len(metadata), Header: len(header), Body: len(body)}.Size()
}

// Append appends a record.
func Append(b []byte, k Kind, takenAt time.Time, metadata, header, body []byte) []byte {
	start := len(b)
	b = append(b, k[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(metadata)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = binary.LittleEndian.AppendUint64(b, uint64(takenAt.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	crc := crc32.Checksum(b[start:], castagnoli)
	for _, part := range [][]byte{metadata, header, body} {
		crc = crc32.Update(crc, castagnoli, part)
	}
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, metadata...)
	b = append(b, header...)
	b = append(b, body...)
	return append(b, make([]byte, Padding(len(metadata)+len(header)+len(body)))...)
}

// Format is what files of one sort hold. Its limits bound what a corrupt length can make a reader allocate.
type Format struct {
	Kinds       []Kind
	MaxMetadata int
	MaxMessage  int // bytes of header and body
}

// ParseHead reads the head of a record. Every error is an ErrBad.
func (f Format) ParseHead(b []byte) (Head, error) {
	kind := Kind(b)
	if !slices.Contains(f.Kinds, kind) {
		return Head{}, fmt.Errorf("record starts with %q, want one of %q: %w", kind[:], f.Kinds, ErrBad)
	}
	want := binary.LittleEndian.Uint32(b[headCovered:])
	if got := crc32.Checksum(b[:headCovered], castagnoli); got != want {
		return Head{}, fmt.Errorf("head of record: CRC-32C %08x, written with %08x: %w", got, want, ErrBad)
	}
	metadata, header, body := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	most := uint64(f.MaxMessage)
	if uint64(metadata) > uint64(f.MaxMetadata) || uint64(header)+uint64(body) > most {
		return Head{}, fmt.Errorf("record of %d, %d and %d bytes, at most %d: %w", metadata, header, body, f.MaxMetadata+f.MaxMessage, ErrBad)
	}
	return Head{
		Kind: kind, Metadata: int(metadata), Header: int(header), Body: int(body),
		TakenAt: time.UnixMilli(int64(binary.LittleEndian.Uint64(b[16:]))),
		crc:     binary.LittleEndian.Uint32(b[28:]), covered: crc32.Checksum(b[:28], castagnoli),
	}, nil
}
