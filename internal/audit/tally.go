// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/schema"
)

var (
	//go:embed hours.sql
	hoursQuery string
	//go:embed life_hours.sql
	lifeHoursQuery string
)

// By is what a tally is made by.
type By string

// What a tally can be made by.
const (
	ByHour By = "hour"
	ByNode By = "node"
)

// Tally is what the ledger says by hour or node. It reads no rows: duplicated are the batches that two collectors stored,
// as both have recorded; a batch whose rows are there twice, and recorded once, Run alone finds.
type Tally struct {
	Verdict     Verdict   `json:"verdict"`
	By          By        `json:"by"`
	Lost        uint64    `json:"lost"` // neither stored nor quarantined, though a later one of the same life was
	Duplicated  uint64    `json:"duplicated"`
	Quarantined uint64    `json:"quarantined"`
	Batches     uint64    `json:"batches"` // sent
	Agents      uint64    `json:"agents"`
	Gaps        []Gap     `json:"gaps"`
	GapsLeftOut uint64    `json:"gaps_left_out"` // beyond Options.MaxGaps
	Since       time.Time `json:"since"`         // a whole hour
	Until       time.Time `json:"until"`
	Groups      []Group   `json:"groups"` // every hour in which anything was recorded; nodes with findings, or all
}

// Group is what was recorded in one hour, or of one node. A batch counts in the hour in which it was recorded first; one that
// was recorded before the time, and again at its beginning, may count among those that were sent in it.
type Group struct {
	Hour        time.Time `json:"hour,omitzero"`
	Node        string    `json:"node,omitempty"`
	Agents      uint64    `json:"agents"`
	Sent        uint64    `json:"sent"`
	Stored      uint64    `json:"stored"`
	Quarantined uint64    `json:"quarantined"`
	Lost        uint64    `json:"lost"`
	Duplicated  uint64    `json:"duplicated"`

	key uint64 // hour in milliseconds, or node
}

func (g Group) clean() bool { return g.Lost == 0 && g.Duplicated == 0 && g.Quarantined == 0 }

// Count makes a tally of whole hours. The connection's user needs no more than to read the database.
func Count(ctx context.Context, conn driver.Conn, opts Options, by By) (Tally, error) {
	if opts.MaxGaps <= 0 {
		opts.MaxGaps = defaultMaxGaps
	}
	if !opts.Until.IsZero() {
		opts.Until = opts.Until.Add(time.Hour - time.Millisecond).Truncate(time.Hour).Add(-time.Millisecond)
	}
	t := &tally{audit: &audit{conn: conn, shards: shardsOf(conn, opts), opts: opts}, groups: make(map[uint64]*Group)}
	if err := t.open(ctx); err != nil {
		return Tally{}, err
	}
	t.Tally = Tally{By: by, Gaps: []Gap{}, Groups: []Group{}, Until: t.report.Until}
	t.Since = t.report.Since.Truncate(time.Hour)
	if keeps := t.keeps[schema.SequencesTable().Name]; keeps > 0 {
		t.Since = later(t.Since, t.now.Add(-keeps+expiryMargin).Truncate(time.Hour))
	}
	if err := t.count(ctx); err != nil {
		return Tally{}, err
	}
	if err := t.countAgents(ctx); err != nil {
		return Tally{}, err
	}
	return t.Tally, t.finish(ctx)
}

// tally is one run of Count.
type tally struct {
	*audit
	Tally
	groups map[uint64]*Group
}

// tableLife is a life of an agent in one table.
type tableLife struct {
	table       string
	node, epoch uint64
}

func (t *tally) context(ctx context.Context) context.Context {
	milliseconds := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
	return clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithParameters(clickhouse.Parameters{
		"by": string(t.By), "since": milliseconds(t.Since), "from": milliseconds(t.Since), "to": milliseconds(t.Until.Truncate(time.Hour)),
		"settled": milliseconds(t.Until), "gaps": strconv.Itoa(t.opts.MaxGaps),
	}))
}

// count asks each shard for its nodes, and all of them for those that have moved.
func (t *tally) count(ctx context.Context) error {
	parts, err := t.parts(ctx)
	if err != nil {
		return err
	}
	for i, p := range parts {
		lives, err := t.countAll(ctx, p)
		if err != nil {
			return t.ofPart(i, err)
		}
		for some := range slices.Chunk(lives, maxShareLives) {
			if err := t.countLives(ctx, p, some); err != nil {
				return t.ofPart(i, err)
			}
		}
	}
	return nil
}

// ofPart says which shard an error is of.
func (t *tally) ofPart(i int, err error) error {
	switch {
	case len(t.shards) == 1:
		return err
	case i < len(t.shards):
		return fmt.Errorf("shard %d: %w", i+1, err)
	default:
		return fmt.Errorf("nodes that have moved: %w", err)
	}
}

