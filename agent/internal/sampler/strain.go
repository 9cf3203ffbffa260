// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"fmt"
	"time"

	"github.com/gpufleet/gpufleet/agent/internal/event"
)

// cut is how much less is read of a GPU, to spare who works on it. Each leaves out more than the one before.
type cut uint8

const (
	noCut    cut = iota
	cutRings     // the driver's rings are not read: no sub-second samples
	cutGPM       // nor is performance monitoring
	cutTicks     // and only every second tick is read
)

// String says what is left out.
func (c cut) String() string {
	switch c {
	case noCut:
		return "all is read"
	case cutRings:
		return "sub-second samples are left out"
	case cutGPM:
		return "sub-second samples and performance monitoring are left out"
	case cutTicks:
		return "every second tick, sub-second samples and performance monitoring are left out"
	default:
		return "unknown"
	}
}

// What makes a GPU strained, and what ends it. The driver's calls hold locks that the workload's calls wait for:
// ours are at fault even if we do not mind the wait.
const (
	strainBucket    = 10 * time.Second // between two judgements
	strainBuckets   = 6                // that a judgement looks back
	slowOfHundred   = 1                // calls that may be slow: their p99 is within the bound
	unheldOfHundred = 10               // readings that may begin late, or outlast their tick
	strainedFrom    = 3                // fewer of either are an accident

	firstPatience   = time.Minute      // of calm, before one step more is read
	longestPatience = 16 * time.Minute // after relapses, each of which doubles it
	relapseWithin   = 10 * time.Minute // of reading more
)

// burden counts what reading a GPU took.
type burden struct {
	calls    uint64
	slow     uint64 // that took longer than the bound
	uneasy   uint64 // that took longer than half of it
	readings uint64
	unheld   uint64 // that began late, or outlasted their tick
}

func (b *burden) add(o burden) {
	b.calls += o.calls
	b.slow += o.slow
	b.uneasy += o.uneasy
	b.readings += o.readings
	b.unheld += o.unheld
}

// isStrained tells that less has to be read.
func (b *burden) isStrained() bool {
	return b.slow >= strainedFrom && b.slow*100 > b.calls*slowOfHundred || b.unheld >= strainedFrom && b.unheld*100 > b.readings*unheldOfHundred
}

// isCalm tells that more could be read. Between the two, all stays as it is.
func (b *burden) isCalm() bool {
	return b.readings > 0 && b.uneasy*100 <= b.calls*slowOfHundred && b.unheld*100 <= b.readings*unheldOfHundred
}

// strain judges what reading a GPU takes, and how much of it is read therefore. Less and less is read
// while the GPU is strained, and more again, bit by bit, after some calm: longer each time that more was too much. It belongs to Run's
// goroutine.
type strain struct {
	cut      cut
	buckets  [strainBuckets]burden // since the latest change; the newest is the first
	began    time.Time             // of the newest bucket
	calm     time.Time             // since when; zero: it is not
	patience time.Duration
	eased    time.Time // when more was read the last time
}

// take counts a reading, and judges when it is time to. It tells whether the cut changed, and what the judgement
// looked at.
func (s *strain) take(now time.Time, b burden) (changed bool, seen burden) {
	if s.began.IsZero() || now.Sub(s.began) > strainBuckets*strainBucket {
		s.buckets, s.began = [strainBuckets]burden{}, now // what was before it was lost is past
	}
	s.buckets[0].add(b)
	if now.Sub(s.began) < strainBucket {
		return false, burden{}
	}
	for i := range s.buckets {
		seen.add(s.buckets[i])
	}
	before := s.cut
	s.judge(now, seen)
	copy(s.buckets[1:], s.buckets[:])
	s.buckets[0], s.began = burden{}, now
	if s.cut != before {
		s.buckets = [strainBuckets]burden{} // what it took to read more or less tells nothing of this
	}
	return s.cut != before, seen
}

func (s *strain) judge(now time.Time, seen burden) {
	switch {
	case seen.isStrained():
		s.calm = time.Time{}
		if s.cut < cutTicks {
			s.reduce(now)
		}
	case s.cut == noCut:
	case !seen.isCalm():
		s.calm = time.Time{}
	case s.calm.IsZero():
		s.calm = now
	case now.Sub(s.calm) >= s.patience:
		s.cut--
		s.calm, s.eased = now, now
	}
}

// reduce has one step less read, and more patience shown if that was tried before.
func (s *strain) reduce(now time.Time) {
	switch {
	case !s.eased.IsZero() && now.Sub(s.eased) < relapseWithin:
		s.patience = min(2*s.patience, longestPatience)
		s.eased = time.Time{} // the cuts that follow are of the same relapse
	case s.cut == noCut:
		s.patience = firstPatience
	}
	s.cut++
}

// strainOf is the strain of a GPU; its MIG instances share it, as they share the board.
func (r *session) strainOf(w *worker) (gpu *worker, s *strain) {
	if w.parent != nil {
		w = w.parent
	}
	return w, &r.history(w.uuid).strain
}

// judgeTick counts what reading a GPU at a tick took.
func (r *session) judgeTick(w *worker) error {
	b := w.burden
	b.readings = 1
	if r.late || w.spent > r.cfg.Interval {
		b.unheld = 1
	}
	return r.judge(w, b)
}

// judge counts what a worker's reading took, and tells if less or more is read of its GPU from now on.
func (r *session) judge(w *worker, b burden) error {
	gpu, s := r.strainOf(w)
	before := s.cut
	changed, seen := s.take(time.Now(), b)
	if !changed {
		return nil
	}
	r.stats.Reduced.move(before, s.cut)
	r.cfg.Logger.Info("GPU is read otherwise", "gpu", gpu.uuid, "cut", int(s.cut), "now", s.cut.String(), "calls", seen.calls, "slow_calls", seen.slow,
		"readings", seen.readings, "unheld_readings", seen.unheld)
	switch {
	case s.cut > before:
		count := int64(s.cut)
		return r.write(event.Event{UUID: gpu.uuid, Kind: "sampling_reduced", Count: &count, Message: s.cut.String() + ": " + r.why(seen)})
	case s.cut == noCut:
		return r.write(event.Event{UUID: gpu.uuid, Kind: "sampling_restored", Message: s.cut.String() + " again"})
	default:
		return nil
	}
}

func (r *session) why(seen burden) string {
	if seen.slow*100 > seen.calls*slowOfHundred {
		return fmt.Sprintf("%d of %d driver calls took longer than %s", seen.slow, seen.calls, r.cfg.SlowCall)
	}
	return fmt.Sprintf("%d of %d readings began late or outlasted their tick", seen.unheld, seen.readings)
}

// rests tells whether this tick leaves a worker out. One that has more to do than to sample does not rest.
func (r *session) rests(w *worker, next request) bool {
	_, s := r.strainOf(w)
	next.harvest = false // rings are not read then
	w.rested = s.cut >= cutTicks && !w.rested && w.attached && next == request{}
	return w.rested
}
