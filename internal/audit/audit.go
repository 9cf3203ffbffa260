// SPDX-License-Identifier: Apache-2.0

// Package audit holds what the collectors' ledger says against the rows that are in the tables: which
// batches were lost on the way, which were stored twice. It reads only, and all of its counting happens
// in ClickHouse: what comes back is a line per agent, and one per gap.
//
// The ledger is the distinct (table, node, epoch, sequence) that collectors recorded, stored or
// quarantined; stored wins. Agents number their batches without gaps, so of each life (table, node,
// epoch) everything is known from its first batch to its highest:
//
//   - lost: a sequence that is neither in the ledger nor in the table; and a batch that the ledger has
//     as stored, and whose rows are not all there. Rows that went by age are not lost.
//   - duplicated: a batch with more rows in the table than the ledger says.
//   - unrecorded: a batch that is in the table, and not in the ledger as stored.
//
// Run finds all that. Count answers from the ledger alone, by hour or node, whatever the size of the fleet: a day of
// 100,000 GPUs in about a second.
//
// On a cluster each shard compares what it has, all at the same time. Nodes that are on several shards, for they have moved,
// are looked at batch by batch with what all shards have of them.
//
// Where a life began before the audited time, it counts from the first batch of that time on. An audit that
// found no batch to look at proves nothing, and says so.
package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/schema"
)

// DefaultPeriod is audited where nothing else is said.
const DefaultPeriod = 24 * time.Hour

// DefaultSettle suits a pipeline that is running: a batch is recorded within seconds of being sent.
const DefaultSettle = time.Minute

// Options tell what is audited.
type Options struct {
	Since   time.Time     // batches that were recorded from then on; zero: DefaultPeriod ago
	Until   time.Time     // and up to then; zero: up to now
	Nodes   []string      // of these nodes alone, by name or by id in 16 hexadecimal digits; none: of all
	Settle  time.Duration // what is younger may still be on its way and is left out; 0: nothing is on its way
	All     bool          // list the agents without findings, too
	MaxGaps int           // gaps that are listed; 0: 1000. The others are counted
	// Shards are each shard's own database, in their order, if the audited one is of a cluster; none: it is one server's.
	Shards []driver.Conn
}

const defaultMaxGaps = 1000

// Verdict is what an audit comes to.
type Verdict string

// The verdicts.
const (
	Clean   Verdict = "clean"   // each batch of the time is stored once, or kept in quarantine
	Found   Verdict = "found"   // some were lost or duplicated
	Nothing Verdict = "nothing" // there was no batch to look at: nothing is proved
)

// Report is what was found. Numbers are of batches unless their name says rows.
type Report struct {
	Verdict        Verdict   `json:"verdict"`
	Lost           uint64    `json:"lost"`
	Duplicated     uint64    `json:"duplicated"`
	Quarantined    uint64    `json:"quarantined"`
	Unrecorded     uint64    `json:"unrecorded"`
	LostRows       uint64    `json:"lost_rows"`       // of lost batches that the ledger has; of others nobody knows how many
	DuplicatedRows uint64    `json:"duplicated_rows"` // those too many
	Batches        uint64    `json:"batches"`         // sent
	Rows           uint64    `json:"rows"`            // stored, by the ledger
	Agents         uint64    `json:"agents"`
	Gaps           []Gap     `json:"gaps"`
	GapsLeftOut    uint64    `json:"gaps_left_out"` // beyond Options.MaxGaps
	Since          time.Time `json:"since"`         // batches that were recorded from then
	Until          time.Time `json:"until"`         // up to then were looked at
	OnTheirWay     OnTheWay  `json:"on_their_way"`  // what was recorded later
	Tables         []Table   `json:"tables"`
	Refusals       []Refusal `json:"refusals"`      // why batches are in quarantine
	Lines          []Line    `json:"agents_listed"` // agents with findings, or all

	settle time.Duration // Options.Settle
	newest time.Time     // entry of the ledger, if there was nothing to look at; zero: it has none
}

// OnTheWay counts what is too young to be looked at.
type OnTheWay struct {
	Batches uint64 `json:"batches"`
	Agents  uint64 `json:"agents"`
}

// Gap is a range of lost batches.
type Gap struct {
	Table string    `json:"table"`
	Node  string    `json:"node"` // its name; the id in hex where no inventory names it
	Epoch uint64    `json:"epoch"`
	From  uint64    `json:"from"`
	To    uint64    `json:"to"`
	Hour  time.Time `json:"hour,omitzero"` // in which a batch beyond it was recorded first; of a tally alone

	node uint64
}

// Table says from when on a table was audited: rows that may have gone by age are left out.
type Table struct {
	Name    string    `json:"table"`
	Since   time.Time `json:"since"`
	Batches uint64    `json:"batches"`
	Rows    uint64    `json:"rows"`
}

// Line is what is known of one agent and table.
type Line struct {
	Node           string `json:"node"`
	Table          string `json:"table"`
	Sent           uint64 `json:"sent"` // sequences, from the first to the highest
	Stored         uint64 `json:"stored"`
	Quarantined    uint64 `json:"quarantined"`
	Lost           uint64 `json:"lost"`
	Duplicated     uint64 `json:"duplicated"`
	Unrecorded     uint64 `json:"unrecorded"`
	Rows           uint64 `json:"rows"`
	LostRows       uint64 `json:"lost_rows"`
	DuplicatedRows uint64 `json:"duplicated_rows"`

	node uint64
}

