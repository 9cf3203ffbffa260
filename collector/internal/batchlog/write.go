// SPDX-License-Identifier: Apache-2.0

package batchlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/gpufleet/gpufleet/internal/frames"
)

// writeGroup appends a group and makes it durable. Whatever fails, the segment is then given up where it was synced
// last: a sync that failed may have thrown away what was written before it.
func (n *lane) writeGroup(group []*entry) {
	group = n.admit(group)
	if len(group) == 0 {
		return
	}
	lasting, err := n.append(group)
	if err != nil {
		n.complain(err)
		n.abandon()
		n.forget(group)
		n.answer(group, fmt.Errorf("write collector's log: %w", err))
		return
	}
	n.step(group, lasting)
	n.drop()
	n.answer(group, nil)
}

// complainEvery is how often it is said that groups cannot be written: agents send them again and again.
const complainEvery = time.Minute

// complain says that a group cannot be written: the first time, and then once a minute.
func (n *lane) complain(err error) {
	n.failures++
	if now := time.Now(); n.complained.IsZero() || now.Sub(n.complained) >= complainEvery {
		n.cfg.Logger.Error("batches cannot be kept in the log: their agents keep them, and send them again", "table", n.table.Name, "times", n.failures, "error", err)
		n.complained, n.failures = now, 0
	}
}

// admit refuses the batches for which there is no room. What makes room by and by is always let in.
func (n *lane) admit(group []*entry) []*entry {
	var bytes int64
	for _, e := range group {
		bytes += e.bytes() + frames.HeadBytes
	}
	n.endSpent(bytes)
	n.makeRoom(bytes)
	used := n.bytes()
	if used+bytes <= n.cfg.MaxBytes {
		return group
	}
	isBatch := func(e *entry) bool { return e.batch != nil }
	refused := slices.DeleteFunc(slices.Clone(group), func(e *entry) bool { return !isBatch(e) })
	if len(refused) > 0 {
		n.answer(refused, fmt.Errorf("keep %d bytes of %s beside %d, at most %d: %w: ClickHouse does not take the rows, or --log-bytes is too small",
			bytes, n.table.Name, used, n.cfg.MaxBytes, ErrFull))
	}
	return slices.DeleteFunc(slices.Clone(group), isBatch)
}

// endSpent ends the segment, and so removes it, if it is in the way and nothing in it is needed any more: a log that is
// smaller than a segment would stay full for good.
func (n *lane) endSpent(bytes int64) {
	n.mu.Lock()
	spent := n.active != nil && n.active.live == 0 && n.size+bytes > n.cfg.MaxBytes
	n.mu.Unlock()
	if !spent {
		return
	}
	if err := n.seal(); err != nil {
		n.cfg.Logger.Warn("end a segment of the log of which nothing is needed", "table", n.table.Name, "error", err)
	}
}

// makeRoom removes files that were set aside, oldest first, if they are in the way.
func (n *lane) makeRoom(bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.aside) > 0 && n.size+bytes > n.cfg.MaxBytes {
		if n.folder.remove(n.aside[0].name) != nil {
			return
		}
		n.cfg.Logger.Warn("removed a file that was set aside: its room is needed", "table", n.table.Name, "file", n.aside[0].name)
		n.size -= n.aside[0].size
		n.aside = n.aside[1:]
	}
}

// append writes a group and enters it; lasting tells whether it had to be synced.
func (n *lane) append(group []*entry) (lasting bool, err error) {
	fresh, err := n.prepare()
	if err != nil {
		return false, err
	}
	b, at := n.buffer[:0], time.Now()
	if fresh {
		b = frames.Append(b, opening, at, []byte(n.table.Name), nil, []byte(columnsOf(n.table)))
	}
	for _, e := range group {
		e.offset = n.active.size + int64(len(b))
		b = e.appendTo(b, at)
		lasting = lasting || e.settled == nil
	}
	if n.buffer = b; cap(b) > 4*int(n.cfg.limits.groupBytes) {
		n.buffer = nil // one large group is no reason to keep it
	}
	wrote, err := n.file.Write(b)
	if err == nil && wrote < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil && (lasting || fresh) {
		n.reached(StepWritten)
		err = n.file.Sync()
	}
	if err == nil && fresh {
		err = n.folder.sync()
	}
	if err != nil {
		return lasting, err
	}
	n.dirty = !lasting && !fresh
	n.commit(group, int64(len(b)))
	return lasting, nil
}

