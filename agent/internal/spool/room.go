// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
)

// errNoRoom means that the files may not become larger, and none can be dropped.
var errNoRoom = errors.New("spool is full")

// makeRoom drops what must go so that so many bytes fit: files that were set aside, oldest first; then readings,
// the oldest segment of all tables first; then, for facts alone, facts likewise.
func (s *Spool) makeRoom(bytes int64, facts bool) error {
	for s.counts.diskBytes.Load()+blocks(bytes) > s.cfg.MaxBytes {
		if s.dropAside() {
			continue
		}
		dropped, err := s.dropOldest(false, "spool is full")
		if !dropped && err == nil && facts {
			dropped, err = s.dropOldest(true, "spool is full")
		}
		if err == nil && !dropped {
			err = errNoRoom
		}
		if err != nil {
			return fmt.Errorf("write %d bytes to a spool of at most %d: %w", bytes, s.cfg.MaxBytes, err)
		}
	}
	return nil
}

// dropAside removes the oldest file that was set aside; false if there is none.
func (s *Spool) dropAside() bool {
	w := &s.writer
	if len(w.aside) == 0 {
		return false
	}
	f := w.aside[0]
	if err := w.folder.remove(f.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false
	}
	s.cfg.Logger.Warn("removed a file that was set aside: its room is needed", "file", f.name)
	w.aside = w.aside[1:]
	s.counts.setAside.Store(int64(len(w.aside)))
	s.grown(f.size, 0)
	return true
}

// dropOldest gives up the oldest segment of facts or of readings; false if there is none.
func (s *Spool) dropOldest(facts bool, reason string) (dropped bool, err error) {
	var from *Queue
	var oldest *segment
	for _, q := range s.queues {
		if q.facts != facts {
			continue
		}
		if g := q.oldest(); g != nil && (oldest == nil || g.name < oldest.name) {
			from, oldest = q, g
		}
	}
	if oldest == nil {
		return false, nil
	}
	if a := from.appending; a != nil && a.segment == oldest {
		s.seal(from)
	}
	from.drops(oldest, true)
	if err := s.writer.folder.remove(oldest.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		from.drops(oldest, false)
		return false, err
	}
	if l := from.giveUp(oldest, reason); l.Batches > 0 {
		s.cfg.Logger.Error("batches were dropped", "table", from.table.Name, "batches", l.Batches, "rows", l.Rows, "file", oldest.name, "reason", reason)
		s.lose(l)
	}
	return true, nil
}

func (q *Queue) oldest() *segment {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.segments) == 0 {
		return nil
	}
	return q.segments[0]
}

func (q *Queue) drops(g *segment, yes bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g.dropped = yes
}

// giveUp takes a segment out whose file is gone, and tells what is lost with it.
func (q *Queue) giveUp(g *segment, reason string) Loss {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := Loss{Kind: Dropped, Last: q.key(g.epoch, g.last()), Reason: reason}
	i := slices.Index(q.segments, g)
	if i < 0 {
		return l // nothing that was not counted
	}
	q.segments = slices.Delete(q.segments, i, i+1)
	q.spool.grown(g.size, 0)
	batches, rows, _ := g.waiting()
	l.Batches, l.Rows = uint64(batches), rows
	q.notifyLocked()
	return l
}
