// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// A life's batches are inserted under a claim, which names this process and counts its claims of the life. Whoever claims
// a life that another has ends that one's claim by a row in collector_claims, for good; every insert has ClickHouse look
// for such rows itself, and fails if one of its own claims is among them. docs/adr/009-fencing.md has the proof that no
// batch lands twice: it needs no clock, no order of messages, and nothing of whoever had the claim before.

// claim is one that somebody has or had.
type claim struct {
	instance uint64
	tenure   uint32
}

// claimed is what is known of one life.
type claimed struct {
	claims []claim
	over   map[claim]bool
	names  map[claim]string // of the collectors
}

// live lists the claims that are not over.
func (c *claimed) live() (live []claim) {
	for _, one := range c.claims {
		if !c.over[one] {
			live = append(live, one)
		}
	}
	return live
}

// Grant is what a claim gives.
type Grant struct {
	Tenure uint32 // for Item
	// Doubtful says that others had the life before: what was sent to them may be in the table without an entry in the
	// ledger.
	Doubtful bool
	Stored   []uint64 // sequences that the ledger has as stored
}

// Moved is the error of a batch that was not stored because its agent has gone to another collector.
type Moved struct{ Key wire.Key }

// Error implements error.
func (m Moved) Error() string {
	return fmt.Sprintf("the agent of batch %v has gone to another collector", m.Key)
}

// ErrHeld says that another collector has the life.
var ErrHeld = errors.New("another collector has the agent")

// movedMark is what ClickHouse says of an insert of a claim that is over.
const movedMark = "gpufleet: a claim is over"

const (
	// claimRounds is how often others may end a claim while it is being made.
	claimRounds = 4
	// drainPoll is how often it is looked whether they still run.
	drainPoll = 20 * time.Millisecond
	// renewEvery is how often a process says anew which claims it has: a row is gone after two months, and an agent may live
	// longer.
	renewEvery = 6 * time.Hour
	// maxDrained bounds what is remembered of drained claims. What is forgotten is drained once more.
	maxDrained = 1 << 20
)

// outcome is what became of the claim of one life.
type outcome struct {
	Grant
	others []claim // that somebody had before, this process perhaps
	err    error
}