// commit enters what is in the file.
func (n *lane) commit(group []*entry, bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.active.size == 0 {
		n.segments = append(n.segments, n.active)
	}
	n.active.size += bytes
	n.size += bytes
	for _, e := range group {
		n.enterLocked(n.active, e)
	}
}

// prepare has a segment to append to; fresh tells that it has no bytes yet.
func (n *lane) prepare() (fresh bool, err error) {
	if n.active != nil && n.active.size >= n.cfg.limits.segmentBytes {
		if err := n.seal(); err != nil {
			return false, err
		}
	}
	if n.active != nil {
		return false, nil
	}
	n.number++
	g := &segment{name: segmentName(n.number)}
	if n.file, err = n.folder.create(g.name); err != nil {
		return false, fmt.Errorf("begin segment: %w", err)
	}
	n.active = g
	return true, nil
}

// seal ends the segment.
func (n *lane) seal() error {
	if n.active == nil {
		return nil
	}
	var err error
	if n.dirty {
		err = n.file.Sync() // of what is settled: if it fails, the ledger knows
	}
	if err = errors.Join(err, n.file.Close()); err != nil {
		err = fmt.Errorf("end segment %s: %w", n.active.name, err)
	}
	n.active, n.file, n.dirty = nil, nil, false
	n.drop()
	return err
}

// abandon ends the segment after a failure, at its last durable byte.
func (n *lane) abandon() {
	if n.active == nil {
		return
	}
	g := n.active
	if g.size > 0 {
		_ = n.file.Truncate(g.size) // else a later start takes what was not written whole for damage, and keeps the file
	}
	n.dirty = false
	_ = n.seal() // nothing of it is missed
	if g.size == 0 {
		_ = n.folder.remove(g.name) // at once: on a full disk the next try needs the room
	}
}

// forget settles what could not be written down as settled.
func (n *lane) forget(group []*entry) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range group {
		for _, k := range e.settled {
			n.settleLocked(k)
		}
	}
}

// drop removes the segments of which nothing is needed any more. One with damage is set aside.
func (n *lane) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.segments = slices.DeleteFunc(n.segments, func(g *segment) bool {
		if g.live > 0 || g == n.active {
			return false
		}
		if g.damaged {
			n.setAsideLocked(g)
			return true
		}
		if err := n.folder.remove(g.name); err != nil {
			n.cfg.Logger.Warn("remove a segment of the log that is done", "table", n.table.Name, "file", g.name, "error", err)
			return false // tried again with the next group
		}
		n.size -= g.size
		return true
	})
}

// setAsideLocked renames a file such that it is not read again.
func (n *lane) setAsideLocked(g *segment) {
	if err := n.folder.rename(g.name, g.name+damagedSuffix); err != nil {
		n.cfg.Logger.Warn("set a damaged segment of the log aside", "table", n.table.Name, "file", g.name, "error", err)
	} else {
		g.name += damagedSuffix
	}
	n.aside = append(n.aside, g)
}

// step tells how far a group has come.
func (n *lane) step(group []*entry, lasting bool) {
	switch {
	case !lasting:
		n.reached(StepSettled)
	case slices.ContainsFunc(group, func(e *entry) bool { return e.unit != nil }):
		n.reached(StepNoted)
	default:
		n.reached(StepAccepted)
	}
}

func (n *lane) reached(step string) {
	if n.cfg.OnStep != nil {
		n.cfg.OnStep(step)
	}
}
