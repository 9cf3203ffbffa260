// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"
)

// Stored is what came of storing a Result.
type Stored struct {
	Prices      int // that are new, or other than before
	Unchanged   int // that were known
	Quarantined int // that were not listed before
}

// Store writes what is new of a feed that was read at readAt. A price that the source does not date is new if another
// one holds at that time; a dated one, if there is none that begins then, or another. To store a feed twice is to store
// it once.
func Store(ctx context.Context, conn driver.Conn, r Result, readAt time.Time) (Stored, error) {
	var s Stored
	// On a cluster all prices are on one shard: they are stored when that one has them, not when they wait to be sent on.
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"distributed_foreground_insert": 1}))
	known, err := loadKnown(ctx, conn, r.Prices)
	if err != nil {
		return s, err
	}
	var fresh []Price
	for _, p := range r.Prices {
		if known.has(p) {
			s.Unchanged++
			continue
		}
		fresh = append(fresh, p)
	}
	if err := insertPrices(ctx, conn, fresh); err != nil {
		return s, err
	}
	s.Prices = len(fresh)
	s.Quarantined, err = storeQuarantined(ctx, conn, r.Quarantined, readAt)
	return s, err
}

// knownPrices are the intervals of fleet_prices by key.
type knownPrices map[key][]interval

type interval struct {
	from, to time.Time // to is zero if it holds
	hourly   decimal.Decimal
}

func (i interval) holds(at time.Time) bool {
	return !i.from.After(at) && (i.to.IsZero() || i.to.After(at))
}

func (k knownPrices) has(p Price) bool {
	return slices.ContainsFunc(k[p.key()], func(i interval) bool {
		if !i.hourly.Equal(p.Hourly) {
			return false
		}
		if p.Undated {
			return i.holds(p.ValidFrom)
		}
		// An end that the source does not tell may have been set by a later price.
		return i.from.Equal(p.ValidFrom) && (p.ValidTo.IsZero() || i.to.Equal(p.ValidTo) || !i.to.IsZero() && i.to.Before(p.ValidTo))
	})
}