// countAll adds up the lives that agree, and lists the others.
func (t *tally) countAll(ctx context.Context, p part) (suspects []tableLife, err error) {
	asking := clickhouse.Context(t.context(ctx), clickhouse.WithSettings(p.settings))
	rows, err := p.conn.Query(asking, t.ofNodes(strings.ReplaceAll(hoursQuery, "/*nodes*/", p.nodes+" /*nodes*/")))
	if err != nil {
		return nil, fmt.Errorf("count the ledger by %s: %w", t.By, err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var l tableLife
		var hour int64
		var batches, stored uint64
		if err := rows.Scan(&l.table, &l.node, &l.epoch, &hour, &batches, &stored); err != nil {
			return nil, fmt.Errorf("count the ledger by %s: %w", t.By, err)
		}
		if l.table != "" {
			suspects = append(suspects, l)
			continue
		}
		t.add(t.key(l.node, hour), Group{Sent: batches, Stored: stored, Quarantined: batches - stored})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count the ledger by %s: %w", t.By, err)
	}
	return suspects, nil
}

// countLives looks at lives with all that the ledger has of them.
func (t *tally) countLives(ctx context.Context, p part, lives []tableLife) error {
	tuples := make([]string, len(lives))
	for i, l := range lives {
		tuples[i] = fmt.Sprintf("('%s', %d, %d)", l.table, l.node, l.epoch)
	}
	asking := clickhouse.Context(t.context(ctx), clickhouse.WithSettings(p.settings))
	rows, err := p.conn.Query(asking, strings.ReplaceAll(lifeHoursQuery, "/*lives*/", strings.Join(tuples, ", ")))
	if err != nil {
		return fmt.Errorf("count %d lives by the hour: %w", len(lives), err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		if err := t.take(rows); err != nil {
			return fmt.Errorf("count %d lives by the hour: %w", len(lives), err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("count %d lives by the hour: %w", len(lives), err)
	}
	return nil
}

// take reads what was found of one life in one hour.
func (t *tally) take(rows driver.Rows) error {
	var l tableLife
	var hour int64
	var g Group
	var gaps uint64
	var list [][]any
	if err := rows.Scan(&l.table, &l.node, &l.epoch, &hour, &g.Stored, &g.Quarantined, &g.Lost, &g.Duplicated, &gaps, &list); err != nil {
		return err
	}
	g.Sent = g.Stored + g.Quarantined + g.Lost
	t.add(t.key(l.node, hour), g)
	for _, pair := range list {
		if len(t.Gaps) == t.opts.MaxGaps {
			break
		}
		from, _ := pair[0].(uint64)
		to, _ := pair[1].(uint64)
		t.Gaps = append(t.Gaps, Gap{Table: l.table, Epoch: l.epoch, From: from, To: to, Hour: time.UnixMilli(hour).UTC(), node: l.node})
		gaps--
	}
	t.GapsLeftOut += gaps
	return nil
}

func (t *tally) key(node uint64, hour int64) uint64 {
	if t.By == ByNode {
		return node
	}
	return uint64(hour)
}

func (t *tally) add(key uint64, g Group) {
	sum := t.groups[key]
	if sum == nil {
		sum = &Group{key: key}
		t.groups[key] = sum
	}
	sum.Sent, sum.Stored, sum.Quarantined = sum.Sent+g.Sent, sum.Stored+g.Stored, sum.Quarantined+g.Quarantined
	sum.Lost, sum.Duplicated = sum.Lost+g.Lost, sum.Duplicated+g.Duplicated
	t.Batches, t.Quarantined = t.Batches+g.Sent, t.Quarantined+g.Quarantined
	t.Lost, t.Duplicated = t.Lost+g.Lost, t.Duplicated+g.Duplicated
}

// countAgents counts of how many agents something was recorded, by the hour and in all.
func (t *tally) countAgents(ctx context.Context) error {
	asking := clickhouse.Context(t.context(ctx), clickhouse.WithSettings(allOf(settings, overAll)))
	rows, err := t.conn.Query(asking, t.ofNodes(`
SELECT if(grouping(hour) = 1, 0, toUnixTimestamp64Milli(hour)) AS of_hour, uniqExact(node_id) AS agents FROM ingest_sequences
WHERE hour >= fromUnixTimestamp64Milli({from:Int64}) AND hour <= fromUnixTimestamp64Milli({to:Int64}) /*nodes*/
GROUP BY GROUPING SETS ((hour), ())`))
	if err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var hour int64
		var agents uint64
		if err := rows.Scan(&hour, &agents); err != nil {
			return fmt.Errorf("count agents: %w", err)
		}
		if hour == 0 {
			t.Agents = agents
		} else if g := t.groups[uint64(hour)]; g != nil && t.By == ByHour {
			g.Agents = agents
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	return nil
}

// finish names the nodes and sorts.
func (t *tally) finish(ctx context.Context) error {
	t.Verdict = Report{Lost: t.Lost, Duplicated: t.Duplicated, Batches: t.Batches}.verdict()
	wanted := make(map[uint64]bool)
	for key, g := range t.groups {
		if t.By == ByNode && !t.opts.All && g.clean() {
			delete(t.groups, key)
			continue
		}
		if t.By == ByNode {
			wanted[key] = true
		}
	}
	names, err := t.names(ctx, wanted, t.Gaps)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(t.groups)) {
		g := t.groups[key]
		if t.By == ByNode {
			g.Node, g.Agents = names.of(key), 1
		} else {
			g.Hour = time.UnixMilli(int64(key)).UTC()
		}
		t.Groups = append(t.Groups, *g)
	}
	if t.By == ByNode {
		slices.SortFunc(t.Groups, func(a, b Group) int { return strings.Compare(a.Node, b.Node) })
	}
	return nil
}
