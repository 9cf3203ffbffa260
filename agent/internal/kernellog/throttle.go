// SPDX-License-Identifier: Apache-2.0

package kernellog

import "time"

// maxFindingsPerSecond bounds what a node reports, by the clock of the log. A GPU that is broken writes a few lines
// a second; what writes more says the same again and again.
const maxFindingsPerSecond = 200

// throttle drops what is too much of one second, and counts it.
type throttle struct {
	second  time.Duration // of the log's clock
	count   int
	dropped int64
	last    Finding   // that was dropped
	due     time.Time // when the drop is reported, if nothing more comes; zero if none is
}

// admit passes f on, or counts it.
func (t *throttle) admit(f Finding, since time.Duration, deliver func(Finding)) bool {
	if second := since.Truncate(time.Second); second != t.second {
		t.end(deliver)
		t.second, t.count = second, 0
	}
	if t.count++; t.count <= maxFindingsPerSecond {
		deliver(f)
		return true
	}
	if t.dropped == 0 {
		t.due = time.Now().Add(time.Second)
	}
	t.dropped++
	t.last = f
	return false
}

// expire reports what was dropped if it is time to.
func (t *throttle) expire(now time.Time, deliver func(Finding)) {
	if !t.due.IsZero() && !now.Before(t.due) {
		t.end(deliver)
	}
}

// end reports what was dropped.
func (t *throttle) end(deliver func(Finding)) {
	if t.dropped == 0 {
		return
	}
	f := t.last
	deliver(Finding{
		Kind: Suppressed, Time: f.Time, BootID: f.BootID, Sequence: f.Sequence, Backlog: f.Backlog, Count: new(t.dropped),
		Text: printable("too many findings in one second of the kernel log; the last: " + f.Text),
	})
	t.dropped, t.due = 0, time.Time{}
}
