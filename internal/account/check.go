// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/gpufleet/gpufleet/schema"
)

// maxDifferences is how many differences are listed; the others are counted.
const maxDifferences = 200

// Check makes each hour of a time again and compares it with what counts, row by row to the last millisecond; and holds
// the identity against what is stored: by whatever the fleet is divided, the states add up to the inventory, and their
// amounts to inventory × price. It writes nothing.
func Check(ctx context.Context, conn Conn, cfg Config, r Range) (Report, error) {
	w, err := newWork(conn, cfg)
	if err != nil {
		return Report{}, err
	}
	if err := w.ready(ctx); err != nil {
		return Report{}, err
	}
	from, to, err := w.hours(ctx, r)
	if err != nil {
		return Report{}, err
	}
	c := &check{work: w, report: Report{From: timeOf(from), To: timeOf(max(from, to)), Differences: []Difference{}}}
	if err := c.compareAll(ctx, from, to); err != nil {
		return Report{}, err
	}
	for _, by := range dimensions {
		if err := c.identity(ctx, by, from, to); err != nil {
			return Report{}, err
		}
	}
	if err := c.totals(ctx, from, to); err != nil {
		return Report{}, err
	}
	c.report.Verdict = c.report.verdict()
	return c.report, nil
}

type check struct {
	*work
	report Report
}

// compareAll makes all hours again.
func (c *check) compareAll(ctx context.Context, from, to int64) error {
	s, err := c.loadSources(ctx, from, to)
	if err != nil {
		return err
	}
	built, err := c.builds(ctx, from, to)
	if err != nil {
		return err
	}
	for start := from; start < to; start += hour {
		of := span{start, start + hour}
		if !s.ready(of) {
			c.report.Waiting++
			continue
		}
		a, err := c.make(ctx, of)
		if err != nil {
			return fmt.Errorf("account %s: %w", of, err)
		}
		stored, err := c.stored(ctx, of, built[start].Version)
		if err != nil {
			return err
		}
		c.report.Hours++
		if c.compare(of, stored, a.rows) && built[start].Sources != s.hash(of) {
			c.report.Behind++
		}
	}
	return nil
}

// stored are the rows of a version. Rows of one key, of which there must be one, are added up.
func (c *check) stored(ctx context.Context, of span, version uint64) (map[key]*amounts, error) {
	rows, err := c.loadRows(ctx, fmt.Sprintf("ts = toDateTime(%d, 'UTC') AND version = %d", of.from/second, version))
	if err != nil {
		return nil, fmt.Errorf("read the account of %s: %w", of, err)
	}
	all := &account{rows: make(map[key]*amounts, len(rows))}
	for _, r := range rows {
		all.add(r.key, r.amounts)
	}
	return all.rows, nil
}

// compare tells whether two accounts of an hour differ, and lists where.
func (c *check) compare(of span, stored, made map[key]*amounts) (differs bool) {
	note := func(k key, column, have, want string) {
		differs = true
		c.report.Different++
		if len(c.report.Differences) < maxDifferences {
			c.report.Differences = append(c.report.Differences, Difference{
				Hour: timeOf(of.from), Node: strconv.FormatUint(k.node.node, 10), NodeName: k.place.name.value, Team: k.owner.team.value, Deployment: k.owner.deployment.value,
				Column: column, Stored: have, Made: want,
			})
		}
	}
	names := schema.AccountMilliseconds()
	for k, want := range made {
		c.report.Rows++
		have := stored[k]
		if have == nil {
			note(k, "", "no row", "a row of "+strconv.FormatInt(want.of[inventory], 10)+" ms")
			continue
		}
		for i := range want.of {
			if have.of[i] != want.of[i] {
				note(k, schema.AccountColumn(names[i]), strconv.FormatInt(have.of[i], 10), strconv.FormatInt(want.of[i], 10))
			}
		}
		if have.millijoule != want.millijoule || have.energy != want.energy {
			note(k, "energy_millijoules", strconv.FormatInt(have.millijoule, 10), strconv.FormatInt(want.millijoule, 10))
		}
	}
	for k, have := range stored {
		if made[k] == nil {
			note(k, "", "a row of "+strconv.FormatInt(have.of[inventory], 10)+" ms", "no row")
		}
	}
	return differs
}

