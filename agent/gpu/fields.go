// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// ScopeAll asks a per-link field for the sum over all links.
const ScopeAll = math.MaxUint32

// ValueType tells how the eight bytes of a FieldValue are to be read, as nvmlValueType_t.
type ValueType uint32

// The value types.
const (
	TypeDouble ValueType = iota
	TypeUint32
	TypeUnsignedLong
	TypeUint64
	TypeInt64
	TypeInt32
	TypeUint16
)

// FieldValue is one field: which one is asked, and the answer with its own return code.
type FieldValue struct {
	FieldID, ScopeID uint32
	Return           Return
	Type             ValueType
	Bytes            [8]byte // little endian, read by Type
}

// Int reads the value as an integer. A double is rounded; a value that does not fit (an unsigned
// one over 2^63, NaN) is !ok.
func (v *FieldValue) Int() (value int64, ok bool) {
	switch v.Type {
	case TypeDouble:
		f := v.Float()
		if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
			return 0, false
		}
		return int64(math.Round(f)), true
	case TypeUint32:
		return int64(binary.LittleEndian.Uint32(v.Bytes[:])), true
	case TypeUnsignedLong, TypeUint64:
		u := binary.LittleEndian.Uint64(v.Bytes[:])
		return int64(u), u <= math.MaxInt64
	case TypeInt64:
		return int64(binary.LittleEndian.Uint64(v.Bytes[:])), true
	case TypeInt32:
		return int64(int32(binary.LittleEndian.Uint32(v.Bytes[:]))), true
	case TypeUint16:
		return int64(binary.LittleEndian.Uint16(v.Bytes[:])), true
	default:
		return 0, false
	}
}

// Float reads the eight bytes as a double, whatever the type says.
func (v *FieldValue) Float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(v.Bytes[:]))
}

// Bits is the width of a counter of this type; it decides whether a counter that went down wrapped.
func (v *FieldValue) Bits() int {
	switch v.Type {
	case TypeUint32, TypeInt32:
		return 32
	case TypeUint16:
		return 16
	case TypeDouble, TypeUnsignedLong, TypeUint64, TypeInt64:
		return 64
	default:
		return 64
	}
}

// SetUint64 stores an unsigned answer.
func (v *FieldValue) SetUint64(value uint64) {
	v.Return, v.Type = Success, TypeUint64
	binary.LittleEndian.PutUint64(v.Bytes[:], value)
}

// SetUint32 stores a 32-bit unsigned answer.
func (v *FieldValue) SetUint32(value uint32) {
	v.Return, v.Type = Success, TypeUint32
	v.Bytes = [8]byte{}
	binary.LittleEndian.PutUint32(v.Bytes[:], value)
}

// SetInt32 stores a 32-bit signed answer.
func (v *FieldValue) SetInt32(value int32) {
	v.SetUint32(uint32(value))
	v.Type = TypeInt32
}

// DriverBranch is the number before the first dot of a driver version: 580 for "580.95.05"; 0 if it
// cannot be read.
func DriverBranch(driverVersion string) int {
	major, _, _ := strings.Cut(driverVersion, ".")
	branch, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return branch
}
