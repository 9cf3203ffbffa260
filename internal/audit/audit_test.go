// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

const hour = time.Hour

// fleet is a database with the tables of this schema, written by hand.
type fleet struct {
	testing.TB
	db  clickhousetest.Database
	now time.Time
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{TB: t, db: clickhousetest.Start(t), now: time.Now().UTC().Truncate(time.Millisecond)}
	for _, table := range schema.StoredTables() {
		clickhousetest.Exec(t, f.db.Writer, table.CreateTable(f.db.Name))
	}
	for _, feed := range schema.Feeds() {
		clickhousetest.Exec(t, f.db.Writer, feed.CreateFeed(f.db.Name))
	}
	return f
}

func (f *fleet) exec(format string, args ...any) {
	f.Helper()
	clickhousetest.Exec(f, f.db.Writer, fmt.Sprintf(format, args...))
}

// life is one agent's life in one table, whose batches of three rows were sampled and recorded every
// second, the first so long ago.
type testLife struct {
	*fleet
	table string
	node  uint64
	epoch uint64
	first time.Time
}

const rowsPerBatch = 3

func (f *fleet) life(table, node string, began time.Duration) testLife {
	return testLife{fleet: f, table: table, node: wire.NodeID(node), epoch: uint64(f.now.Add(-began).UnixMilli()), first: f.now.Add(-began)}
}

// rows writes the rows of some batches into the table.
func (l testLife) rows(from, to, each int) {
	l.Helper()
	gpu := ", gpu_id"
	value := ", n.number"
	if l.table == "node_inventory" {
		gpu, value = ", node_name", ", 'anna'"
	}
	l.exec(`INSERT INTO %s (ts, node_id, epoch, seq%s)
SELECT fromUnixTimestamp64Milli(%d + 1000 * s.number), %d, %d, s.number%s
FROM numbers(%d, %d) AS s CROSS JOIN numbers(%d) AS n`, l.table, gpu, l.first.UnixMilli(), l.node, l.epoch, value, from, to-from+1, each)
}

// record enters some batches into the ledger.
func (l testLife) record(state string, from, to int) {
	l.Helper()
	l.recordAt(state, from, to, l.first)
}

func (l testLife) recordAt(state string, from, to int, at time.Time) {
	l.Helper()
	l.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state)
