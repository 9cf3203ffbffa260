// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// segment is what is known of a segment's file: where each batch is and which are settled. Its queue's mutex
// guards it.
//
// All batches are of one table and one epoch, ascending by sequence. A batch takes 16 bytes here: a day of
// eight GPUs makes about 53,000.
type segment struct {
	folder folder
	name   string
	epoch  uint64
	madeAt time.Time
	size   int64  // durable bytes of the file
	old    string // columns of its batches if they are not this version's
	active bool   // the writer appends to it

	places    []place
	runs      []run
	settled   []uint64 // a bit for each place
	first     int      // lowest place that is not settled
	left      int      // places that are not settled
	leftBytes int64    // of those, on the wire
	dropped   bool     // its file is being removed to make room
	vanished  bool     // somebody removed its file
	damaged   bool     // part of it could not be read: the file is kept when it is done
	postponed map[int]time.Time
}

// place is where a batch is.
type place struct {
	offset uint32
	bytes  uint32 // of the batch on the wire
	rows   uint32
	second uint32 // at which it was taken, after the segment was made
}

// run is a stretch of sequences without a hole.
type run struct {
	at       int // place of the first
	sequence uint64
}

// add appends a batch that is durable.
func (s *segment) add(key wire.Key, p place) {
	i := len(s.places)
	s.places = append(s.places, p)
	if last := len(s.runs) - 1; last < 0 || s.runs[last].sequence+uint64(i-s.runs[last].at) != key.Sequence {
		s.runs = append(s.runs, run{i, key.Sequence})
	}
	if i/64 == len(s.settled) {
		s.settled = append(s.settled, 0)
	}
	s.left++
	s.leftBytes += int64(p.bytes)
}

// placeOf is where a record is, in a segment that was made at a time.
func placeOf(offset int64, b *wire.Batch, takenAt, madeAt time.Time) place {
	second := max(takenAt.Sub(madeAt)/time.Second, 0) // the clock may have been set back
	return place{uint32(offset), uint32(b.Bytes()), b.Identity.Rows, uint32(second)}
}

// last is the highest sequence.
func (s *segment) last() uint64 {
	if len(s.runs) == 0 {
		return 0
	}
	r := s.runs[len(s.runs)-1]
	return r.sequence + uint64(len(s.places)-1-r.at)
}

// sequence is that of the batch at a place.
func (s *segment) sequence(i int) uint64 {
	n := sort.Search(len(s.runs), func(n int) bool { return s.runs[n].at > i })
	r := s.runs[n-1]
	return r.sequence + uint64(i-r.at)
}

// from is the place of the lowest sequence that is at least the one given.
func (s *segment) from(sequence uint64) int {
	n := sort.Search(len(s.runs), func(n int) bool { return s.runs[n].sequence > sequence })
	if n == 0 {
		return 0
	}
	end := len(s.places)
	if n < len(s.runs) {
		end = s.runs[n].at
	}
	r := s.runs[n-1]
	return int(min(uint64(r.at)+sequence-r.sequence, uint64(end)))
}

// find is the place of a sequence; -1 if it is not here.
func (s *segment) find(sequence uint64) int {
	i := s.from(sequence)
	if i < len(s.places) && s.sequence(i) == sequence {
		return i
	}
	return -1
}

func (s *segment) isSettled(i int) bool { return s.settled[i/64]&(1<<(i%64)) != 0 }

// settle notes that a batch need not be sent again; false if that is known.
func (s *segment) settle(i int) bool {
	if s.isSettled(i) {
		return false
	}
	s.settled[i/64] |= 1 << (i % 64)
	s.left--
	s.leftBytes -= int64(s.places[i].bytes)
	delete(s.postponed, i)
	s.first = s.unsettled(s.first)
	return true
}

// spent tells whether the file can go: all of it is settled, and nothing will be appended. One that is appended
// to goes when it is large enough for that to be worth a new file.
func (s *segment) spent(recycleBytes int64) bool {
	return s.left == 0 && (!s.active || s.size >= recycleBytes)
}

// unsettled is the lowest place from i on that is not settled, or the number of places.
func (s *segment) unsettled(i int) int {
	for i < len(s.places) {
		word := ^s.settled[i/64] >> (i % 64)
		if word != 0 {
			return min(i+bits.TrailingZeros64(word), len(s.places))
		}
		i = i&^63 + 64
	}
	return len(s.places)
}

// next is the lowest place behind a sequence that waits to be sent; -1 if there is none.
func (s *segment) next(after uint64, now time.Time) int {
	if s.left == 0 || s.last() <= after {
		return -1
	}
	for i := s.unsettled(max(s.first, s.from(after+1))); i < len(s.places); i = s.unsettled(i + 1) {
		if until, postponed := s.postponed[i]; !postponed || !now.Before(until) {
			return i
		}
	}
	return -1
}

// postpone has a batch that cannot be read now skipped for a while.
func (s *segment) postpone(i int, until time.Time) {
	if s.postponed == nil {
		s.postponed = make(map[int]time.Time)
	}
	s.postponed[i] = until
}

// cut forgets the batches from a sequence on: a later segment has them.
func (s *segment) cut(sequence uint64) {
	n := s.from(sequence)
	s.places = s.places[:n]
	s.runs = slices.DeleteFunc(s.runs, func(r run) bool { return r.at >= n })
	s.settled = s.settled[:(n+63)/64]
	if n%64 != 0 {
		s.settled[n/64] &= 1<<(n%64) - 1
	}
	s.first = s.unsettled(0)
	s.left, _, s.leftBytes = s.waiting()
}

// oldest is when the oldest batch that is not settled was taken.
func (s *segment) oldest() (taken time.Time, ok bool) {
	if s.left == 0 {
		return taken, false
	}
	return s.madeAt.Add(time.Duration(s.places[s.first].second) * time.Second), true
}

// waiting adds up what is not settled.
func (s *segment) waiting() (batches int, rows uint64, bytes int64) {
	for i := s.first; i < len(s.places); i = s.unsettled(i + 1) {
		batches++
		rows += uint64(s.places[i].rows)
		bytes += int64(s.places[i].bytes)
	}
	return batches, rows, bytes
}

// errOrder says that a record does not follow on those before it: it was not written there.
var errOrder = errors.New("out of order")

// take enters a record that was found in the file.
func (s *segment) take(r record) error {
	i := r.batch.Identity
	if i.Epoch != s.epoch || len(s.places) > 0 && i.Sequence <= s.last() {
		return errOrder
	}
	s.add(i.Key(), placeOf(r.offset, r.batch, r.head.TakenAt, s.madeAt))
	return nil
}
