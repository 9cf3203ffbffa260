// SPDX-License-Identifier: Apache-2.0

package batch

import "time"

// Cell is one value of a row. Which of Int and Text counts follows from the column's type; a Float64
// travels in Int as its bits. A Cell that is not OK is NULL.
type Cell struct {
	Int  int64
	Text string
	OK   bool
}

// Text is a text that is there, even if it is empty.
func Text(s string) Cell { return Cell{Text: s, OK: true} }

// TextOrNull is NULL for an empty text.
func TextOrNull(s string) Cell { return Cell{Text: s, OK: s != ""} }

// Number is a number that is there.
func Number(v int64) Cell { return Cell{Int: v, OK: true} }

// NumberOrNull is NULL for nil.
func NumberOrNull(v *int64) Cell {
	if v == nil {
		return Cell{}
	}
	return Cell{Int: *v, OK: true}
}

// ID is a hash or id: all its 64 bits count.
func ID(id uint64) Cell { return Cell{Int: int64(id), OK: true} }

// Milliseconds is a time in a column of milliseconds.
func Milliseconds(t time.Time) Cell { return Cell{Int: t.UnixMilli(), OK: true} }

// MillisecondsOrNull is NULL for the zero time.
func MillisecondsOrNull(t time.Time) Cell { return Cell{Int: t.UnixMilli(), OK: !t.IsZero()} }