SELECT fromUnixTimestamp64Milli(%d + 1000 * number), '%s', %d, %d, number, %d, '%s' FROM numbers(%d, %d)`,
		at.UnixMilli(), l.table, l.node, l.epoch, rowsPerBatch, state, from, to-from+1)
}

// store does both, as it should be.
func (l testLife) store(from, to int) {
	l.Helper()
	l.rows(from, to, rowsPerBatch)
	l.record(schema.LedgerStored, from, to)
}

func (f *fleet) audit(opts Options) Report {
	f.Helper()
	report, err := Run(f.Context(), clickhousetest.Open(f, f.db.Reader), opts)
	if err != nil {
		f.Fatal(err)
	}
	return report
}

// want compares the numbers of a report.
func (f *fleet) want(got, want Report) {
	f.Helper()
	want.Verdict = want.verdict()
	ignore := cmpopts.IgnoreFields(Report{}, "Since", "Until", "Tables", "Lines", "Gaps", "Refusals", "settle", "newest")
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		f.Errorf("report (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Gaps, got.Gaps, cmpopts.IgnoreUnexported(Gap{}), cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("gaps (-want +got):\n%s", diff)
	}
}

func TestEverythingIsThere(t *testing.T) {
	f := newFleet(t)
	for _, node := range []string{"anna", "ben"} {
		f.life("gpu_samples", node, hour).store(1, 100)
		f.life("gpu_samples", node, 2*hour).store(1, 50)
		f.life("gpu_events", node, hour).store(1, 1)
	}
	got := f.audit(Options{})
	f.want(got, Report{Batches: 302, Rows: 302 * rowsPerBatch, Agents: 2})
	if got.Verdict != Clean || len(got.Lines) != 0 {
		t.Errorf("clean fleet: %s, lines %v", got.Verdict, got.Lines)
	}
	if age := f.now.Sub(got.Since); age < 23*hour || age > 25*hour {
		t.Errorf("audited since %s ago, want a day", age)
	}
	all := f.audit(Options{All: true})
	want := []Line{
		{Table: "gpu_events", Sent: 1, Stored: 1, Rows: 3},
		{Table: "gpu_samples", Sent: 150, Stored: 150, Rows: 450},
		{Table: "gpu_events", Sent: 1, Stored: 1, Rows: 3},
		{Table: "gpu_samples", Sent: 150, Stored: 150, Rows: 450},
	}
	if diff := cmp.Diff(want, all.Lines, cmpopts.IgnoreFields(Line{}, "Node"), cmpopts.IgnoreUnexported(Line{})); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestEmptyDatabase(t *testing.T) {
	f := newFleet(t)
	got := f.audit(Options{})
	f.want(got, Report{})
	if got.Verdict != Nothing || !got.newest.IsZero() {
		t.Errorf("an empty database: %s, newest entry %s", got.Verdict, got.newest)
	}
}

// TestNothingOfThisTime: batches before and after the audited time are not looked at, and the report says so.
func TestNothingOfThisTime(t *testing.T) {
	f := newFleet(t)
	old := f.life("gpu_samples", "anna", 3*hour)
	old.store(1, 10)
	got := f.audit(Options{Since: f.now.Add(-hour), Settle: time.Minute})
	f.want(got, Report{})
	if newest := f.now.Add(-3*hour + 10*time.Second); got.Verdict != Nothing || !got.newest.Equal(newest) {
		t.Errorf("%s, newest entry %s, want %s", got.Verdict, got.newest, newest)
	}
	young := f.now.Add(-30 * time.Second)
	for _, node := range []string{"anna", "ben"} {
		l := f.life("gpu_samples", node, 40*time.Second)
		l.rows(1, 3, rowsPerBatch)
		l.recordAt(schema.LedgerStored, 1, 3, young)
	}
	got = f.audit(Options{Since: f.now.Add(-hour), Settle: time.Minute})
	f.want(got, Report{OnTheirWay: OnTheWay{Batches: 6, Agents: 2}})
	if got.Verdict != Nothing || got.Until.Sub(f.now) > -50*time.Second {
		t.Errorf("%s until %s", got.Verdict, got.Until)
	}
}

// TestFindings has one life for each thing that can be wrong, two nodes, and an inventory that names one.
func TestFindings(t *testing.T) {
	tests := []struct {
		name   string
		make   func(l testLife)
		want   Report
		ranges [][2]uint64 // of lost batches
	}{
		{"gap", func(l testLife) {
			l.store(1, 10)
			l.store(13, 20)
			l.store(22, 30)
		}, Report{Batches: 30, Rows: 27 * 3, Lost: 3}, [][2]uint64{{11, 12}, {21, 21}}},
		{"begins late", func(l testLife) { l.store(4, 10) }, Report{Batches: 10, Rows: 21, Lost: 3}, [][2]uint64{{1, 3}}},
		{"rows gone", func(l testLife) {
			l.store(1, 20)
			l.exec("DELETE FROM gpu_samples WHERE seq IN (7, 8)")
		}, Report{Batches: 20, Rows: 60, Lost: 2, LostRows: 6}, [][2]uint64{{7, 8}}},
		{"last rows gone", func(l testLife) {
			l.store(1, 18)
			l.record(schema.LedgerStored, 19, 20)
		}, Report{Batches: 20, Rows: 60, Lost: 2, LostRows: 6}, [][2]uint64{{19, 20}}},
		{"all rows gone", func(l testLife) { l.record(schema.LedgerStored, 1, 20) }, Report{Batches: 20, Rows: 60, Lost: 20, LostRows: 60}, [][2]uint64{{1, 20}}},
		{"one row gone", func(l testLife) {
			l.store(1, 20)
			l.exec("DELETE FROM gpu_samples WHERE seq = 9 AND gpu_id = 1")
		}, Report{Batches: 20, Rows: 60, Lost: 1, LostRows: 1}, [][2]uint64{{9, 9}}},
		{"twice", func(l testLife) {
			l.store(1, 20)
			l.rows(5, 6, rowsPerBatch)
		}, Report{Batches: 20, Rows: 60, Duplicated: 2, DuplicatedRows: 6}, nil},
		{"three times and recorded twice", func(l testLife) {
			l.store(1, 20)
			l.store(5, 5)
			l.rows(5, 5, rowsPerBatch)
		}, Report{Batches: 20, Rows: 60, Duplicated: 1, DuplicatedRows: 6}, nil},
		{"one twice for one missing", func(l testLife) {
			l.store(1, 10)
			l.rows(11, 11, 2*rowsPerBatch)
			l.record(schema.LedgerStored, 11, 12)
			l.store(13, 20)
		}, Report{Batches: 20, Rows: 60, Duplicated: 1, DuplicatedRows: 3, Lost: 1, LostRows: 3}, [][2]uint64{{12, 12}}},
		{"recorded twice", func(l testLife) {
			l.store(1, 20)
			l.record(schema.LedgerStored, 4, 9)
		}, Report{Batches: 20, Rows: 60}, nil},
		{"quarantined", func(l testLife) {
			l.store(1, 10)
			l.record(schema.LedgerQuarantined, 11, 12)
			l.store(13, 20)
		}, Report{Batches: 20, Rows: 54, Quarantined: 2}, nil},
		{"quarantined, then stored", func(l testLife) {
			l.store(1, 20)
			l.record(schema.LedgerQuarantined, 11, 12)
		}, Report{Batches: 20, Rows: 60}, nil},
		{"quarantined last", func(l testLife) {
			l.store(1, 19)
			l.record(schema.LedgerQuarantined, 20, 20)
		}, Report{Batches: 20, Rows: 57, Quarantined: 1}, nil},
		{"unrecorded", func(l testLife) {
			l.store(1, 10)
			l.rows(11, 12, rowsPerBatch)
			l.store(13, 20)
		}, Report{Batches: 20, Rows: 54, Unrecorded: 2}, nil},
		{"unrecorded at the end, after a gap", func(l testLife) {
			l.store(1, 10)
			l.rows(12, 13, rowsPerBatch)
		}, Report{Batches: 13, Rows: 30, Unrecorded: 2, Lost: 1}, [][2]uint64{{11, 11}}},
		{"nothing recorded", func(l testLife) { l.rows(1, 2, rowsPerBatch) }, Report{Batches: 2, Unrecorded: 2}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t)
			f.life("node_inventory", "anna", 2*hour).store(1, 1)
			f.life("gpu_samples", "ben", hour).store(1, 5) // beside it, nothing is wrong
			l := f.life("gpu_samples", "anna", hour)
			tt.make(l)
			tt.want.Batches, tt.want.Rows, tt.want.Agents = tt.want.Batches+6, tt.want.Rows+18, 2
			for _, r := range tt.ranges {
				tt.want.Gaps = append(tt.want.Gaps, Gap{Table: "gpu_samples", Node: "anna", Epoch: l.epoch, From: r[0], To: r[1]})
			}
			got := f.audit(Options{})
			f.want(got, tt.want)
			lines := slices.Collect(func(yield func(string) bool) {
				for _, line := range got.Lines {
					yield(line.Node + " " + line.Table)
				}
			})
			if clean := got.Verdict == Clean && tt.want.Quarantined == 0 && tt.want.Unrecorded == 0; clean != (len(lines) == 0) || len(lines) > 0 && !slices.Equal(lines, []string{"anna gpu_samples"}) {
				t.Errorf("lists %q", lines)
			}
		})
	}
}

func TestSince(t *testing.T) {
	f := newFleet(t)
	old := f.life("gpu_samples", "anna", 3*hour) // a batch a second: number 5400 is an hour and a half old
	old.store(1, 100)
	old.store(5300, 5500) // began before: the gap is not of the audited time
	old.store(5503, 5600)
	f.life("gpu_samples", "anna", hour).store(2, 10)
	since := f.now.Add(-hour - 30*time.Minute)
	got := f.audit(Options{Since: since})
	fresh := uint64(f.now.Add(-hour).UnixMilli())
	f.want(got, Report{
		Batches: 201 + 10, Rows: (199 + 9) * 3, Lost: 3, Agents: 1,
		Gaps: []Gap{
			{Table: "gpu_samples", Node: fmt.Sprintf("%016x", old.node), Epoch: old.epoch, From: 5501, To: 5502},
			{Table: "gpu_samples", Node: fmt.Sprintf("%016x", old.node), Epoch: fresh, From: 1, To: 1},
		},
	})
	if !got.Since.Equal(since) {
		t.Errorf("since %s, want %s", got.Since, since)
	}
}

// TestSentAgain: a batch from before the audited time, quarantined then, is stored in it.
func TestSentAgain(t *testing.T) {
	f := newFleet(t)
	l := f.life("gpu_samples", "anna", 3*hour)
	l.store(1, 9)
	l.record(schema.LedgerQuarantined, 10, 10)
	l.store(12, 6000) // and 11 is lost, before the audited time
	l.rows(10, 10, rowsPerBatch)
	l.recordAt(schema.LedgerStored, 10, 10, f.now.Add(-10*time.Minute))
	got := f.audit(Options{Since: f.now.Add(-hour - 30*time.Minute)})
	f.want(got, Report{Batches: 601, Rows: 602 * 3, Agents: 1})
	l.exec("DELETE FROM gpu_samples WHERE seq = 10")
	got = f.audit(Options{Since: f.now.Add(-hour - 30*time.Minute)})
	f.want(got, Report{
		Batches: 601, Rows: 602 * 3, Lost: 1, LostRows: 3, Agents: 1,
		Gaps: []Gap{{Table: "gpu_samples", Node: fmt.Sprintf("%016x", l.node), Epoch: l.epoch, From: 10, To: 10}},
	})
}

// TestOnTheirWay: what is younger than Settle is neither lost nor unrecorded nor counted, whether the life
// agrees at a glance or is looked at batch by batch.
func TestOnTheirWay(t *testing.T) {
	f := newFleet(t)
	young := f.now.Add(-30 * time.Second)
	clean := f.life("gpu_samples", "ben", hour)
	clean.store(1, 10)
	clean.rows(11, 12, rowsPerBatch)
	clean.recordAt(schema.LedgerStored, 11, 12, young)
	l := f.life("gpu_samples", "anna", hour)
	l.store(2, 4)
	l.store(6, 10)
	l.rows(5, 5, rowsPerBatch) // inserted now: the ledger follows
	l.rows(11, 12, rowsPerBatch)
	l.recordAt(schema.LedgerStored, 20, 20, young)
	f.want(f.audit(Options{Settle: time.Minute}), Report{
		Batches: 10 + 10, Rows: 30 + 24, Agents: 2, Lost: 1, OnTheirWay: OnTheWay{Batches: 3, Agents: 2},
		Gaps: []Gap{{Table: "gpu_samples", Node: fmt.Sprintf("%016x", l.node), Epoch: l.epoch, From: 1, To: 1}},
	})
	f.want(f.audit(Options{}), Report{
		Batches: 12 + 20, Rows: 36 + 27, Agents: 2, Unrecorded: 3, Lost: 9, LostRows: 3,
		Gaps: []Gap{
			{Table: "gpu_samples", Node: fmt.Sprintf("%016x", l.node), Epoch: l.epoch, From: 1, To: 1},
			{Table: "gpu_samples", Node: fmt.Sprintf("%016x", l.node), Epoch: l.epoch, From: 13, To: 20},
		},
	})
}

// TestExpired: rows that went by age are not lost, late ones neither; but a hole in those that stay is.
func TestExpired(t *testing.T) {
	const day = 24 * hour
	f := newFleet(t)
	table, _ := schema.TableByName("gpu_subsecond")
	kept := time.Duration(table.TTLDays) * day
	f.exec("ALTER TABLE gpu_subsecond REMOVE TTL") // the test removes rows itself
	f.exec("ALTER TABLE gpu_subsecond MODIFY TTL toDateTime(ts) + toIntervalDay(%d) SETTINGS materialize_ttl_after_modify = 0", table.TTLDays)

	long := f.life("gpu_subsecond", "anna", kept+day)
	minutes := func(l testLife, from, to int, state string, at time.Time) { // a batch a minute
		l.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state)
SELECT fromUnixTimestamp64Milli(%d + 60000 * number), '%s', %d, %d, number, %d, '%s' FROM numbers(%d, %d)`,
			at.UnixMilli(), l.table, l.node, l.epoch, rowsPerBatch, state, from, to-from+1)
	}
	rows := func(l testLife, from, to int) {
		l.exec(`INSERT INTO gpu_subsecond (ts, gpu_id, node_id, epoch, seq)
SELECT fromUnixTimestamp64Milli(%d + 60000 * s.number), n.number, %d, %d, s.number FROM numbers(%d, %d) AS s CROSS JOIN numbers(3) AS n`,
			l.first.UnixMilli(), l.node, l.epoch, from, to-from+1)
	}
	dayMinutes := int(day / time.Minute)
	last := 3 * dayMinutes
	minutes(long, 1, last, schema.LedgerStored, long.first)
	rows(long, dayMinutes+1, last) // the first day has gone by age
	got := f.audit(Options{Since: f.now.Add(-10 * day)})
	f.want(got, Report{Batches: uint64(last - dayMinutes - 60), Rows: uint64(last-dayMinutes-60) * 3, Agents: 1})
	i := slices.IndexFunc(got.Tables, func(t Table) bool { return t.Name == "gpu_subsecond" })
	if age := f.now.Sub(got.Tables[i].Since); age > kept || age < kept-2*hour {
		t.Errorf("audited for %s of %s", age, kept)
	}

	// Late: a day and a half of samples arrived at once, ten minutes ago, and what was too old has gone.
	late := f.life("gpu_subsecond", "ben", kept+day)
	late.recordAt(schema.LedgerStored, 1, last, f.now.Add(-10*time.Minute-time.Duration(last)*time.Second))
	rows(late, dayMinutes+1, last)
	got = f.audit(Options{})
	if got.Lost != 0 || got.Duplicated != 0 {
		t.Errorf("late rows that went by age: %d lost, gaps %v", got.Lost, got.Gaps)
	}
	late.exec("DELETE FROM gpu_subsecond WHERE seq = %d AND node_id = %d", 2*dayMinutes, late.node)
	got = f.audit(Options{})
	if got.Lost != 1 || got.LostRows != 3 {
		t.Errorf("a hole in rows that stay: %d batches, %d rows lost", got.Lost, got.LostRows)
	}
}

