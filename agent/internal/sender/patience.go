// SPDX-License-Identifier: Apache-2.0

package sender

import "time"

// patience is how long a batch waits that the collector asks for again: longer with each round of such answers, until one
// batch is taken. A collector whose disk is full asks for all that is under way, of each agent. It is the receiving
// goroutine's.
type patience struct {
	first, most time.Duration
	wait        time.Duration // of this round; 0: nothing was asked for again since a batch was taken
	since       time.Time     // its first answer
}

// next is the wait of a batch that is asked for again now. What was asked for at the same time is of one round.
func (p *patience) next(now time.Time) time.Duration {
	switch {
	case p.wait == 0:
		p.wait, p.since = p.first, now
	case now.Sub(p.since) >= p.wait: // those of the round before were sent again
		p.wait, p.since = min(2*p.wait, p.most), now
	}
	return p.wait
}

// taken ends the rounds.
func (p *patience) taken() { p.wait = 0 }
