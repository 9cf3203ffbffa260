// SPDX-License-Identifier: Apache-2.0

package bills

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Stored is what became of a month.
type Stored struct {
	Summary
	Unchanged bool // it is there already, row by row
}

// rowsPerInsert bounds what is in memory of a bill.
const rowsPerInsert = 50_000

// Import stores the months of files that are not there already: files are read twice, so that a bill which cannot be read to
// its end leaves nothing, and that of which all is known is not stored again. Its rows carry the time of the import; that
// it counts is written last.
func Import(ctx context.Context, conn driver.Conn, paths []string, at time.Time, progress func(rows int)) ([]Stored, error) {
	// On a cluster all bills are on one shard: they are stored when that one has them.
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"distributed_foreground_insert": 1}))
	summaries, err := Scan(ctx, paths, progress)
	if err != nil {
		return nil, err
	}
	known, latest, err := loadKnown(ctx, conn)
	if err != nil {
		return nil, err
	}
	if !at.After(latest) { // of two imports in a millisecond the later one counts
		at = latest.Add(time.Millisecond)
	}
	stored := make([]Stored, len(summaries))
	fresh := make(map[Month]bool)
	for i, s := range summaries {
		stored[i] = Stored{s, known[s.Month] == s.Fingerprint()}
		fresh[s.Month] = !stored[i].Unchanged
	}
	w := writer{conn: conn, at: at, fresh: fresh}
	if err := newFiles(paths).each(ctx, func(c Charge) error { return w.add(ctx, c) }); err != nil {
		return nil, err
	}
	if err := w.flush(ctx); err != nil {
		return nil, err
	}
	return stored, recordImports(ctx, conn, stored, at)
}

// loadKnown is the fingerprint of the bill of each month that counts, and when the last one was imported.
func loadKnown(ctx context.Context, conn driver.Conn) (known map[Month]string, latest time.Time, err error) {
	rows, err := conn.Query(ctx, `SELECT provider, billing_account_id, billing_period_start, argMax(fingerprint, imported_at), max(imported_at)
		FROM bill_imports GROUP BY provider, billing_account_id, billing_period_start`)
	if err != nil {
		return nil, latest, fmt.Errorf("ask for the bills that are known: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	known = make(map[Month]string)
	for rows.Next() {
		var m Month
		var mark string
		var at time.Time
		if err := rows.Scan(&m.Provider, &m.Account, &m.Start, &mark, &at); err != nil {
			return nil, latest, fmt.Errorf("read the bills that are known: %w", err)
		}
		m.Start = m.Start.UTC()
		known[m] = mark
		if at.After(latest) {
			latest = at
		}
	}
	if err := rows.Err(); err != nil {
		return nil, latest, fmt.Errorf("read the bills that are known: %w", err)
	}
	return known, latest, nil
}

// writer stores rows of months that are new.
type writer struct {
	conn        driver.Conn
	at          time.Time
	fresh       map[Month]bool
	rows, wrong []Charge
}

func (w *writer) add(ctx context.Context, c Charge) error {
	switch {
	case !w.fresh[c.month()]:
		return nil
	case len(c.Reasons) > 0:
		w.wrong = append(w.wrong, c)
	default:
		w.rows = append(w.rows, c)
	}
	if len(w.rows)+len(w.wrong) < rowsPerInsert {
		return nil
	}
	return w.flush(ctx)
}

func (w *writer) flush(ctx context.Context) error {
	if err := w.send(ctx, "bills", insertBills(), w.rows, w.row); err != nil {
		return err
	}
	const quarantine = "INSERT INTO bill_quarantine (read_at, import_id, reasons, detail, provider, resource_id, source, source_line)"
	if err := w.send(ctx, "bills in quarantine", quarantine, w.wrong, w.quarantined); err != nil {
		return err
	}
	w.rows, w.wrong = w.rows[:0], w.wrong[:0]
	return nil
}

func (w *writer) send(ctx context.Context, what, insert string, charges []Charge, row func(Charge) []any) error {
	if len(charges) == 0 {
		return nil
	}
	batch, err := w.conn.PrepareBatch(ctx, insert)
	if err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	for _, c := range charges {
		if err := batch.Append(row(c)...); err != nil {
			return fmt.Errorf("store %s: %s, row %d: %w", what, c.Source, c.Line, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	return nil
}

// ownColumns are those that are not copied from the bill.
const ownColumns = `import_id, provider, billing_account_id, billing_period_start, billing_period_end, charge_period_start, charge_period_end, currency, charge_category,
	instance_id, instance_type, gpus, of_machine, machine_hours, gpu_hours, cost, notes, source, source_line`

func insertBills() string {
	var columns strings.Builder
	for _, c := range slices.Concat(texts(), amounts()) {
		columns.WriteString(", " + c.ours)
	}
	return "INSERT INTO bills (" + ownColumns + columns.String() + ")"
}

// row is in the order of insertBills.
func (w *writer) row(c Charge) []any {
	notes := make([]string, len(c.Notes))
	for i, n := range c.Notes {
		notes[i] = string(n)
	}
	var gpus *uint16
	if c.GPUs > 0 {
		gpus = new(uint16(c.GPUs))
	}
	var ofMachine *uint8
	if c.OfMachine {
		ofMachine = new(uint8(1))
	}
	row := []any{
		uint64(w.at.UnixMilli()), c.Provider, c.Account, c.MonthStart, c.MonthEnd, c.From, c.To, c.Currency, c.Category,
		orNil(c.InstanceID), orNil(c.InstanceType), gpus, ofMachine, c.MachineHours, c.GPUHours, c.Cost, strings.Join(notes, ","), c.Source, uint32(c.Line),
	}
	for _, t := range texts() {
		row = append(row, orNil(c.Texts[t.ours]))
	}
	for _, a := range amounts() {
		row = append(row, c.Amounts[a.ours])
	}
	return row
}

func (w *writer) quarantined(c Charge) []any {
	reasons, details := make([]string, len(c.Reasons)), make([]string, len(c.Reasons))
	for i, f := range c.Reasons {
		reasons[i], details[i] = string(f.Reason), f.Detail
	}
	return []any{
		w.at, uint64(w.at.UnixMilli()), strings.Join(reasons, ","), strings.Join(details, "; "), orNil(c.Provider), orNil(c.Texts["resource_id"]), c.Source, uint32(c.Line),
	}
}

// recordImports makes the import count.
func recordImports(ctx context.Context, conn driver.Conn, stored []Stored, at time.Time) error {
	batch, err := conn.PrepareBatch(ctx, `INSERT INTO bill_imports (imported_at, import_id, provider, billing_account_id, billing_period_start, fingerprint, rows, quarantined, currencies, billed_cost, cost, source)`)
	if err != nil {
		return fmt.Errorf("note the import of bills: %w", err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	for _, s := range stored {
		if s.Unchanged || s.Rows == 0 { // that of which nothing can be read replaces nothing
			continue
		}
		err := batch.Append(at, uint64(at.UnixMilli()), s.Month.Provider, s.Month.Account, s.Month.Start, s.Fingerprint(), uint32(s.Rows), uint32(s.Quarantined),
			strings.Join(s.Currencies(), ","), total(s.Billed), total(s.Cost), s.Source)
		if err != nil {
			return fmt.Errorf("note the import of %s: %w", s.Month, err)
		}
	}
	if batch.Rows() == 0 {
		return nil
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("note the import of bills: %w", err)
	}
	return nil
}

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