// TestAGlanceIsEnough: lives that agree are not looked at batch by batch, however old they are.
func TestAGlanceIsEnough(t *testing.T) {
	f := newFleet(t)
	f.life("gpu_samples", "anna", 3*hour).store(1, 100)                  // before the audited time, in the same partition
	f.life("gpu_samples", "anna", 2*hour).store(1, 7000)                 // on both sides
	f.life("gpu_samples", "ben", 50*time.Minute).store(1, 2000)          // within
	f.life("gpu_samples", "chris", 30*time.Minute).store(1, 1750)        // up to now
	f.life("gpu_samples", "dora", 20*time.Minute).record("stored", 1, 2) // and this one does not agree
	conn := clickhousetest.Open(t, f.db.Reader)
	a := &audit{conn: conn, shards: []driver.Conn{conn}, opts: Options{Since: f.now.Add(-hour), Settle: time.Minute}}
	if err := a.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	lives, err := a.survey(t.Context(), conn, a.window("gpu_samples"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lives {
		if l.epoch != 0 && l.node != wire.NodeID("dora") {
			t.Errorf("life of node %016x from %s is to be inspected", l.node, time.UnixMilli(int64(l.epoch)))
		}
	}
	if len(lives) != 4 {
		t.Errorf("%d lines, want one each for anna, ben, chris and dora", len(lives))
	}
}

func TestGapsAreBounded(t *testing.T) {
	f := newFleet(t)
	l := f.life("gpu_samples", "anna", hour)
	l.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state)
SELECT now64(3) - INTERVAL 10 MINUTE, 'gpu_samples', %d, %d, 2 * number, 3, 'quarantined' FROM numbers(1, 100)`, l.node, l.epoch)
	got := f.audit(Options{MaxGaps: 30})
	if len(got.Gaps) != 30 || got.GapsLeftOut != 70 || got.Lost != 100 || got.Quarantined != 100 {
		t.Errorf("%d gaps listed, %d left out, %d lost, %d quarantined", len(got.Gaps), got.GapsLeftOut, got.Lost, got.Quarantined)
	}
}

func TestSharesAreBounded(t *testing.T) {
	var lives []life
	for i := range 2500 {
		lives = append(lives, life{node: uint64(i), epoch: 1, weight: 10})
	}
	lives = append(lives, life{node: 1, epoch: 2, weight: 5 * maxShareBatches}, life{node: 2, epoch: 2, weight: maxShareBatches}, life{node: 3, epoch: 2, weight: 1})
	var sizes []int
	for _, s := range shares(lives) {
		sizes = append(sizes, len(s))
	}
	if want := []int{1000, 1000, 500, 1, 1, 1}; !slices.Equal(sizes, want) {
		t.Errorf("shares of %v lives, want %v", sizes, want)
	}
}

func TestNoTables(t *testing.T) {
	db := clickhousetest.Start(t)
	_, err := Run(t.Context(), clickhousetest.Open(t, db.Reader), Options{})
	if err == nil || !strings.Contains(err.Error(), "no table gpu_samples") {
		t.Errorf("audit of an empty database: %v", err)
	}
}
