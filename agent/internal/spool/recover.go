// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/agent/recording"
	"github.com/gpufleet/gpufleet/internal/frames"
	"github.com/gpufleet/gpufleet/schema"
)

const (
	segmentSuffix = ".gfs"
	damagedSuffix = ".damaged"
)

// segmentName names a segment such that names sort by age.
func segmentName(number uint64, t schema.Table) string {
	return fmt.Sprintf("%016d-%s%s", number, t.Name, segmentSuffix)
}

// parseName reads a segment's name. A table that this version does not know has an ID of 0.
func parseName(name string) (number uint64, t schema.Table, ok bool) {
	stem, ok := strings.CutSuffix(name, segmentSuffix)
	digits, table, cut := strings.Cut(stem, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	t, _ = schema.TableByName(table)
	return number, t, ok && cut && err == nil && number < math.MaxUint64
}

// found is a segment's file that was there at the start.
type found struct {
	fileInfo
	number uint64
	table  schema.Table
}

// ErrForeign means that the folder belongs to another node.
var ErrForeign = errors.New("belongs to another node")

// fatal tells the errors that waiting does not mend.
func fatal(err error) bool { return errors.Is(err, ErrForeign) || errors.Is(err, ErrLocked) }

// prepare takes the folder and reads what is in it. Nothing is changed in one that belongs to another node.
func (s *Spool) prepare() error {
	f := s.cfg.folder
	var lock io.Closer
	if f == nil {
		d, err := openDisk(s.cfg.Dir)
		if err != nil {
			return err
		}
		f, lock = d, d
	}
	err := s.adopt(f)
	if err != nil && lock != nil {
		return errors.Join(err, lock.Close())
	}
	if err == nil {
		s.writer.folder, s.writer.lock = f, lock
	}
	return err
}

// adopt enters what is in a folder.
func (s *Spool) adopt(f folder) error {
	files, err := f.list()
	if err != nil {
		return err
	}
	before, err := readLife(f)
	if err != nil {
		s.cfg.Logger.Warn("read which life of the agent was the last", "dir", s.cfg.Dir, "error", err)
	}
	if before.node != "" && before.node != s.cfg.Node {
		return fmt.Errorf("spool %s %w: %s, and this is %s: give --spool-dir another folder, or remove that one if the node is no more",
			s.cfg.Dir, ErrForeign, before.node, s.cfg.Node)
	}
	segments, aside := sortFiles(files)
	for _, g := range segments {
		if err := s.checkOwner(f, g); err != nil {
			return err
		}
	}
	s.writer.folder = f // damaged files are set aside
	s.recover(f, segments, aside)
	s.begins(f, before.epoch)
	return nil
}

// sortFiles finds the segments, oldest first, and what was set aside.
func sortFiles(files []fileInfo) (segments []found, aside []fileInfo) {
	for _, info := range files {
		if number, table, ok := parseName(info.name); ok {
			segments = append(segments, found{fileInfo: info, number: number, table: table})
		} else if strings.HasSuffix(info.name, segmentSuffix+damagedSuffix) {
			aside = append(aside, info)
		}
	}
	slices.SortFunc(segments, func(a, b found) int { return cmp.Compare(a.number, b.number) })
	slices.SortFunc(aside, func(a, b fileInfo) int { return cmp.Compare(a.name, b.name) })
	return segments, aside
}

// checkOwner refuses a segment of another node. One that cannot be read is not refused.
func (s *Spool) checkOwner(f folder, g found) error {
	opened, err := f.open(g.name, os.O_RDONLY)
	if err != nil {
		return nil // recovery meets it again, and says so
	}
	defer opened.Close() //nolint:errcheck // it was only read
	h, _, err := parseHeader(frames.NewWindow(opened, min(g.size, headerBytes+maxColumnsBytes)))
	if err == nil && h.node != s.node {
		return fmt.Errorf("spool %s %w: %s is of node %016x, and this is %s (%016x): give --spool-dir another folder, or remove that one if the node is no more",
			s.cfg.Dir, ErrForeign, g.name, h.node, s.cfg.Node, s.node)
	}
	return nil
}

// recover reads every segment and gives it to its queue.
func (s *Spool) recover(f folder, segments []found, aside []fileInfo) {
	w := &s.writer
	w.aside = append(w.aside, aside...)
	for _, info := range aside {
		s.grown(0, info.size)
	}
	byTable := make(map[uint8][]*recovery)
	for _, g := range segments {
		w.number = max(w.number, g.number)
		s.grown(0, g.size)
		r := &recovery{Spool: s, folder: f, found: g}
		if r.run() {
			byTable[g.table.ID] = append(byTable[g.table.ID], r)
		}
	}
	for _, read := range byTable {
		judge(read)
	}
	s.counts.setAside.Store(int64(len(w.aside)))
	for _, q := range s.queues {
		q.enter(withoutRepeats(whole(byTable[q.table.ID])))
	}
}

// judge tells what a crash or a failed write has left in files from damage. The header of the next segment says how
// much of a file was durable. Of the last one of a life nobody knows: what is not whole at its end was being written.
func judge(read []*recovery) {
	durable := make(map[uint64]int64) // bytes by number
	for _, r := range read {
		if r.before.number > 0 {
			durable[r.before.number] = int64(r.before.bytes)
		}
	}
	for _, r := range read {
		size, known := durable[r.found.number]
		if !known && r.tail != nil {
			size, known = r.tail.From, true
		}
		bad := r.bad
		if known {
			bad = slices.DeleteFunc(slices.Clone(r.bad), func(b span) bool { return b.From >= size })
		}
		switch {
		case len(bad) > 0:
			r.damage(bad)
		case r.tail != nil:
			r.cutTail(*r.tail)
		}
	}
}

// whole are the segments that hold batches; the files of the others go.
func whole(read []*recovery) (segments []*segment) {
	for _, r := range read {
		if len(r.segment.places) == 0 {
			r.discard(r.segment)
			continue
		}
		segments = append(segments, r.segment)
	}
	return segments
}

// withoutRepeats leaves each batch in the last segment that has it. One is in two if the agent wrote it again
// after a sync that failed.
func withoutRepeats(segments []*segment) []*segment {
	lowest := make(map[uint64]uint64) // sequence of an epoch in the segments behind
	for _, g := range slices.Backward(segments) {
		if low, ok := lowest[g.epoch]; ok {
			g.cut(low)
		}
		if len(g.places) > 0 {
			lowest[g.epoch] = g.sequence(0)
		}
	}
	return segments
}

// enter puts recovered segments before all else.
func (q *Queue) enter(segments []*segment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range segments {
		q.spool.counts.recovered.Add(uint64(g.left))
	}
	q.segments = append(segments, q.segments...)
	q.notifyLocked()
}

// recovery reads one segment.
type recovery struct {
	*Spool
	folder  folder
	found   found
	segment *segment
	before  predecessor
	bad     []span // stretches that hold no whole record
	tail    *span  // the one behind the last record
}

// run reads the file; false if it cannot be read now, or by this version. It is then left alone.
func (r *recovery) run() bool {
	w := &r.writer
	scanner, err := r.scan()
	switch {
	case err != nil:
		r.cfg.Logger.Error("a segment of the spool cannot be read, and is left for a later start", "file", r.found.name, "error", err)
		r.spoilt(1, err)
		w.aside = append(w.aside, r.found.fileInfo)
		return false
	case scanner == nil: // said already
		w.aside = append(w.aside, r.found.fileInfo)
		return false
	}
	r.before, r.bad = scanner.header.before, scanner.Bad
	if torn, ok := scanner.Tail(); ok {
		r.tail = &torn
	}
	return true
}

// damage has the file kept, and what is missing told.
func (r *recovery) damage(bad []span) {
	r.segment.damaged = true
	err := fmt.Errorf("bytes %d to %d and %d other stretches", bad[0].From, bad[0].To, len(bad)-1)
	r.cfg.Logger.Error("a segment of the spool is damaged; what is whole is sent, and the file is kept", "file", r.found.name,
		"batches", len(r.segment.places), "error", err)
	r.spoilt(len(bad), err)
}

// spoilt notes places that are damaged, to be told when the spool runs.
func (r *recovery) spoilt(places int, err error) {
	last := (&Queue{spool: r.Spool, table: r.found.table}).key(r.segment.epoch, 0)
	r.writer.untold = append(r.writer.untold, Loss{Kind: Damaged, Batches: uint64(places), Last: last, Reason: r.found.name + ": " + err.Error()})
}

// scan enters the whole records into the segment. The scanner is nil if the file is not for this version.
func (r *recovery) scan() (*scanner, error) {
	r.segment = &segment{folder: r.folder, name: r.found.name, size: r.found.size}
	if r.found.size > maxSegmentBytes {
		return nil, fmt.Errorf("it has %d bytes, at most %d", r.found.size, maxSegmentBytes)
	}
	f, err := r.folder.open(r.found.name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	s, err := newScanner(f, r.found.size)
	if err != nil {
		return nil, err
	}
	if err := r.understand(s); err != nil {
		r.cfg.Logger.Warn("a segment of the spool is left for another version of the agent", "file", r.found.name, "error", err)
		return nil, nil
	}
	for {
		rec, err := s.scan()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return nil, err
		}
		r.take(s, rec)
	}
}

// understand tells why this version cannot send what is in the file, if that is so.
func (r *recovery) understand(s *scanner) error {
	t := r.found.table
	switch {
	case errors.Is(s.headerErr, errVersion):
		return s.headerErr
	case t.ID == 0:
		return errors.New("its table is unknown")
	case s.headerErr != nil:
		return nil //nolint:nilerr // the records tell what they are
	case s.header.table != t.ID:
		return fmt.Errorf("its table is %d by its header", s.header.table)
	}
	r.segment.epoch, r.segment.madeAt = s.header.epoch, s.header.madeAt
	if s.header.columns == columnNames(t) {
		return nil
	}
	r.segment.old = s.header.columns
	_, err := recording.NewLayout(t, strings.Split(s.header.columns, "\n"), nil)
	return err
}

// take enters a record. One that is whole and does not belong here is damage, too.
func (r *recovery) take(s *scanner, rec record) {
	i := rec.batch.Identity
	if r.segment.epoch == 0 { // the header is damaged
		r.segment.epoch, r.segment.madeAt = i.Epoch, rec.head.TakenAt
	}
	if i.Node != r.node || i.Table != r.found.table.ID || r.segment.take(rec) != nil {
		s.Skip(span{From: rec.offset, To: rec.offset + rec.head.Size()})
	}
}

// cutTail shortens a file to its last whole record: what lies behind was never synced.
func (r *recovery) cutTail(torn span) {
	r.cfg.Logger.Info("cut what a crash has left at the end of a segment", "file", r.found.name, "bytes", torn.To-torn.From)
	f, err := r.folder.open(r.found.name, os.O_WRONLY)
	if err != nil {
		return // it is cut again at the next start
	}
	if f.Truncate(torn.From) == nil {
		r.grown(r.segment.size, torn.From)
		r.segment.size = torn.From
	}
	_ = f.Close() // nothing was written
}

// begins chooses the epoch of this life, later than those before, and notes it.
func (s *Spool) begins(f folder, before uint64) {
	for _, q := range s.queues {
		for _, g := range q.segments {
			before = max(before, g.epoch)
		}
	}
	now := uint64(time.Now().UnixMilli())
	switch {
	case s.epoch == 0:
		s.epoch = max(now, before+1)
	case before >= s.epoch:
		s.cfg.Logger.Warn("the folder has batches of a later life than this", "dir", s.cfg.Dir, "epoch", before, "this", s.epoch)
	}
	if before > now {
		s.cfg.Logger.Warn("the clock was set back since an earlier life of the agent", "by", time.Duration(before-now)*time.Millisecond)
	}
	if err := writeLife(f, life{epoch: s.epoch, node: s.cfg.Node}); err != nil {
		s.cfg.Logger.Warn("note which life of the agent this is", "dir", s.cfg.Dir, "error", err)
	}
}
