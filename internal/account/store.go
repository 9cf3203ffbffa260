// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/shopspring/decimal"

	"github.com/gpufleet/gpufleet/schema"
)

// versionRandomBits are those below the time in a version, so that two who begin in one millisecond make two versions.
const versionRandomBits = 20

// priceDigits are those of a price behind the point.
const priceDigits = 9

// newVersion is higher than all that were begun before. It is taken before anything is read: of two who make an hour at the
// same time, the one that began later has read all that the other has, and counts.
func (w *work) newVersion(ctx context.Context) (uint64, error) {
	now, err := w.number(ctx, fmt.Sprintf("SELECT toUInt64(toUnixTimestamp64Milli(%s)) AS n", w.clock))
	if err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	var random [8]byte
	rand.Read(random[:])
	return now<<versionRandomBits | binary.LittleEndian.Uint64(random[:])&(1<<versionRandomBits-1), nil
}

// content is a hash over rows: two accounts of an hour that are the same have the same.
func content(rows []row) uint64 {
	h := fnv.New64a()
	for _, r := range rows {
		fmt.Fprintf(h, "%v\n", r) // no pointers are in it
	}
	return h.Sum64()
}

// insert stores the rows of a version, and sees that they are there.
func (w *work) insert(ctx context.Context, of span, version uint64, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	t := schema.AccountHoursTable()
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	table := w.table(t.Name)
	batch, err := w.conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(w.settings())), fmt.Sprintf("INSERT INTO %s (%s)", table, strings.Join(names, ", ")))
	if err != nil {
		return fmt.Errorf("store the account of %s: %w", of, err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	for _, r := range rows {
		if err := batch.Append(r.values(of, version)...); err != nil {
			return fmt.Errorf("store the account of %s: %w", of, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("store the account of %s: %w", of, err)
	}
	there, err := w.number(ctx, fmt.Sprintf("SELECT count() AS n FROM %s WHERE ts = toDateTime(%d, 'UTC') AND version = %d", table, of.from/second, version))
	if err != nil {
		return fmt.Errorf("count the account of %s: %w", of, err)
	}
	if there != uint64(len(rows)) {
		return fmt.Errorf("store the account of %s: %d rows are there of %d: the version does not count", of, there, len(rows))
	}
	return nil
}

// values are a row as the columns of account_hours take it.
func (r row) values(of span, version uint64) []any {
	values := []any{timeOf(of.from), version, r.node.node, r.node.tenant, r.node.residency}
	for _, t := range []text{r.place.name, r.place.provider, r.place.region, r.place.zone, r.place.instance, r.place.lifeCycle, r.place.cluster, r.model} {
		values = append(values, t.pointer())
	}
	values = append(values, r.owner.kind)
	for _, t := range []text{r.owner.team, r.owner.deployment, r.owner.account, r.owner.model} {
		values = append(values, t.pointer())
	}
	values = append(values, r.split)
	values = append(values, r.price.values()...)
	for _, n := range r.of {
		values = append(values, uint64(n))
	}
	var energy *uint64
	if r.energy {
		n := uint64(max(0, r.millijoule))
		energy = &n
	}
	return append(values, energy)
}

func (p price) values() []any {
	if !p.known {
		return []any{(*decimal.Decimal)(nil), nil, nil, nil, nil, nil}
	}
	amount, from, read := decimal.New(p.billionths, -priceDigits), timeOf(p.validFrom), timeOf(p.readAt)
	return []any{&amount, &p.currency, &p.basis, &p.lifeCycle, &from, &read}
}

// String is the hour.
func (s span) String() string { return timeOf(s.from).Format("2006-01-02 15:04") }

// Reasons for which an hour is made.
const (
	reasonNew     = "new"
	reasonChanged = "changed"
	reasonRebuild = "rebuild"
)

// record says that a version's rows are complete: from here on it counts.
func (w *work) record(ctx context.Context, of span, b build, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	err := w.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(w.settings())), fmt.Sprintf("INSERT INTO %s (ts, version, sources, content, rows, reason, recorded_at, built_by) SELECT toDateTime(%d, 'UTC'), %d, %d, %d, %d, %s, %s, %s",
		w.table(schema.AccountBuildsTable().Name), of.from/second, b.Version, b.Sources, b.Content, b.Rows, schema.QuoteText(reason), w.clock, schema.QuoteText(w.cfg.By)))
	if err != nil {
		return fmt.Errorf("record the account of %s: %w", of, err)
	}
	return nil
}

// build is a version of an hour, as account_builds has it.
type build struct {
	Hour    int64  `ch:"hour"` // seconds
	Version uint64 `ch:"newest"`
	Sources uint64 `ch:"made_of"`
	Content uint64 `ch:"says"`
	Rows    uint32 `ch:"has"`
}

// builds are the versions that count of the hours of a time, by milliseconds.
func (w *work) builds(ctx context.Context, from, to int64) (map[int64]build, error) {
	var rows []build
	err := w.ask(ctx, &rows, fmt.Sprintf(`SELECT toInt64(toUnixTimestamp(ts)) AS hour, max(b.version) AS newest, argMax(b.sources, (b.version, b.recorded_at)) AS made_of,
    argMax(b.content, (b.version, b.recorded_at)) AS says, argMax(b.rows, (b.version, b.recorded_at)) AS has
FROM %s AS b WHERE %s GROUP BY ts`, w.table(schema.AccountBuildsTable().Name), duringSeconds(from, to)))
	if err != nil {
		return nil, fmt.Errorf("ask which hours are accounted: %w", err)
	}
	all := make(map[int64]build, len(rows))
	for _, b := range rows {
		all[b.Hour*second] = b
	}
	return all, nil
}

// settle makes an hour and, if it says something new, has that count. It tells whether it did.
func (w *work) settle(ctx context.Context, of span, before build, sources uint64, reason string) (changed bool, err error) {
	version, err := w.newVersion(ctx)
	if err != nil {
		return false, err
	}
	a, err := w.make(ctx, of)
	if err != nil {
		return false, fmt.Errorf("account %s: %w", of, err)
	}
	rows := a.sorted()
	b := build{Version: version, Sources: sources, Content: content(rows), Rows: uint32(min(len(rows), math.MaxUint32))}
	if reason == reasonRebuild && before.Version != 0 { // what was recorded is one thing, what is there may be another
		if before, err = w.asStored(ctx, of, before); err != nil {
			return false, err
		}
	}
	if before.Version != 0 && before.Content == b.Content && before.Rows == b.Rows {
		b.Version = before.Version
		if before.Sources == sources {
			return false, nil
		}
		return false, w.record(ctx, of, b, reason)
	}
	if err := w.insert(ctx, of, version, rows); err != nil {
		return false, err
	}
	return true, w.record(ctx, of, b, reason)
}

// asStored is a version with the hash over the rows that are there.
func (w *work) asStored(ctx context.Context, of span, b build) (build, error) {
	rows, err := w.loadRows(ctx, fmt.Sprintf("ts = toDateTime(%d, 'UTC') AND version = %d", of.from/second, b.Version))
	if err != nil {
		return b, fmt.Errorf("read the account of %s: %w", of, err)
	}
	slices.SortFunc(rows, func(x, y row) int { return x.compare(y.key) })
	b.Content, b.Rows = content(rows), uint32(min(len(rows), math.MaxUint32))
	return b, nil
}