// dimensions are what the identity must hold by.
var dimensions = []string{"provider", "region", "node_id", "team", "workload_model", "deployment", "gpu_model"} //nolint:gochecknoglobals // a constant list

// counts is the condition for the rows of a time that count.
func (c *check) counts(from, to int64) string {
	return fmt.Sprintf("%[1]s AND (ts, version) IN (SELECT ts, max(version) FROM %[2]s WHERE %[1]s GROUP BY ts)", duringSeconds(from, to), c.table(schema.AccountBuildsTable().Name))
}

// sums is the sum of the states with something before and behind each.
func sums(before, behind string) string {
	var parts []string
	for _, s := range schema.AccountStates() {
		parts = append(parts, before+schema.AccountColumn(s.Name)+behind)
	}
	return strings.Join(parts, " + ")
}

// identity adds up what is stored by one column.
func (c *check) identity(ctx context.Context, by string, from, to int64) error {
	var rows []struct {
		Groups uint64 `ch:"groups"`
		Wrong  uint64 `ch:"wrong"`
		Time   int64  `ch:"time_error"`
		Money  string `ch:"money_error"`
	}
	err := c.ask(ctx, &rows, fmt.Sprintf(`SELECT count() AS groups, countIf(t != 0 OR m != 0) AS wrong, toInt64(max(abs(t))) AS time_error, toString(max(abs(m))) AS money_error FROM (
    SELECT %[1]s AS g, currency, basis, %[2]s - sum(toInt64(inventory_milliseconds)) AS t,
        ifNull(%[3]s - sum(toDecimal128(price_per_gpu_hour, 9) * inventory_milliseconds), 0) AS m
    FROM %[4]s WHERE %[5]s GROUP BY g, currency, basis)`,
		by, sums("sum(toInt64(", "))"), sums("sum(toDecimal128(price_per_gpu_hour, 9) * ", ")"), c.table(schema.AccountHoursTable().Name), c.counts(from, to)))
	if err != nil {
		return fmt.Errorf("add up the account by %s: %w", by, err)
	}
	i := Identity{By: by, MoneyError: "0"}
	if len(rows) == 1 && rows[0].Groups > 0 {
		i.Groups, i.Wrong, i.TimeError, i.MoneyError = rows[0].Groups, rows[0].Wrong, rows[0].Time, rows[0].Money
	}
	c.report.Identity = append(c.report.Identity, i)
	return nil
}

// totals are the hours and amounts of all that counts, by currency and basis.
func (c *check) totals(ctx context.Context, from, to int64) error {
	var states []string
	for _, s := range schema.AccountStates() {
		states = append(states, fmt.Sprintf("sum(toUInt64(%s))", schema.AccountColumn(s.Name)))
	}
	var rows []struct {
		Currency *string  `ch:"cur"`
		Basis    *string  `ch:"bas"`
		Total    uint64   `ch:"total"`
		States   []uint64 `ch:"states"`
		Cost     *string  `ch:"cost"`
	}
	err := c.ask(ctx, &rows, fmt.Sprintf(`SELECT CAST(currency, 'Nullable(String)') AS cur, CAST(basis, 'Nullable(String)') AS bas, sum(toUInt64(inventory_milliseconds)) AS total, [%s] AS states,
    CAST(toString(sum(toDecimal128(price_per_gpu_hour, 9) * inventory_milliseconds) / %d), 'Nullable(String)') AS cost
FROM %s WHERE %s GROUP BY cur, bas ORDER BY cur, bas`, strings.Join(states, ", "), hour, c.table(schema.AccountHoursTable().Name), c.counts(from, to)))
	if err != nil {
		return fmt.Errorf("add up the account: %w", err)
	}
	for _, r := range rows {
		t := Total{Currency: r.Currency, Basis: r.Basis, Cost: r.Cost, Inventory: r.Total, States: make(map[string]uint64, len(r.States))}
		for i, s := range schema.AccountStates() {
			t.States[s.Name] = r.States[i]
		}
		c.report.Totals = append(c.report.Totals, t)
	}
	return nil
}
