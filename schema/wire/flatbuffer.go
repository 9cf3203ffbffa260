// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
)

// flatReader reads a flatbuffer from an untrusted source: no read leaves the bytes. The first error
// sticks, and everything read after it is zero.
type flatReader struct {
	bytes []byte
	err   error
}

// flatTable is a table within a flatbuffer: where it starts, and the vtable that tells which fields it
// has and where. Its bounds and its vtable's have been checked.
type flatTable struct {
	start, bytes        int64
	vtable, vtableBytes int64
}

func (r *flatReader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("message header of %d bytes: %s: %w", len(r.bytes), fmt.Sprintf(format, args...), ErrMalformed)
	}
}

// at returns n bytes at a position, or nil with an error set.
func (r *flatReader) at(position, n int64) []byte {
	if r.err != nil || position < 0 || n < 0 || position > int64(len(r.bytes)) || n > int64(len(r.bytes))-position {
		r.refuse("%d bytes at %d lie outside", n, position)
		return nil
	}
	return r.bytes[position : position+n]
}

// unsigned reads a little-endian number of 1, 2, 4 or 8 bytes.
func (r *flatReader) unsigned(position, width int64) uint64 {
	b := r.at(position, width)
	if b == nil {
		return 0
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:])
}

func (r *flatReader) root() flatTable { return r.table(int64(r.unsigned(0, 4))) }

// table reads where a table and its vtable lie.
func (r *flatReader) table(position int64) flatTable {
	t := flatTable{start: position}
	t.vtable = position - int64(int32(r.unsigned(position, 4)))
	t.vtableBytes = int64(r.unsigned(t.vtable, 2))
	t.bytes = int64(r.unsigned(t.vtable+2, 2))
	r.at(t.vtable, t.vtableBytes)
	r.at(t.start, t.bytes)
	if t.vtableBytes < 4 || t.bytes < 4 {
		r.refuse("table of %d bytes with a vtable of %d", t.bytes, t.vtableBytes)
	}
	return t
}

// slot is where a field of the table lies; 0 if the table lacks it, for no field lies there.
func (r *flatReader) slot(t flatTable, field, width int64) int64 {
	entry := 4 + 2*field
	if r.err != nil || entry+2 > t.vtableBytes {
		return 0
	}
	offset := int64(r.unsigned(t.vtable+entry, 2))
	if offset == 0 {
		return 0
	}
	if offset < 4 || offset+width > t.bytes {
		r.refuse("field %d lies at %d of a table of %d bytes", field, offset, t.bytes)
		return 0
	}
	return t.start + offset
}

// number reads a field of a table; 0 if the table lacks it, as flatbuffers have it.
func (r *flatReader) number(t flatTable, field, width int64) int64 {
	position := r.slot(t, field, width)
	if position == 0 {
		return 0
	}
	return int64(r.unsigned(position, width))
}

// reference follows a field that points to a table or vector.
func (r *flatReader) reference(t flatTable, field int64) int64 {
	position := r.slot(t, field, 4)
	if position == 0 {
		r.refuse("field %d is missing", field)
		return 0
	}
	return position + int64(r.unsigned(position, 4))
}

// vector reads the elements of a vector of structs.
func (r *flatReader) vector(position, width int64) []byte {
	count := int64(r.unsigned(position, 4))
	return r.at(position+4, count*width)
}

// text reads a string field of a table, not copied; nil if the table lacks it.
func (r *flatReader) text(t flatTable, field int64) []byte {
	position := r.slot(t, field, 4)
	if position == 0 {
		return nil
	}
	return r.vector(position+int64(r.unsigned(position, 4)), 1)
}
