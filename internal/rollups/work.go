// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gpufleet/gpufleet/schema"
)

// Times are in seconds since 1970, as ClickHouse's DateTime: hours and minutes are UTC's.
const (
	minute = 60
	hour   = 3600
)

func floor(seconds, unit int64) int64 { return seconds - seconds%unit }

func timeOf(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// work is what builder, check and rebuild share: statements on one database, within limits.
type work struct {
	conn     Conn
	database string
	limits   Limits
	levels   []level // each after that which it is made of
	onStep   func(string)
	between  func(context.Context) error // is called after each share of longer work; nil: nobody has to do anything meanwhile
	queryID  func() string               // names the statements that write; nil: ClickHouse does
	clock    string                      // expression of the time, in milliseconds
	recorded time.Time                   // when progress was last recorded from here
}

func newWork(conn Conn, database string, limits Limits) *work {
	w := &work{conn: conn, database: database, limits: limits, clock: "now64(3)"}
	w.levels = w.allLevels()
	return w
}

func (w *work) minutes() level { return w.levels[0] }

func (w *work) reached(step string) {
	if w.onStep != nil {
		w.onStep(step)
	}
}

// table is a table's whole name.
func (w *work) table(name string) string {
	return schema.QuoteName(w.database) + "." + schema.QuoteName(name)
}

func (w *work) samples() string { return w.table(samplesTable) }

const samplesTable = "gpu_samples"

// settings of every statement. Those of the server's profile could give other rows.
func (w *work) settings() clickhouse.Settings {
	return clickhouse.Settings{
		"max_memory_usage": w.limits.MemoryBytes, "max_threads": w.limits.Threads, "max_execution_time": int(math.Ceil(w.limits.Timeout.Seconds())),
		"wait_end_of_query": 1, "async_insert": 0, "max_query_size": 4 << 20, "max_ast_elements": 1 << 20, "max_expanded_ast_elements": 1 << 20,
		"insert_deduplicate":                          0, // what is made anew may be what was there before a rebuild
		"do_not_merge_across_partitions_select_final": 1, // rows of one window are in one partition
		"aggregate_functions_null_for_empty":          0,
		"join_use_nulls":                              0,
	}
}

func (w *work) exec(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.limits.Timeout, errTooLong)
	defer cancel()
	options := []clickhouse.QueryOption{clickhouse.WithSettings(w.settings())}
	if w.queryID != nil {
		options = append(options, clickhouse.WithQueryID(w.queryID()))
	}
	return tookTooLong(ctx, w.conn.Exec(clickhouse.Context(ctx, options...), statement))
}

func (w *work) ask(ctx context.Context, dest any, query string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.limits.Timeout, errTooLong)
	defer cancel()
	return tookTooLong(ctx, w.conn.Select(clickhouse.Context(ctx, clickhouse.WithSettings(w.settings())), dest, query))
}

// errTooLong is of a statement that did not end within the limit of time. The client's own deadline mostly comes before that
// of ClickHouse, which the driver puts later.
var errTooLong = errors.New("the limit of time for a statement is over")

func tookTooLong(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errTooLong) {
		return fmt.Errorf("%w: %w", errTooLong, err)
	}
	return err
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

// span is a time within one hour.
type span struct{ from, until int64 }

func (s span) hour() int64 { return floor(s.from, hour) }

func (s span) whole() bool { return s.until-s.from == hour }

// ofSamples is the condition for its samples. The hour finds them in the index; of a whole hour ClickHouse counts them
// by the index alone.
func (s span) ofSamples() string {
	where := fmt.Sprintf("toStartOfHour(ts) = toDateTime(%d, 'UTC')", s.hour())
	if s.whole() {
		return where
	}
	return fmt.Sprintf("%s AND ts >= toDateTime64(%d, 3, 'UTC') AND ts < toDateTime64(%d, 3, 'UTC')", where, s.from, s.until)
}

// ofRollup is the condition for its rows of a rollup.
func (s span) ofRollup() string {
	return fmt.Sprintf("ts >= toDateTime(%d, 'UTC') AND ts < toDateTime(%d, 'UTC')", s.from, s.until)
}

func (s span) String() string {
	return timeOf(s.from).Format("2006-01-02 15:04") + timeOf(s.until).Format(" to 15:04")
}
