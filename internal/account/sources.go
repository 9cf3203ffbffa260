// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"

	"github.com/gpufleet/gpufleet/schema"
)

// sources tell whether an hour may say something else now: hashes over what it was made of, which cost little to ask.
type sources struct {
	now    int64
	until  int64                // how far the rollups have come
	rolled map[int64]rolledHour // by milliseconds
	rows   map[string]map[int64]uint64
	prices []pricedRow
}

type rolledHour struct {
	Hour       int64  `ch:"hour"`
	Until      int64  `ch:"until"`
	Generation uint32 `ch:"rebuilt"`
	Compared   uint64 `ch:"compared"`
}

type pricedRow struct {
	Hash uint64 `ch:"h"`
	From int64  `ch:"from_time"`
	To   int64  `ch:"to_time"`
}

// tellers are the tables of which rows by the hour are hashed, with how long before and after an hour they matter to it.
var tellers = []struct { //nolint:gochecknoglobals // a constant table
	table, where string
	before       int64
}{
	{"gpu_inventory", "true", int64(expected / 1e6)},
	{"node_inventory", "true", int64(expected / 1e6)},
	{"gpu_events", "true", int64(expected / 1e6)},
	{"gpu_workload", "true", int64(settled / 1e6)},
	{"gpu_health", "recovery_action > 0", hour},
}

// loadSources asks for all of them over a time.
func (w *work) loadSources(ctx context.Context, from, to int64) (*sources, error) {
	s := &sources{rolled: make(map[int64]rolledHour), rows: make(map[string]map[int64]uint64)}
	now, err := w.number(ctx, fmt.Sprintf("SELECT toUInt64(toUnixTimestamp64Milli(%s)) AS n", w.clock))
	if err != nil {
		return nil, fmt.Errorf("ask for the time: %w", err)
	}
	s.now = int64(min(now, math.MaxInt64))
	var hours []rolledHour
	if err := w.ask(ctx, &hours, fmt.Sprintf("SELECT toInt64(toUnixTimestamp(ts)) AS hour, toInt64(toUnixTimestamp(max(%[1]s))) AS until, max(%[2]s) AS rebuilt, argMax(%[3]s, (%[2]s, %[3]s)) AS compared FROM %[4]s WHERE %[5]s GROUP BY ts",
		schema.ColumnBuiltUntil, schema.ColumnGeneration, schema.ColumnCompared, w.table(schema.RollupProgressTable().Name), duringSeconds(from, to+hour))); err != nil {
		return nil, fmt.Errorf("ask how far the rollups are: %w", err)
	}
	for _, h := range hours {
		s.rolled[h.Hour*second] = h
		s.until = max(s.until, h.Until*second)
	}
	for _, t := range tellers {
		var rows []struct {
			Hour int64  `ch:"hour"`
			Hash uint64 `ch:"h"`
		}
		if err := w.ask(ctx, &rows, fmt.Sprintf("SELECT toInt64(toUnixTimestamp(toStartOfHour(ts))) AS hour, sum(cityHash64(node_id, epoch, seq, ts)) AS h FROM %s WHERE %s AND %s GROUP BY hour",
			w.table(t.table), during(from-t.before, to+settled.Milliseconds()), t.where)); err != nil {
			return nil, fmt.Errorf("ask what came to %s: %w", t.table, err)
		}
		s.rows[t.table] = make(map[int64]uint64, len(rows))
		for _, r := range rows {
			s.rows[t.table][r.Hour*second] = r.Hash
		}
	}
	if err := w.ask(ctx, &s.prices, fmt.Sprintf(`SELECT cityHash64(provider, instance_type, region, zone_id, life_cycle, basis, currency, price_per_gpu_hour, valid_from, read_at) AS h,
    toUnixTimestamp64Milli(valid_from) AS from_time, ifNull(toUnixTimestamp64Milli(valid_to), %d) AS to_time
FROM %s.fleet_prices WHERE valid_from < %s AND (valid_to IS NULL OR valid_to > %s)
    AND (CAST(provider, 'String'), lower(CAST(instance_type, 'String'))) IN (SELECT CAST(provider, 'String'), lower(CAST(instance_type, 'String')) FROM %s WHERE provider IS NOT NULL AND instance_type IS NOT NULL)`,
		forever, schema.QuoteName(w.cfg.Prices), at(to), at(from), w.table("node_current"))); err != nil {
		return nil, fmt.Errorf("ask for the prices: %w", err)
	}
	return s, nil
}

// ready tells whether the rollups have come past an hour, and past those rows after it that it takes. Of an hour before the
// first one that they were made of, nothing is recorded until rows of it come.
func (s *sources) ready(of span) bool {
	rolled, known := s.rolled[of.from]
	return s.until >= of.to+reach && (!known || rolled.Until*second >= of.to)
}

// hash is that of an hour. Until an hour is settled, what comes after it does not count: it is looked at again then.
func (s *sources) hash(of span) uint64 {
	h := fnv.New64a()
	add := func(n uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	until := of.to
	if s.now >= of.to+settled.Milliseconds() {
		until += settled.Milliseconds()
	}
	rolled := s.rolled[of.from]
	add(uint64(rolled.Until))
	add(uint64(rolled.Generation))
	add(rolled.Compared)
	for _, t := range tellers {
		for at := of.from - t.before; at < until; at += hour {
			add(s.rows[t.table][at])
		}
	}
	sum := uint64(0) // in whatever order they come
	for _, p := range s.prices {
		if at, ok := (span{p.From, p.To}).within(of); ok {
			one := fnv.New64a()
			fmt.Fprint(one, p.Hash, at.from, at.to)
			sum += one.Sum64()
		}
	}
	add(sum)
	add(uint64(until))
	return h.Sum64()
}
