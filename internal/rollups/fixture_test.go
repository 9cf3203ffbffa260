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
	tries int // inserts so far
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	db := clickhousetest.Start(t)
	options := clickhousetest.Options(db.Writer)
	options.Settings = clickhouse.Settings{"compile_expressions": 0, "compile_aggregate_expressions": 0} // that takes longer than these few rows
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
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

// insert stores a batch as the collector does: the same bytes with the same token, however often.
func (f *fleet) insert(b batch) {
	f.Helper()
	f.tries++
	f.exec(`INSERT INTO gpu_samples SELECT * EXCEPT (n) REPLACE (
    fromUnixTimestamp64Milli((%d + n) * 1000 + cityHash64(n, %[2]d) %% 1000) AS ts, toUInt64(cityHash64(%[3]d)) AS gpu_id, toUInt64(%[3]d %% 2) AS node_id, toUInt64(1000) AS epoch,
    toUInt64(%[2]d) AS seq, toUInt32(cityHash64(%[2]d) %% 3) AS counter_epoch,
    if(cityHash64(%[2]d) %% 5 = 0, 'globex', 'acme') AS tenant, 'eu' AS residency)
FROM readings WHERE n < %[4]d AND cityHash64(n, %[2]d, 'gap') %% 10 != 0 SETTINGS insert_deduplicate = 1, insert_deduplication_token = 'batch %[2]d', max_insert_block_size = 1000000`,
		b.from, b.seq, b.gpu, b.until-b.from)
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
	r := f.check(Range{From: timeOf(f.begin - 24*hour), To: timeOf(f.now)})
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
	report, err := Check(f.Context(), f.conn, f.db.Name, r)
	if err != nil {
		f.Fatal(err)
	}
	return report
}
