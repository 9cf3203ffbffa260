// SPDX-License-Identifier: Apache-2.0

package account

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// work is what builder, check and rebuild share: statements on one database, within limits.
type work struct {
	conn  Conn
	cfg   Config
	clock string // expression of the time
}

func newWork(conn Conn, cfg Config) (*work, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	if cfg.Prices == "" {
		cfg.Prices = cfg.Database
	}
	return &work{conn, cfg, "now64(3)"}, nil
}

// table is a table's whole name.
func (w *work) table(name string) string {
	return schema.QuoteName(w.cfg.Database) + "." + schema.QuoteName(name)
}

// settings of every statement. Those of the server's profile could give other rows.
func (w *work) settings() clickhouse.Settings {
	return clickhouse.Settings{
		"max_memory_usage": w.cfg.MemoryBytes, "max_execution_time": int(math.Ceil(w.cfg.Timeout.Seconds())),
		"wait_end_of_query": 1, "async_insert": 0, "insert_deduplicate": 0, "join_use_nulls": 0, "aggregate_functions_null_for_empty": 0,
		"do_not_merge_across_partitions_select_final": 1, "max_insert_block_size": 1 << 24, "max_query_size": 1 << 20,
	}
}

func (w *work) ask(ctx context.Context, dest any, query string) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	return w.conn.Select(clickhouse.Context(ctx, clickhouse.WithSettings(w.settings())), dest, query)
}

// number asks for one number.
func (w *work) number(ctx context.Context, query string) (uint64, error) {
	var rows []struct {
		N uint64 `ch:"n"`
	}
	if err := w.ask(ctx, &rows, query); err != nil {
		return 0, err
	}
	if len(rows) != 1 {
		return 0, fmt.Errorf("ClickHouse answered with %d rows, want one", len(rows))
	}
	return rows[0].N, nil
}

// slice is a part of the GPUs: ids are hashes, so equal ranges have about equally many.
type slice struct{ first, last uint64 }

// slices divides the GPUs of the fleet.
func (w *work) slices(ctx context.Context) ([]slice, error) {
	gpus, err := w.number(ctx, "SELECT uniq(gpu_id) AS n FROM "+w.table("gpu_current"))
	if err != nil {
		return nil, fmt.Errorf("count the GPUs: %w", err)
	}
	n := max(1, (gpus+w.cfg.SliceGPUs-1)/w.cfg.SliceGPUs)
	all := make([]slice, n)
	first := uint64(0)
	for i := range all {
		last := uint64(math.MaxUint64)
		if i+1 < len(all) {
			high, low := bits.Mul64(uint64(i+1), math.MaxUint64)
			last, _ = bits.Div64(high, low, n)
		}
		all[i] = slice{first, last}
		first = last + 1
	}
	return all, nil
}

func (s slice) where() string {
	return "gpu_id BETWEEN " + strconv.FormatUint(s.first, 10) + " AND " + strconv.FormatUint(s.last, 10)
}

// from is a moment as a condition compares ts with it.
func at(moment int64) string {
	return fmt.Sprintf("fromUnixTimestamp64Milli(%d, 'UTC')", moment)
}

// during is the condition that ts lies in a time.
func during(from, to int64) string { return "ts >= " + at(from) + " AND ts < " + at(to) }

// duringSeconds is the same of a column of whole seconds.
func duringSeconds(from, to int64) string {
	return fmt.Sprintf("ts >= toDateTime(%d, 'UTC') AND ts < toDateTime(%d, 'UTC')", from/second, to/second)
}

var errNoTable = errors.New("a collector makes the tables when it starts")

// ready tells whether the database has rows of its own to account.
func (w *work) ready(ctx context.Context) error {
	var tables []struct {
		Engine string `ch:"engine"`
	}
	name := schema.AccountHoursTable().Name
	if err := w.ask(ctx, &tables, "SELECT engine FROM system.tables WHERE database = "+schema.QuoteText(w.cfg.Database)+" AND name = "+schema.QuoteText(name)); err != nil {
		return fmt.Errorf("ask for the tables: %w", err)
	}
	if len(tables) == 0 {
		return fmt.Errorf("database %s has no table %s: %w", w.cfg.Database, name, errNoTable)
	}
	if tables[0].Engine == "Distributed" {
		return fmt.Errorf("%s of database %s is over the shards of a cluster: each shard has an account of its own, in database %s", name, w.cfg.Database, schema.LocalDatabase(w.cfg.Database))
	}
	return nil
}
