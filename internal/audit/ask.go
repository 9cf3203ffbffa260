// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

var (
	//go:embed survey.sql
	surveyQuery string
	//go:embed inspect.sql
	inspectQuery string
)

// settings of the two large queries: the ledger is grouped in the order in which it lies on disk, and so
// in little memory.
var settings = clickhouse.Settings{"optimize_aggregation_in_order": 1, "max_execution_time": 600, "max_query_size": 64 << 20}

// expiryMargin is added to the time at which rows go by age: they were sampled a little before they were
// recorded.
const expiryMargin = time.Hour

// partMargin is more than the time between an insert and its entry in the ledger.
const partMargin = 10 * time.Second

// open asks for the time and for how long each table keeps its rows.
func (a *audit) open(ctx context.Context) error {
	a.keeps = make(map[string]time.Duration)
	rows, err := a.shards[0].Query(ctx, `
SELECT name, extract(engine_full, 'toIntervalDay\\((\\d+)\\)') AS days, toUnixTimestamp64Milli(now64(3)) AS now
FROM system.tables WHERE database = currentDatabase()`)
	if err != nil {
		return fmt.Errorf("ask for the tables to audit: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var name, days string
		var now int64
		if err := rows.Scan(&name, &days, &now); err != nil {
			return fmt.Errorf("ask for the tables to audit: %w", err)
		}
		n, _ := strconv.Atoi(days) // no number: no TTL
		a.keeps[name] = time.Duration(n) * 24 * time.Hour
		a.now = time.UnixMilli(now).UTC()
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("ask for the tables to audit: %w", err)
	}
	for _, t := range append(schema.Tables(), schema.LedgerTable(), schema.SequencesTable()) {
		if _, ok := a.keeps[t.Name]; !ok {
			return fmt.Errorf("audit: the database has no table %s: a collector makes the tables when it starts", t.Name)
		}
	}
	a.report.Since = a.opts.Since.UTC().Truncate(time.Millisecond)
	if a.opts.Since.IsZero() {
		a.report.Since = a.now.Add(-DefaultPeriod)
	}
	a.report.Until = a.now.Add(-a.opts.Settle)
	if until := a.opts.Until.UTC().Truncate(time.Millisecond); !until.IsZero() && until.Before(a.report.Until) {
		a.report.Until = until
	}
	a.report.Gaps, a.report.Lines, a.report.Refusals = []Gap{}, []Line{}, []Refusal{} // not null in JSON
	return nil
}

// hexID is a node's id as it is shown where no inventory names it.
var hexID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ofNodes makes a query ask for the nodes that the options name, at its marks.
func (a *audit) ofNodes(query string) string {
	if len(a.opts.Nodes) == 0 {
		return query
	}
	ids := make([]string, len(a.opts.Nodes))
	for i, name := range a.opts.Nodes {
		id := wire.NodeID(name)
		if hexID.MatchString(name) {
			id, _ = strconv.ParseUint(name, 16, 64) // 16 digits are a number of 64 bits
		}
		ids[i] = strconv.FormatUint(id, 10)
	}
	return strings.ReplaceAll(query, "/*nodes*/", "AND node_id IN ("+strings.Join(ids, ", ")+")")
}

// window is what of a table is audited.
type window struct {
	table   string
	since   time.Time // batches recorded from then on
	settled time.Time // and up to then
	old     time.Time // rows in parts that were written up to then are not on their way any more
	expired time.Time // rows sampled before may have gone by age; zero: rows are kept for good
}

func (a *audit) window(table string) window {
	w := window{table: table, since: a.report.Since, settled: a.report.Until}
	w.old = w.settled.Add(-min(a.opts.Settle, partMargin))
	if keeps := a.keeps[table]; keeps > 0 {
		w.expired = a.now.Add(-keeps + expiryMargin)
	}
	from := w.expired
	if keeps := a.keeps[schema.LedgerTable().Name]; keeps > 0 {
		from = later(from, a.now.Add(-keeps+expiryMargin))
	}
	w.since = later(w.since, from)
	return w
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// context gives a query the window.
func (w window) context(ctx context.Context, gaps int) context.Context {
	var expired int64
	if !w.expired.IsZero() {
		expired = w.expired.UnixMilli()
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithParameters(clickhouse.Parameters{
		"table": w.table, "since": strconv.FormatInt(w.since.UnixMilli(), 10), "settled": strconv.FormatInt(w.settled.UnixMilli(), 10),
		"old": strconv.FormatInt(w.old.Unix(), 10), "expired": strconv.FormatInt(expired, 10), "gaps": strconv.Itoa(gaps),
	}))
}

// life is what the survey says of one life; with epoch 0, of all lives of a node that agree.
type life struct {
	node, epoch           uint64
	weight                uint64 // highest sequence
	batches, stored, rows uint64
}

// survey compares all lives of a table that a server has, at a glance.
func (a *audit) survey(ctx context.Context, conn driver.Conn, w window) ([]life, error) {
	rows, err := conn.Query(w.context(ctx, 0), a.ofNodes(surveyQuery))
	if err != nil {
		return nil, fmt.Errorf("compare ledger and rows: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	var lives []life
	for rows.Next() {
		var l life
		if err := rows.Scan(&l.node, &l.epoch, &l.weight, &l.batches, &l.stored, &l.rows); err != nil {
			return nil, fmt.Errorf("compare ledger and rows: %w", err)
		}
		lives = append(lives, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("compare ledger and rows: %w", err)
	}
	return lives, nil
}

// inspect looks at some lives batch by batch.
func (a *audit) inspect(ctx context.Context, conn driver.Conn, w window, lives []life, at int) error {
	pairs := make([]string, len(lives))
	for i, l := range lives {
		pairs[i] = fmt.Sprintf("(%d, %d)", l.node, l.epoch)
	}
	query := strings.NewReplacer("/*lives*/", "(node_id, epoch) IN ("+strings.Join(pairs, ", ")+")", "/*old*/", oldParts).Replace(inspectQuery)
	return a.inspectBy(w.context(ctx, a.opts.MaxGaps), conn, query, len(lives), at)
}

// oldParts tells of the rows of one server which are in parts that were written long enough ago.
const oldParts = `_part IN (
    SELECT name FROM system.parts
    WHERE database = currentDatabase() AND table = {table:String} AND active AND modification_time <= toDateTime({old:Int64}))`

// inspectBy makes one look.
func (a *audit) inspectBy(ctx context.Context, conn driver.Conn, query string, lives, at int) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("inspect %d lives: %w", lives, err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		if err := a.take(rows, at); err != nil {
			return fmt.Errorf("inspect %d lives: %w", lives, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("inspect %d lives: %w", lives, err)
	}
	return nil
}

// take reads what was found of one life.
func (a *audit) take(rows driver.Rows, at int) error {
	var l Line
	var epoch, gaps uint64
	var list [][]any
	if err := rows.Scan(&l.node, &epoch, &l.Sent, &l.Stored, &l.Quarantined, &l.Rows, &l.Lost, &l.LostRows,
		&l.Duplicated, &l.DuplicatedRows, &l.Unrecorded, &gaps, &list); err != nil {
		return err
	}
	a.add(at, l)
	for _, g := range list {
		if len(a.report.Gaps) == a.opts.MaxGaps {
			break
		}
		from, _ := g[0].(uint64)
		to, _ := g[1].(uint64)
		a.report.Gaps = append(a.report.Gaps, Gap{Table: a.report.Tables[at].Name, Epoch: epoch, From: from, To: to, node: l.node})
		gaps--
	}
	a.report.GapsLeftOut += gaps
	return nil
}

// askTheLedger tells what was left out; and, if nothing was looked at, when the ledger was last written.
func (a *audit) askTheLedger(ctx context.Context) error {
	if !a.report.Until.Before(a.now.Add(-a.opts.Settle)) { // else what is younger is not asked for
		if err := a.askWhatIsOnItsWay(ctx); err != nil {
			return err
		}
	}
	if a.report.Verdict != Nothing {
		return nil
	}
	var entries uint64
	var newest time.Time
	if err := a.conn.QueryRow(ctx, a.ofNodes("SELECT count(), max(recorded_at) FROM ingest_ledger WHERE true /*nodes*/")).Scan(&entries, &newest); err != nil {
		return fmt.Errorf("ask the ledger for its newest entry: %w", err)
	}
	if entries > 0 {
		a.report.newest = newest
	}
	return nil
}

func (a *audit) askWhatIsOnItsWay(ctx context.Context) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(allOf(settings, overAll)), clickhouse.WithParameters(clickhouse.Parameters{
		"until": strconv.FormatInt(a.report.Until.UnixMilli(), 10),
	}))
	err := a.conn.QueryRow(ctx, a.ofNodes(`
SELECT count(), uniqExact(node_id) FROM (
    SELECT node_id FROM ingest_ledger WHERE recorded_at > fromUnixTimestamp64Milli({until:Int64}) /*nodes*/
    GROUP BY table_name, node_id, epoch, seq)`)).Scan(&a.report.OnTheirWay.Batches, &a.report.OnTheirWay.Agents)
	if err != nil {
		return fmt.Errorf("ask the ledger for what is on its way: %w", err)
	}
	return nil
}

// names are the nodes' names by their ids.
type names map[uint64]string

// maxNamed is how many nodes are asked for by id; for more, all are.
const maxNamed = 1000

// names asks the inventory for the names of nodes, and of those of the gaps, which it names and sorts.
func (a *audit) names(ctx context.Context, wanted map[uint64]bool, gaps []Gap) (names, error) {
	for _, g := range gaps {
		wanted[g.node] = true
	}
	found, err := a.namesOf(ctx, wanted)
	if err != nil {
		return nil, err
	}
	for i := range gaps {
		gaps[i].Node = found.of(gaps[i].node)
	}
	slices.SortFunc(gaps, compareGaps)
	return found, nil
}

func (a *audit) namesOf(ctx context.Context, wanted map[uint64]bool) (names, error) {
	found := make(names, len(wanted))
	if len(wanted) == 0 {
		return found, nil
	}
	var ids []string
	where := ""
	if len(wanted) <= maxNamed {
		for id := range wanted {
			ids = append(ids, strconv.FormatUint(id, 10))
		}
		where = "WHERE node_id IN (" + strings.Join(ids, ", ") + ")"
	}
	rows, err := a.conn.Query(ctx, "SELECT node_id, argMax(node_name, ts) FROM node_inventory "+where+" GROUP BY node_id")
	if err != nil {
		return nil, fmt.Errorf("ask for the names of nodes: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var id uint64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return nil, fmt.Errorf("ask for the names of nodes: %w", err)
		}
		found[id] = name
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("ask for the names of nodes: %w", err)
	}
	return found, nil
}

func (n names) of(id uint64) string {
	if name, ok := n[id]; ok {
		return name
	}
	return fmt.Sprintf("%016x", id)
}

func compareLines(a, b Line) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Table, b.Table))
}

func compareGaps(a, b Gap) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
}