func loadKnown(ctx context.Context, conn driver.Conn, prices []Price) (knownPrices, error) {
	known := make(knownPrices)
	if len(prices) == 0 {
		return known, nil
	}
	var providers []string
	for _, p := range prices {
		if !slices.Contains(providers, p.Provider) {
			providers = append(providers, p.Provider)
		}
	}
	rows, err := conn.Query(ctx, "SELECT provider, region, zone_id, instance_type, life_cycle, currency, basis, valid_from, valid_to, price_per_hour FROM fleet_prices WHERE provider IN ?", providers)
	if err != nil {
		return nil, fmt.Errorf("ask for the prices that are known: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	for rows.Next() {
		var k key
		var i interval
		var basis string
		var to *time.Time
		if err := rows.Scan(&k.provider, &k.region, &k.zone, &k.instance, &k.lifeCycle, &k.currency, &basis, &i.from, &to, &i.hourly); err != nil {
			return nil, fmt.Errorf("read the prices that are known: %w", err)
		}
		if to != nil {
			i.to = *to
		}
		k.basis = Basis(basis)
		known[k] = append(known[k], i)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the prices that are known: %w", err)
	}
	return known, nil
}

func insertPrices(ctx context.Context, conn driver.Conn, prices []Price) error {
	if len(prices) == 0 {
		return nil
	}
	batch, err := conn.PrepareBatch(ctx, `INSERT INTO prices (provider, instance_type, region, zone_id, life_cycle, basis, currency,
		valid_from, valid_to, price_per_hour, price_per_gpu_hour, gpus, gpu_model, source, source_line, read_at, catalogue_version)`)
	if err != nil {
		return fmt.Errorf("store prices: %w", err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	for _, p := range prices {
		if err := batch.Append(p.Provider, p.InstanceType, p.Region, p.ZoneID, p.LifeCycle, string(p.Basis), p.Currency,
			p.ValidFrom, orNil(p.ValidTo), p.Hourly, p.PerGPU, uint16(p.GPUs), p.Model, p.Source, lineOrNil(p.Line), p.ReadAt, uint32(p.Catalogue)); err != nil {
			return fmt.Errorf("store the price of %s: %w", p.Quote, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("store prices: %w", err)
	}
	return nil
}

// largest is what a price in quarantine may be: what does not fit is NULL there, and stands in its detail.
var largest = decimal.New(1, 18-digits)

// row is a line of price_quarantine without the time of reading: what makes two of them the same.
type row struct {
	provider, instance, region, zone, lifeCycle, basis, currency string
	price, reasons, source                                       string
	line                                                         uint32
}

func (q Quarantined) row() row {
	reasons := make([]string, len(q.Reasons))
	for i, f := range q.Reasons {
		reasons[i] = string(f.Reason)
	}
	price := ""
	if p := q.price(); p != nil {
		price = p.String()
	}
	return row{
		q.Quote.Provider, q.Quote.InstanceType, q.Quote.Region, q.Quote.ZoneID, q.Quote.LifeCycle, string(q.Quote.Basis), q.Quote.Currency,
		price, strings.Join(reasons, ","), q.Quote.Source, uint32(q.Quote.Line),
	}
}

// Detail is what speaks against the price, in words.
func (q Quarantined) Detail() string {
	details := make([]string, len(q.Reasons))
	for i, f := range q.Reasons {
		details[i] = f.Detail
	}
	return strings.Join(details, "; ")
}

func (q Quarantined) price() *decimal.Decimal {
	price := q.Quote.Hourly.Truncate(digits)
	if !q.Quote.HasPrice || price.Abs().GreaterThanOrEqual(largest) {
		return nil
	}
	return &price
}

// storeQuarantined lists what is not listed yet of the same source.
func storeQuarantined(ctx context.Context, conn driver.Conn, quarantined []Quarantined, readAt time.Time) (int, error) {
	if len(quarantined) == 0 {
		return 0, nil
	}
	listed, err := loadListed(ctx, conn, quarantined[0].Quote.Source)
	if err != nil {
		return 0, err
	}
	batch, err := conn.PrepareBatch(ctx, `INSERT INTO price_quarantine (read_at, provider, instance_type, region, zone_id, life_cycle, basis, currency,
		valid_from, price_per_hour, reasons, detail, source, source_line)`)
	if err != nil {
		return 0, fmt.Errorf("store prices in quarantine: %w", err)
	}
	defer batch.Close() //nolint:errcheck // what counts is Send
	for _, q := range quarantined {
		r := q.row()
		if listed[r] {
			continue
		}
		listed[r] = true
		if err := batch.Append(readAt, r.provider, r.instance, r.region, r.zone, r.lifeCycle, r.basis, r.currency,
			orNil(q.Quote.ValidFrom), q.price(), r.reasons, q.Detail(), r.source, lineOrNil(q.Quote.Line)); err != nil {
			return 0, fmt.Errorf("store in quarantine the price of %s: %w", q.Quote, err)
		}
	}
	n := batch.Rows()
	if n == 0 {
		return 0, nil
	}
	if err := batch.Send(); err != nil {
		return 0, fmt.Errorf("store prices in quarantine: %w", err)
	}
	return n, nil
}

func loadListed(ctx context.Context, conn driver.Conn, source string) (map[row]bool, error) {
	rows, err := conn.Query(ctx, `SELECT provider, instance_type, region, zone_id, life_cycle, basis, currency, price_per_hour, reasons, ifNull(source_line, 0)
		FROM price_quarantine WHERE source = ?`, source)
	if err != nil {
		return nil, fmt.Errorf("ask for the prices in quarantine: %w", err)
	}
	defer rows.Close() //nolint:errcheck // what counts is rows.Err below
	listed := make(map[row]bool)
	for rows.Next() {
		r := row{source: source}
		var price *decimal.Decimal
		if err := rows.Scan(&r.provider, &r.instance, &r.region, &r.zone, &r.lifeCycle, &r.basis, &r.currency, &price, &r.reasons, &r.line); err != nil {
			return nil, fmt.Errorf("read the prices in quarantine: %w", err)
		}
		if price != nil {
			r.price = price.String()
		}
		listed[r] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the prices in quarantine: %w", err)
	}
	return listed, nil
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func lineOrNil(line int) *uint32 {
	if line <= 0 {
		return nil
	}
	n := uint32(line)
	return &n
}
