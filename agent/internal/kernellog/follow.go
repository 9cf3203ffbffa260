// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstBufferBytes = 16 << 10 // twice what present kernels write
	maxBufferBytes   = 1 << 20
)

// begin learns which boot this is, and how far its log was read.
func (r *Reader) begin() error {
	if r.bootID != "" {
		return nil
	}
	id, err := readBootID(r.cfg.BootIDFile)
	if err != nil {
		return err
	}
	r.bootID = id
	p, ok, err := r.state.load()
	if err != nil {
		r.stateProblem = err.Error()
	}
	if ok && p.BootID == id {
		r.last, r.known, r.resumed = p.Sequence, true, true
	}
	return nil
}

// errStateAhead ends a session whose position is beyond the log: the position is wrong, and what was skipped for it
// has to be read.
var errStateAhead = errors.New("the saved position is beyond the end of the kernel log")

// follow reads the device until it fails.
func (r *Reader) follow(dev device) error {
	for {
		n, err := dev.Read(r.buffer)
		switch {
		case err == nil && n == 0:
			return io.ErrUnexpectedEOF
		case err == nil:
			r.take(r.buffer[:n])
		case errors.Is(err, unix.EAGAIN):
			if err := r.caughtUp(); err != nil {
				return err
			}
			if err := dev.Wait(r.housekeep(time.Now())); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		case errors.Is(err, unix.EPIPE):
			r.gapReason = GapOverrun
		case errors.Is(err, unix.EINVAL) && len(r.buffer) < maxBufferBytes:
			r.unreadable(fmt.Errorf("larger than %d bytes", len(r.buffer)))
			r.buffer = make([]byte, 2*len(r.buffer))
		case errors.Is(err, unix.EINTR):
		default:
			return err
		}
	}
}

// unreadable counts a record that is lost. The gap in the sequence is reported with the next one.
func (r *Reader) unreadable(why error) {
	r.stats.Unreadable.Add(1)
	r.gapReason = cmp.Or(r.gapReason, GapUnreadable)
	r.cfg.Logger.Debug("record of the kernel log is not readable", "error", why)
}

// take looks at one record.
func (r *Reader) take(b []byte) {
	rec, err := parseRecord(b)
	if err != nil {
		r.unreadable(err)
		return
	}
	r.stats.Records.Add(1)
	r.seen, r.hasSeen = max(r.seen, rec.sequence), true
	if r.known && rec.sequence <= r.last {
		return // it was looked at in an earlier session or life
	}
	at := Finding{Time: r.clock.stamp(rec.since, r.live), BootID: r.bootID, Sequence: rec.sequence, Backlog: !r.live}
	r.parser.passed(rec.since)
	r.gapBefore(at)
	r.last, r.known, r.resumed, r.gapReason = rec.sequence, true, false, ""
	if rec.facility == 0 || r.cfg.UserLines {
		for line := range strings.SplitSeq(rec.text, "\n") {
			r.parser.line(at, rec.since, line)
		}
	}
	r.housekeep(time.Now())
}

// gapBefore reports the lines between the last record and this one.
func (r *Reader) gapBefore(at Finding) {
	next, reason := uint64(0), GapStart
	if r.known {
		next, reason = r.last+1, GapOverrun
	}
	if r.resumed {
		reason = GapRestart
	}
	if at.Sequence == next {
		return
	}
	missed := at.Sequence - next
	r.stats.MissedLines.Add(missed)
	at.Kind, at.Subcode, at.Count = LogGap, cmp.Or(r.gapReason, reason), new(int64(missed))
	at.Text = fmt.Sprintf("%d lines of the kernel log are unknown: from sequence %d to %d", missed, next, at.Sequence-1)
	r.deliver(at)
}

// caughtUp notes that there is nothing more to read.
func (r *Reader) caughtUp() error {
	if r.resumed && r.hasSeen && r.seen < r.last {
		r.known, r.resumed = false, false
		r.stateProblem = r.state.setAside(fmt.Errorf("%w: %d of %d", errStateAhead, r.last, r.seen)).Error()
		return errStateAhead
	}
	r.live = true
	return nil
}

// report is where the parser's findings go.
func (r *Reader) report(f Finding, since time.Duration) {
	if !r.throttle.admit(f, since, r.deliver) {
		r.stats.Throttled.Add(1)
	}
}

// deliver hands a finding out.
func (r *Reader) deliver(f Finding) {
	r.stats.Findings.Add(1)
	r.unsaved = true
	r.cfg.OnFinding(f)
}

// housekeep does what is due, and returns when something will be; zero if nothing will.
func (r *Reader) housekeep(now time.Time) (next time.Time) {
	r.parser.expire(now)
	r.throttle.expire(now, r.deliver)
	if due := r.saveDue(); !due.IsZero() && !now.Before(due) {
		r.save()
	}
	return earliest(r.parser.due(), r.throttle.due, r.saveDue())
}

// saveDue is when the position should be written; zero if there is nothing new.
func (r *Reader) saveDue() time.Time {
	switch p, ok := r.position(); {
	case !ok || r.state.path == "" || p == r.state.written:
		return time.Time{}
	case r.unsaved:
		return r.state.at.Add(saveAfterFinding)
	default:
		return r.state.at.Add(saveAnyway)
	}
}

// save writes the position, and tells when that does not work.
func (r *Reader) save() {
	p, ok := r.position()
	if !ok {
		return
	}
	problem := ""
	if err := r.state.save(p, time.Now()); err != nil {
		problem = err.Error()
	} else {
		r.unsaved = false
	}
	if problem != r.stateProblem {
		r.stateProblem = problem
		if r.health.Reading {
			r.tell(Health{Reading: true, Problem: problem})
		}
	}
}

// position is how far the log need not be read again: what the parser still holds back would be lost.
func (r *Reader) position() (position, bool) {
	last := r.last
	if held, ok := r.parser.oldest(); ok {
		if held == 0 {
			return position{}, false
		}
		last = min(last, held-1)
	}
	return position{Version: stateVersion, BootID: r.bootID, Sequence: last}, r.known
}

func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
