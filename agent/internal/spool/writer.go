// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// writer is what the goroutine that writes needs, and no other may touch: Open's until Run's takes over.
type writer struct {
	folder  folder // nil until it could be read
	lock    io.Closer
	number  uint64     // of the segment that was made last
	done    []fileInfo // files that are to be removed: their batches are settled or dropped
	aside   []fileInfo // files that are kept because of damage, oldest first
	untold  []Loss     // found when the folder was read
	retryAt time.Time  // a disk that failed is not tried before
	wait    time.Duration
	buffer  []byte
}

// appending is a segment that is open for writing.
type appending struct {
	segment *segment
	number  uint64 // of the segment
	file    file
}

// round brings memory and files up to date: what is pushed is written and synced, what is settled removed. It
// returns how long to wait before it should be called again without a push; 0: for ever.
func (s *Spool) round(now time.Time) time.Duration {
	w := &s.writer
	if now.Before(w.retryAt) {
		return w.retryAt.Sub(now)
	}
	stuck := time.AfterFunc(s.limits.stuckAfter, func() {
		s.fails(fmt.Errorf("it has not answered for %s", s.limits.stuckAfter))
	})
	wrote, err := s.write()
	stuck.Stop()
	for _, l := range w.untold {
		s.lose(l)
	}
	w.untold = nil
	if err != nil {
		s.fails(err)
		w.wait = min(max(2*w.wait, s.limits.retryWait), s.limits.maxRetryWait)
		w.retryAt = now.Add(w.wait)
		return w.wait
	}
	if wrote {
		w.wait = 0
		s.works()
	}
	return 0
}

// write does the work of a round. What could not be written stays in memory.
func (s *Spool) write() (wrote bool, err error) {
	if s.writer.folder == nil {
		if err := s.prepare(); err != nil {
			return false, err
		}
	}
	s.clear()
	var problems []error
	for _, facts := range []bool{true, false} {
		for _, q := range s.queues {
			if q.facts != facts {
				continue
			}
			n, err := s.writeQueue(q)
			wrote = wrote || n > 0
			problems = append(problems, err)
		}
	}
	return wrote, errors.Join(problems...)
}

// writeQueue writes what one queue has in memory, group by group.
func (s *Spool) writeQueue(q *Queue) (groups int, err error) {
	for {
		group := q.group(s.limits.groupBytes)
		if len(group) == 0 {
			return groups, nil
		}
		err := s.writeGroup(q, group)
		if err == nil {
			groups++
			continue
		}
		if !q.facts || !errors.Is(err, syscall.ENOSPC) {
			return groups, err
		}
		if dropped, failed := s.dropOldest(false, "spool disk is full"); !dropped {
			return groups, errors.Join(err, failed)
		}
	}
}

// group is the oldest batches in memory, up to so many bytes and at least one.
func (q *Queue) group(bytes int64) []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.memory) && (n == 0 || bytes >= int64(q.memory[n].batch.Bytes())) {
		bytes -= int64(q.memory[n].batch.Bytes())
		n++
	}
	return slices.Clone(q.memory[:n])
}

// writeGroup appends a group to the queue's segment and syncs it. Whatever fails, the segment is then given up
// where it was synced last: a sync that failed may have thrown away what was written before it.
func (s *Spool) writeGroup(q *Queue, group []*entry) error {
	var bytes int64
	for _, e := range group {
		bytes += recordBytes(e.batch)
	}
	if err := s.makeRoom(bytes+headerBytes+int64(len(q.columns)), q.facts); err != nil {
		return err
	}
	if a := q.appending; a != nil && (a.segment.size+bytes > s.limits.segmentBytes || q.hasVanished(a.segment)) {
		s.seal(q)
	}
	fresh := q.appending == nil
	if fresh {
		if err := s.begin(q); err != nil {
			return err
		}
	}
	a := q.appending
	b, places := s.writer.buffer[:0], make([]place, 0, len(group))
	if fresh {
		b = q.header(a.segment).appendTo(b)
	}
	for _, e := range group {
		at := a.segment.size + int64(len(b))
		places = append(places, placeOf(at, e.batch, e.pushed, a.segment.madeAt))
		b = appendRecord(b, e.batch, e.pushed)
	}
	s.writer.buffer = kept(b)
	if err := s.flush(a.file, b, fresh); err != nil {
		s.abandon(q)
		return fmt.Errorf("write %s: %w", a.segment.name, err)
	}
	q.commit(a.segment, group, places, int64(len(b)))
	s.trace(group, a.segment.name)
	return nil
}

// trace writes that the traced batches of a group are durable.
func (s *Spool) trace(group []*entry, file string) {
	if s.cfg.Trace == nil {
		return
	}
	for _, e := range group {
		s.cfg.Trace.Of(e.batch.Identity.Key()).Step("spool", e.pushed, time.Now(), nil, attribute.String("gpufleet.file", file), attribute.Int("gpufleet.group.batches", len(group)))
	}
}

// kept lets go of a buffer that one large batch has made large.
func kept(b []byte) []byte {
	if cap(b) > 4<<20 {
		return nil
	}
	return b
}