// take claims lives. Gently means: unless another collector has them.
func (s *Store) take(ctx context.Context, lives map[life]bool) (map[life]*outcome, error) {
	outcomes := make(map[life]*outcome)
	asked := maps.Clone(lives) // whether gently
	made := make(map[life]claim)
	for round := 0; len(asked) > 0; round++ {
		known, err := s.claimsOf(ctx, asked)
		if err != nil {
			return nil, err
		}
		var rows []claimRow
		for l, gently := range asked {
			o, more := s.step(l, gently, known[l], made)
			switch {
			case o != nil:
				outcomes[l] = o
				delete(asked, l)
			case round >= claimRounds:
				outcomes[l] = &outcome{err: ErrContested}
				delete(asked, l)
			default:
				rows = append(rows, more...)
			}
		}
		if len(rows) == 0 {
			continue
		}
		if err := s.writeClaims(ctx, rows); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// ErrContested says that others claimed the life while it was being claimed here. Whoever asks again may have it.
var ErrContested = errors.New("other collectors claim the agent at the same time")

// step looks at what is known of a life: either its claim stands, and every other one of it is over, or rows are to be
// written. It is looked at again after that, for somebody else may have written at the same time.
func (s *Store) step(l life, gently bool, c *claimed, made map[life]claim) (*outcome, []claimRow) {
	mine, last, foreign, others := c.sort(s.instance)
	if before, ok := made[l]; ok && before != mine {
		return &outcome{err: ErrContested}, nil // made, and ended by somebody: the agent is to choose
	}
	if gently && slices.ContainsFunc(foreign, func(f claim) bool { return c.names[f] != s.cfg.Name }) {
		return &outcome{err: ErrHeld}, nil
	}
	if mine.tenure > 0 && len(foreign) == 0 {
		return &outcome{Grant: Grant{Tenure: mine.tenure, Doubtful: len(others) > 0}, others: others}, nil
	}
	if mine.tenure == 0 {
		mine.tenure = last + 1
		made[l] = mine
	}
	if len(foreign) == 0 {
		return nil, []claimRow{{life: l, claim: mine}}
	}
	rows := make([]claimRow, len(foreign))
	for n, f := range foreign {
		rows[n] = claimRow{life: l, claim: mine, over: f}
	}
	return nil, rows
}

// sort tells a process's standing claim (of tenure 0 if there is none) and its last tenure, the standing ones of others, and
// all but the standing one of the process.
func (c *claimed) sort(instance uint64) (mine claim, last uint32, foreign, others []claim) {
	mine.instance = instance
	for _, one := range c.live() {
		if one.instance == instance {
			mine.tenure = max(mine.tenure, one.tenure)
		} else {
			foreign = append(foreign, one)
		}
	}
	for _, one := range c.claims {
		if one.instance == instance {
			last = max(last, one.tenure)
		}
		if one != mine {
			others = append(others, one)
		}
	}
	return mine, last, foreign, others
}

// drain waits until no insert runs that was begun under a claim that somebody had before, and ends those that take long: what
// they found of claims may be out of date. Those that begin from now on find that they are over. For as long as
// this process's claim stands nobody else can have begun one: it is not waited for again.
func (s *Store) drain(ctx context.Context, outcomes map[life]*outcome) error {
	ended := make(map[inserts]bool)
	for l, o := range outcomes {
		if !s.toDrain(l, o) {
			continue
		}
		for _, c := range o.others {
			ended[inserts{c.instance, l.table}] = true
		}
	}
	if err := s.awaitEnd(ctx, ended); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.drained)+len(outcomes) > maxDrained {
		clear(s.drained)
	}
	for l, o := range outcomes {
		if o.err == nil && len(o.others) > 0 {
			s.drained[l] = o.Tenure
		}
	}
	return nil
}

// toDrain tells that inserts may run under claims that somebody had before.
func (s *Store) toDrain(l life, o *outcome) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.err == nil && len(o.others) > 0 && s.drained[l] != o.Tenure
}

// awaitEnd waits until none of the inserts runs that run now.
func (s *Store) awaitEnd(ctx context.Context, ended map[inserts]bool) error {
	if len(ended) == 0 {
		return nil
	}
	running, err := s.runningInserts(ctx, ended)
	for since := time.Now(); err == nil && len(running) > 0; {
		if time.Since(since) > s.cfg.DrainPatience {
			s.cfg.Logger.Info("ending inserts of a collector that has lost its agents", "inserts", strings.Join(running, ", "))
			if err := s.endAll(ctx, running); err != nil {
				return err
			}
		}
		var still []string
		if still, err = s.runningInserts(ctx, ended); err == nil {
			running = slices.DeleteFunc(running, func(id string) bool { return !slices.Contains(still, id) })
		}
		if len(running) > 0 && !sleep(ctx, drainPoll) {
			return ctx.Err()
		}
	}
	return err
}

// keepClaims has the rows of this process's claims outlive the retention of their table, until the context ends.
func (s *Store) keepClaims(ctx context.Context) {
	for sleep(ctx, renewEvery) {
		if err := s.renewClaims(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("the claims are not renewed; trying again later", "retry_in", renewEvery, "error", err)
		}
	}
}

// inserts are those of a process into a table.
type inserts struct {
	instance uint64
	table    uint8
}

// parseQueryID reads the name of an insert that Store.queryID has made.
func parseQueryID(id string) (inserts, bool) {
	parts := strings.Split(id, "/")
	if len(parts) != 5 || parts[0] != "gpufleet" {
		return inserts{}, false
	}
	table, ok := schema.TableByName(parts[3])
	var instance uint64
	if n, err := fmt.Sscanf(parts[2], "%016x", &instance); n != 1 || err != nil || !ok {
		return inserts{}, false
	}
	return inserts{instance, table.ID}, true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