// Clean tells that nothing is to be said of the agent. A quarantined batch is something to be said.
func (l Line) Clean() bool {
	return l.Lost == 0 && l.Duplicated == 0 && l.Quarantined == 0 && l.Unrecorded == 0
}

// verdict tells what the numbers come to.
func (r Report) verdict() Verdict {
	switch {
	case r.Lost > 0 || r.Duplicated > 0:
		return Found
	case r.Batches == 0:
		return Nothing
	default:
		return Clean
	}
}

// Run audits every table that agents push. The connection's database is the audited one; its user needs
// no more than to read it and system.parts.
func Run(ctx context.Context, conn driver.Conn, opts Options) (Report, error) {
	if opts.MaxGaps <= 0 {
		opts.MaxGaps = defaultMaxGaps
	}
	a := &audit{conn: conn, shards: shardsOf(conn, opts), opts: opts, lines: make(map[lineKey]*Line), report: Report{settle: opts.Settle}}
	if err := a.open(ctx); err != nil {
		return Report{}, err
	}
	for _, t := range schema.Tables() {
		if err := a.table(ctx, t); err != nil {
			return Report{}, fmt.Errorf("audit %s: %w", t.Name, err)
		}
	}
	if err := a.finish(ctx); err != nil {
		return Report{}, err
	}
	return a.report, errors.Join(a.refusals(ctx), a.askTheLedger(ctx))
}

// audit is one run.
type audit struct {
	conn   driver.Conn   // with all there is
	shards []driver.Conn // with what each has; one that has all, without a cluster
	opts   Options
	now    time.Time                // by the server's clock
	keeps  map[string]time.Duration // by table: how long it keeps its rows; 0: for good
	lines  map[lineKey]*Line
	report Report
}

type lineKey struct {
	table string
	node  uint64
}

// table audits one table: all lives at a glance, and those that do not agree batch by batch.
func (a *audit) table(ctx context.Context, t schema.Table) error {
	w := a.window(t.Name)
	surveyed, err := a.surveyAll(ctx, w)
	if err != nil {
		return err
	}
	at := len(a.report.Tables)
	a.report.Tables = append(a.report.Tables, Table{Name: t.Name, Since: w.since})
	moved := onSeveral(surveyed)
	for i, lives := range surveyed {
		var suspects []life
		for _, l := range lives {
			switch {
			case moved[l.node] > 0:
			case l.epoch == 0: // lives that agree, added up
				a.add(at, Line{node: l.node, Sent: l.batches, Stored: l.stored, Quarantined: l.batches - l.stored, Rows: l.rows})
			default:
				suspects = append(suspects, l)
			}
		}
		for _, some := range shares(suspects) {
			if err := a.inspect(ctx, a.shards[i], w, some, at); err != nil {
				return err
			}
		}
	}
	return a.inspectMoved(ctx, w, moved, at)
}

// add counts a line of the report's at-th table.
func (a *audit) add(at int, l Line) {
	t := &a.report.Tables[at]
	t.Batches, t.Rows = t.Batches+l.Sent, t.Rows+l.Rows
	key := lineKey{t.Name, l.node}
	sum := a.lines[key]
	if sum == nil {
		sum = &Line{Table: t.Name, node: l.node}
		a.lines[key] = sum
	}
	sum.Sent, sum.Stored, sum.Quarantined = sum.Sent+l.Sent, sum.Stored+l.Stored, sum.Quarantined+l.Quarantined
	sum.Lost, sum.Duplicated, sum.Unrecorded = sum.Lost+l.Lost, sum.Duplicated+l.Duplicated, sum.Unrecorded+l.Unrecorded
	sum.Rows, sum.LostRows, sum.DuplicatedRows = sum.Rows+l.Rows, sum.LostRows+l.LostRows, sum.DuplicatedRows+l.DuplicatedRows
}

// Bounds of one look at lives batch by batch: about 300 bytes of the server's memory a batch.
const (
	maxShareBatches = 1_000_000
	maxShareLives   = 1000
)

// shares divides lives that are to be looked at. One that is too large for a share gets its own.
func shares(lives []life) [][]life {
	var all [][]life
	var batches uint64
	for _, l := range lives {
		last := len(all) - 1
		if last < 0 || len(all[last]) == maxShareLives || batches+l.weight > maxShareBatches {
			all, last, batches = append(all, nil), last+1, 0
		}
		all[last] = append(all[last], l)
		batches += l.weight
	}
	return all
}

// finish adds the tables up and names the nodes.
func (a *audit) finish(ctx context.Context) error {
	r := &a.report
	agents := make(map[uint64]bool)
	for _, l := range a.lines {
		agents[l.node] = true
		r.Lost, r.Duplicated, r.Quarantined, r.Unrecorded = r.Lost+l.Lost, r.Duplicated+l.Duplicated, r.Quarantined+l.Quarantined, r.Unrecorded+l.Unrecorded
		r.LostRows, r.DuplicatedRows, r.Batches, r.Rows = r.LostRows+l.LostRows, r.DuplicatedRows+l.DuplicatedRows, r.Batches+l.Sent, r.Rows+l.Rows
		if a.opts.All || !l.Clean() {
			r.Lines = append(r.Lines, *l)
		}
	}
	r.Agents, r.Verdict = uint64(len(agents)), r.verdict()
	wanted := make(map[uint64]bool)
	for _, l := range r.Lines {
		wanted[l.node] = true
	}
	names, err := a.names(ctx, wanted, r.Gaps)
	if err != nil {
		return err
	}
	for i := range r.Lines {
		r.Lines[i].Node = names.of(r.Lines[i].node)
	}
	slices.SortFunc(r.Lines, compareLines)
	return nil
}