// flush writes bytes and makes them durable; of a new file, its name too.
func (s *Spool) flush(f file, b []byte, fresh bool) error {
	n, err := f.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	started := time.Now()
	err = f.Sync()
	if err == nil && fresh {
		err = syncFolder(s.writer.folder)
	}
	s.counts.syncs.Add(1)
	s.counts.syncNanos.Add(int64(time.Since(started)))
	return err
}

// begin opens a new segment. Its header is written with the first group.
func (s *Spool) begin(q *Queue) error {
	w := &s.writer
	w.number++
	g := &segment{name: segmentName(w.number, q.table), epoch: s.epoch, madeAt: time.Now(), active: true, folder: w.folder}
	f, err := w.folder.open(g.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	q.appending = &appending{segment: g, number: w.number, file: f}
	return nil
}

func (q *Queue) hasVanished(g *segment) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return g.vanished
}

// commit enters a group into its segment and lets go of its bytes.
func (q *Queue) commit(g *segment, group []*entry, places []place, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.vanished {
		return // it is written again, to another file
	}
	if g.size == 0 {
		q.segments = append(q.segments, g)
	}
	q.spool.grown(g.size, g.size+bytes)
	g.size += bytes
	for i, e := range group {
		g.add(e.batch.Identity.Key(), places[i])
		if e.gone {
			g.settle(len(g.places) - 1)
			continue
		}
		q.removeLocked(0) // a group is the oldest
	}
	q.notifyLocked()
}

// seal ends a segment that is as large as it should be.
func (s *Spool) seal(q *Queue) {
	a := q.appending
	if a == nil {
		return
	}
	q.appending = nil
	if a.segment.size > 0 {
		q.before = predecessor{number: a.number, bytes: uint32(a.segment.size)}
	}
	_ = a.file.Close() // all of it was synced
	q.mu.Lock()
	defer q.mu.Unlock()
	a.segment.active = false
}

// abandon ends a segment after a failure, at its last durable byte.
func (s *Spool) abandon(q *Queue) {
	a := q.appending
	if a.segment.size > 0 {
		_ = a.file.Truncate(a.segment.size) // else the next start passes over what lies behind: the next header tells how much was durable
		s.seal(q)
		return
	}
	s.seal(q)
	if s.writer.folder.remove(a.segment.name) != nil { // at once, if possible: on a full disk the next try needs the room
		s.writer.done = append(s.writer.done, fileInfo{name: a.segment.name})
	}
}

// clear removes the files that are done.
func (s *Spool) clear() {
	for _, q := range s.queues {
		if a := q.appending; a != nil && q.isSpent(a.segment) {
			s.seal(q)
		}
		for _, g := range q.takeSpent() {
			s.discard(g)
		}
	}
	w := &s.writer
	w.done = slices.DeleteFunc(w.done, func(f fileInfo) bool {
		if err := w.folder.remove(f.name); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.cfg.Logger.Debug("remove a segment that is done", "file", f.name, "error", err)
			return false // tried again with the next round
		}
		s.grown(f.size, 0)
		return true
	})
}

func (q *Queue) isSpent(g *segment) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return g.spent(q.spool.limits.recycleBytes)
}

// takeSpent takes the segments out that nobody needs any more.
func (q *Queue) takeSpent() []*segment {
	q.mu.Lock()
	defer q.mu.Unlock()
	var spent []*segment
	q.segments = slices.DeleteFunc(q.segments, func(g *segment) bool {
		if g.spent(q.spool.limits.recycleBytes) {
			spent = append(spent, g)
			return true
		}
		return false
	})
	return spent
}

// discard has the file of a segment removed that no queue holds any more; one with damage is kept for a person
// to look at.
func (s *Spool) discard(g *segment) {
	f := fileInfo{g.name, g.size}
	if g.damaged {
		s.setAside(f)
		return
	}
	s.writer.done = append(s.writer.done, f)
}

// setAside renames a file such that it is not read again.
func (s *Spool) setAside(f fileInfo) {
	name := f.name + damagedSuffix
	if err := s.writer.folder.rename(f.name, name); err != nil {
		s.cfg.Logger.Warn("set a damaged segment aside", "file", f.name, "error", err)
		name = f.name
	}
	s.writer.aside = append(s.writer.aside, fileInfo{name, f.size})
	s.counts.setAside.Store(int64(len(s.writer.aside)))
}

// grown counts the bytes of files, in the blocks that a disk gives.
func (s *Spool) grown(from, to int64) { s.counts.diskBytes.Add(blocks(to) - blocks(from)) }

const blockBytes = 4 << 10

func blocks(size int64) int64 { return (size + blockBytes - 1) / blockBytes * blockBytes }

// header is that of a segment of this version.
func (q *Queue) header(g *segment) header {
	return header{table: q.table.ID, node: q.spool.node, epoch: g.epoch, madeAt: g.madeAt, before: q.before, columns: q.columns}
}

// release closes what is open. Segments whose batches are all settled go, whatever their size: a later start
// would have them sent again.
func (s *Spool) release() error {
	if s.writer.folder == nil {
		return nil
	}
	for _, q := range s.queues {
		s.seal(q)
	}
	s.clear()
	if s.writer.lock == nil {
		return nil
	}
	return s.writer.lock.Close()
}
