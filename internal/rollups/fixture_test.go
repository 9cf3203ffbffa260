// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// fleet is a database with samples, and a clock that tests set.
type fleet struct {
	testing.TB
	db    clickhousetest.Database
	conn  Conn
	begin int64 // a full hour, some days ago: samples of it are not too old
	now   int64
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	db := clickhousetest.Start(t)
	conn := clickhousetest.OpenUncompiled(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	f := &fleet{TB: t, db: db, conn: conn, begin: floor(time.Now().Unix(), 24*hour) - 3*24*hour + 10*hour}
	f.now = f.begin
	return f
}

func (f *fleet) exec(format string, args ...any) {
	f.Helper()
	clickhousetest.Exec(f, f.db.Writer, fmt.Sprintf(format, args...))
}

func (f *fleet) query(format string, args ...any) string {
	f.Helper()
	return clickhousetest.Query(f, f.db.Writer, fmt.Sprintf(format, args...))
}

func (f *fleet) want(want, format string, args ...any) {
	f.Helper()
	if diff := cmp.Diff(want, f.query(format, args...)); diff != "" {
		f.Errorf("%.300s (-want +got):\n%s", fmt.Sprintf(format, args...), diff)
	}
}

// readings makes a table of random samples, of every value that a column can have, NULL among them.
func (f *fleet) readings() {
	f.Helper()
	table, _ := schema.TableByID(schema.SamplesID)
	var columns []string
	for _, c := range table.Columns {
		columns = append(columns, fmt.Sprintf("%s %s", c.Name, c.ClickHouseType()))
	}
	structure := strings.ReplaceAll(strings.Join(columns, ", "), "'", "\\'")
	f.exec("CREATE TABLE readings ENGINE = Memory AS SELECT *, rowNumberInAllBlocks() AS n FROM generateRandom('%s', 11) LIMIT 400", structure)
}

// batch is what an agent sends at once: samples of some GPUs, one a second, with gaps.
type batch struct {
	seq         int
	gpu         int
	from, until int64
}

// insert stores batches as the collector does, several in one unit: the same bytes with the same token, however often.
func (f *fleet) insert(unit ...batch) {
	f.Helper()
	if len(unit) == 0 {
		return
	}
	var batches []string
	for _, b := range unit {
		batches = append(batches, fmt.Sprintf("(%d, %d, %d, %d)", b.seq, b.gpu, b.from, b.until-b.from))
	}
	f.exec(`INSERT INTO gpu_samples SELECT r.* EXCEPT (n) REPLACE (
    fromUnixTimestamp64Milli((b.3 + n) * 1000 + cityHash64(n, b.1) %% 1000) AS ts, toUInt64(cityHash64(b.2)) AS gpu_id, toUInt64(b.2 %% 2) AS node_id, toUInt64(1000) AS epoch,
    toUInt64(b.1) AS seq, toUInt32(cityHash64(b.1) %% 3) AS counter_epoch, if(cityHash64(b.1) %% 5 = 0, 'globex', 'acme') AS tenant, 'eu' AS residency)
FROM readings AS r CROSS JOIN (SELECT CAST(arrayJoin([%s]), 'Tuple(UInt32, UInt32, UInt32, UInt32)') AS b) AS batches WHERE n < b.4 AND cityHash64(n, b.1, 'gap') %% 10 != 0
SETTINGS insert_deduplicate = 1, insert_deduplication_token = 'unit of %d, %d', max_insert_block_size = 1000000, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0, compile_expressions = 0`,
		strings.Join(batches, ", "), unit[0].seq, len(unit))
}

// history is a fleet's batches over some hours, in the order of their time.
func history(r *rand.Rand, begin int64, gpus int, seconds int64) []batch {
	var all []batch
	for g := range gpus {
		for at := begin; at < begin+seconds; {
			until := at + 20 + r.Int64N(200)
			if r.IntN(8) > 0 { // else a gap
				all = append(all, batch{len(all), g, at, until})
			}
			at = until
		}
	}
	return all
}

func (f *fleet) config(name string) Config {
	cfg := DefaultConfig()
	cfg.Database, cfg.Collector, cfg.Quiet = f.db.Name, name, 0
	cfg.Limits.SliceSamples, cfg.Limits.MemoryBytes = 3000, 512<<20 // several slices of an hour
	return cfg
}

// within is the fleet in a part of its test.
func (f *fleet) within(t *testing.T) *fleet {
	t.Helper()
	part := *f
	part.TB = t
	return &part
}

// through is a connection that asks first whether a statement may go through.
type through struct {
	Conn
	may func(statement string) error
}

func (c through) Exec(ctx context.Context, statement string, args ...any) error {
	if err := c.may(statement); err != nil {
		return err
	}
	return c.Conn.Exec(ctx, statement, args...)
}

func (c through) Select(ctx context.Context, dest any, query string, args ...any) error {
	if err := c.may(query); err != nil {
		return err
	}
	return c.Conn.Select(ctx, dest, query, args...)
}

// tooMuch is what ClickHouse says when a statement needs more memory than it may take.
func tooMuch() error { return &clickhouse.Exception{Code: 241, Message: "too much for this test"} }

// builder is one whose clock is the test's.
func (f *fleet) builder(cfg Config) *Builder {
	f.Helper()
	b, err := New(f.conn, cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.clockOf(b.work)
	return b
}

func (f *fleet) clockOf(w *work) { w.clock = fmt.Sprintf("fromUnixTimestamp64Milli(%d)", f.now*1000) }

// catchUp passes until nothing is left to be done.
func (f *fleet) catchUp(b *Builder) {
	f.Helper()
	f.clockOf(b.work)
	for more := true; more; {
		var err error
		if more, err = b.Pass(context.Background()); err != nil {
			f.Fatal(err)
		}
	}
}

// wantRight compares all that there is with the samples, and that there is all.
func (f *fleet) wantRight() {
	f.Helper()
	r := f.check(Range{From: timeOf(f.begin - 2*hour), To: timeOf(f.now)})
	if r.Verdict != Right {
		f.Errorf("%d differences: %+v", len(r.Differences), r)
	}
	for i, window := range []string{"toStartOfMinute(ts)", "toStartOfHour(ts)"} {
		f.want(strconv.FormatUint(r.Tables[i].Windows, 10), "SELECT uniqExact(gpu_id, tenant, residency, %s) FROM gpu_samples", window)
	}
}

func (f *fleet) check(r Range) Report {
	f.Helper()
	r.Limits = DefaultLimits()
	r.Limits.SliceSamples = 20_000
	w := newWork(f.conn, f.db.Name, r.Limits)
	f.clockOf(w)
	report, err := w.check(f.Context(), r)
	if err != nil {
		f.Fatal(err)
	}
	return report
}
