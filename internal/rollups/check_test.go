// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// built is a fleet of half an hour in two hours, rolled up.
func built(t *testing.T) (*fleet, *Builder) {
	t.Helper()
	f := newFleet(t)
	f.readings()
	f.insert(history(rand.New(rand.NewPCG(3, 9)), f.begin+40*minute, 2, 30*minute)...)
	f.now = f.begin + 2*hour + minute
	b := f.builder(f.config("c"))
	f.catchUp(b)
	return f, b
}

// replace puts another row in the place of the nth row of a rollup; change is what is other in it.
func (f *fleet) replace(table string, n int, change string) {
	f.Helper()
	f.exec("INSERT INTO %s SELECT * REPLACE (%s) FROM %[1]s FINAL ORDER BY ts, gpu_id LIMIT %[3]d, 1 SETTINGS insert_deduplicate = 0", table, change, n)
}

// spoiled is what a check must find.
type spoiled struct{ table, column string }

// TestCheckAndRebuild has one fleet for all of them: each leaves it as it should be.
func TestCheckAndRebuild(t *testing.T) {
	f, b := built(t)
	for _, part := range []struct {
		name string
		test func(*fleet, *Builder)
	}{
		{"tells what is behind", tellsWhatIsBehind},
		{"tells that the rollups have stopped", tellsThatTheRollupsHaveStopped},
		{"what is too much is counted once", countsOnce},
		{"refuses", refuses},
		{"may end anywhere", mayEndAnywhere},
		{"what a rebuild missed is found", findsWhatARebuildMissed},
		{"what a rebuild missed that ended is found", findsWhatAnEndedRebuildMissed},
		{"finds and mends", findsAndMends},
		{"leaves what is older than samples", leavesWhatIsOlder},
		{"nothing is made that would go by age", makesNothingThatGoes},
	} {
		t.Run(part.name, func(t *testing.T) {
			in := f.within(t)
			part.test(in, b)
			f.now = in.now
		})
	}
}

// findsAndMends spoils rows in every way that there is.
func findsAndMends(f *fleet, b *Builder) {
	t := f.TB
	minutes, hours := schema.Rollups()[0].Name, schema.Rollups()[1].Name
	for _, tt := range []struct {
		name  string
		spoil func()
		want  []spoiled
	}{
		{"rows that say something else", func() {
			f.replace(minutes, 0, "power_instant_watts_sum + 1 AS power_instant_watts_sum")
			f.replace(minutes, 1, "if(energy_millijoules_delta_sum IS NULL, 1, NULL) AS energy_millijoules_delta_sum")
			f.replace(minutes, 2, "gpu_id + 1 AS gpu_id")
			f.replace(hours, 0, "arrayReduce('quantilesDDState(0.01, 0.5, 0.95, 0.99)', [CAST(1, 'Nullable(Float64)')]) AS sm_active_permille_quantiles")
			f.replace(hours, 1, "node_id + 1 AS node_id")
		}, []spoiled{{minutes, "power_instant_watts_sum"}, {minutes, "energy_millijoules_delta_sum"}, {minutes, ""}, {hours, "sm_active_permille_quantiles"}, {hours, "node_id"}}},
		{"samples that were taken away", func() {
			f.exec("ALTER TABLE gpu_samples DELETE WHERE toStartOfHour(ts) = toDateTime(%d) AND toSecond(ts) > 30 SETTINGS mutations_sync = 1", f.begin)
		}, []spoiled{{minutes, "rows"}, {hours, "rows"}}},
		{"all samples of an hour that were taken away", func() {
			f.exec("ALTER TABLE gpu_samples DELETE WHERE toStartOfHour(ts) = toDateTime(%d) SETTINGS mutations_sync = 1", f.begin)
		}, []spoiled{{minutes, ""}, {hours, ""}}},
	} {
		tt.spoil()
		f.catchUp(b) // sees nothing: there are not more samples
		r := f.check(Range{From: timeOf(f.begin), To: timeOf(f.begin + hour)})
		for _, want := range tt.want {
			if !slices.ContainsFunc(r.Differences, func(d Difference) bool { return d.Table == want.table && d.Column == want.column }) {
				t.Errorf("%s: %+v was not found: %s, %+v", tt.name, want, r.Verdict, r.Differences)
			}
		}
		span := Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: f.config("").Limits}
		if _, err := Rebuild(t.Context(), f.conn, f.db.Name, span, nil); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		f.wantRight()
	}
	f.insert(batch{9999, 0, f.begin + 100, f.begin + 200}) // what comes after a rebuild counts, too
	f.now += 10 * minute
	f.catchUp(b)
	f.wantRight()
}

// tellsWhatIsBehind tells late samples from rows that are wrong.
func tellsWhatIsBehind(f *fleet, b *Builder) {
	t := f.TB
	f.insert(batch{9997, 7, f.begin + 60, f.begin + 180})
	r := f.check(Range{From: timeOf(f.begin), To: timeOf(f.begin + hour)})
	if r.Verdict != Wrong || r.Tables[0].Behind != 2 || r.Tables[0].Different != 2 || r.Tables[1].Behind != 1 {
		t.Errorf("%+v, want two minutes and an hour behind", r.Tables)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), ", eu): no row, the samples make") || !strings.Contains(text.String(), "check again") {
		t.Errorf("%v: %s", err, text.String())
	}
	f.now += minute
	f.catchUp(b)
	f.wantRight()
	line, text2 := strings.Builder{}, strings.Builder{}
	right := f.check(Range{From: timeOf(f.begin), To: timeOf(f.begin + hour)})
	var back Report
	if err := right.WriteJSON(&line); err != nil || json.Unmarshal([]byte(line.String()), &back) != nil || back.Verdict != Right {
		t.Errorf("%v: %s", err, line.String())
	}
	if err := right.WriteText(&text2); err != nil || !strings.Contains(text2.String(), "Every row is what the samples make.") {
		t.Errorf("%v: %s", err, text2.String())
	}
	if r := f.check(Range{From: timeOf(f.begin - 5*hour), To: timeOf(f.begin - 4*hour)}); r.Verdict != Nothing {
		t.Errorf("an hour without samples: %+v", r)
	}
}

func refuses(f *fleet, _ *Builder) {
	t := f.TB
	at := func(seconds int64) time.Time { return timeOf(seconds) }
	for want, r := range map[string]Range{
		"since and until":       {From: at(f.begin)},
		"begins before it ends": {From: at(f.begin), To: at(f.begin)},
		fmt.Sprintf("nothing is rolled up from %s", at(f.begin+20*hour).Format(time.RFC3339)):    {From: at(f.begin + 20*hour), To: at(f.begin + 21*hour)},
		fmt.Sprintf("nothing is rolled up from %s", at(f.begin-30*24*hour).Format(time.RFC3339)): {From: at(f.begin - 30*24*hour), To: at(f.begin - 29*24*hour)},
	} {
		r.Limits = DefaultLimits()
		if _, err := Rebuild(t.Context(), f.conn, f.db.Name, r, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", r, err, want)
		}
	}
}

// leavesWhatIsOlder: days of which samples went, by a retention that has been longer or shorter since, by a rule in other
// words, or by hand, keep their rollups.
func leavesWhatIsOlder(f *fleet, _ *Builder) {
	f.exec("INSERT INTO gpu_samples_1m SELECT * REPLACE (ts - toIntervalDay(20) AS ts) FROM gpu_samples_1m")
	before := f.query("SELECT count(), sum(rows) FROM gpu_samples_1m FINAL")
	for _, change := range []string{"MODIFY TTL toDateTime(ts) + toIntervalDay(90)", "MODIFY TTL ts + INTERVAL 2 WEEK", "REMOVE TTL"} {
		f.exec("ALTER TABLE gpu_samples %s", change)
		span := Range{From: timeOf(f.begin - 20*24*hour), To: timeOf(f.now), Limits: DefaultLimits()}
		if _, err := Rebuild(f.Context(), f.conn, f.db.Name, span, nil); err == nil || !strings.Contains(err.Error(), "would lose what the rollups") {
			f.Errorf("%s: rebuild: %v", change, err)
		}
		f.want(before, "SELECT count(), sum(rows) FROM gpu_samples_1m FINAL")
		if report := f.check(span); report.Verdict != Right {
			f.Errorf("%s: check: %v: %v", change, report.Verdict, report.Differences)
		}
	}
	f.exec("ALTER TABLE gpu_samples_1m DELETE WHERE ts < toDateTime(%d) SETTINGS mutations_sync = 1", f.begin-10*24*hour)
}

// makesNothingThatGoes: where samples are kept longer than their rollups, those are not made again and again.
func makesNothingThatGoes(f *fleet, b *Builder) {
	f.exec("ALTER TABLE gpu_samples MODIFY TTL toDateTime(ts) + toIntervalDay(4000)")
	f.exec("INSERT INTO gpu_samples (ts, gpu_id, epoch, seq) VALUES (%d, 1, 1, 1)", f.begin-4*24*hour)
	for _, table := range []string{"gpu_samples_1m", "rollup_progress"} {
		f.exec("ALTER TABLE %s MODIFY TTL toDateTime(ts) + toIntervalDay(2) SETTINGS materialize_ttl_after_modify = 0", table)
		f.clockOf(b.work)
		p, err := b.progress(f.Context(), "c", time.Minute)
		if want := floor(f.now, 24*hour) - 24*hour; err != nil || p.horizon != want {
			f.Errorf("%s: horizon %s, want %s: %v", table, timeOf(p.horizon), timeOf(want), err)
		}
		f.exec("ALTER TABLE %s MODIFY TTL toDateTime(ts) + toIntervalDay(400) SETTINGS materialize_ttl_after_modify = 0", table)
	}
}

// mayEndAnywhere begins it again after it ended at each of its steps.
func mayEndAnywhere(f *fleet, _ *Builder) {
	t := f.TB
	f.exec("ALTER TABLE gpu_samples DELETE WHERE toStartOfHour(ts) = toDateTime(%d) AND toMinute(ts) %% 7 = 0 SETTINGS mutations_sync = 1", f.begin)
	span := Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: f.config("").Limits}
	for _, step := range []string{StepMinutes, StepRemoved, StepHours, StepRecorded} {
		func() {
			defer func() {
				if r := recover(); r != (killed{}) {
					t.Errorf("the rebuild never came to %q: %v", step, r)
				}
			}()
			_, err := Rebuild(t.Context(), f.conn, f.db.Name, span, func(s string) {
				if s == step {
					panic(killed{})
				}
			})
			t.Error(err)
		}()
	}
	if _, err := Rebuild(t.Context(), f.conn, f.db.Name, span, nil); err != nil {
		t.Fatal(err)
	}
	f.wantRight()
}

// TestViewsGoUpToNow reads the views at any moment: each sample is in one row, whatever it is made of.
func TestViewsGoUpToNow(t *testing.T) {
	f := newFleet(t)
	f.readings()
	b := f.builder(f.config("c"))
	batches := history(rand.New(rand.NewPCG(4, 9)), f.begin, 2, hour+20*minute)
	slices.SortFunc(batches, func(x, y batch) int { return cmp.Compare(x.from, y.from) })
	for i := 0; i < len(batches); i += 16 {
		f.insert(batches[i:min(i+16, len(batches))]...)
		f.now = batches[i].from
		f.catchUp(b)
		for view, window := range map[string]string{"fleet_minutes": "toStartOfMinute(ts)", "fleet_hours": "toStartOfHour(ts)"} {
			f.want(f.query("SELECT sum(n), count(), sum(watts) FROM (SELECT count() AS n, sum(power_instant_watts) AS watts FROM gpu_samples GROUP BY gpu_id, tenant, residency, %s)", window),
				"SELECT sum(samples), count(), toUInt64(round(sum(power_instant_watts_avg * power_instant_readings))) FROM %s", view)
		}
	}
	f.want("rollup\nsamples", "SELECT DISTINCT made_of FROM fleet_minutes ORDER BY made_of")
	f.now = f.begin + 3*hour
	f.catchUp(b)
	f.want("rollup", "SELECT DISTINCT made_of FROM fleet_hours")
	f.want(fmt.Sprintf("%d\t%d", f.begin, f.begin+hour), "SELECT min(toUnixTimestamp(ts)), max(toUnixTimestamp(ts)) FROM rollup_status WHERE complete AND compared_samples > 0")
}

// findsWhatARebuildMissed lets a late sample come while the statement of a rebuild runs that does not see it, and be
// rolled up before that statement ends: the rebuild's row counts, and lacks it.
func findsWhatARebuildMissed(f *fleet, b *Builder) {
	t := f.TB
	s := span{f.begin, f.begin + hour}
	before, err := b.count(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	f.insert(batch{9998, 0, f.begin + 41*minute, f.begin + 41*minute + 10})
	f.now += minute
	f.catchUp(b)
	f.wantRight()
	generation, err := b.generation(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	generation++
	f.missed(b, s, generation, 9998)
	if err := b.record(t.Context(), s, generation, before, ""); err != nil {
		t.Fatal(err)
	}
	if r := f.check(Range{From: timeOf(s.from), To: timeOf(s.until)}); r.Verdict != Wrong {
		t.Fatalf("%+v", r)
	}
	f.now += minute
	f.catchUp(b)
	f.wantRight()
	if !b.leading {
		t.Error("a rebuild was taken for a collector that makes the rollups")
	}
}

// missed makes the rows of a rebuild that did not see a batch.
func (f *fleet) missed(b *Builder, s span, generation uint64, seq int) {
	f.Helper()
	for i, where := range []string{fmt.Sprintf("seq != %d", seq), "true"} {
		if err := b.insert(f.Context(), b.levels[i], s, where, generation); err != nil {
			f.Fatal(err)
		}
	}
}

// findsWhatAnEndedRebuildMissed is as before, and the rebuild is killed there: the builder has to find it by itself.
func findsWhatAnEndedRebuildMissed(f *fleet, b *Builder) {
	s := span{f.begin, f.begin + hour}
	f.insert(batch{8888, 0, f.begin + 43*minute, f.begin + 43*minute + 10})
	f.now += minute
	f.catchUp(b)
	f.wantRight()
	generation, err := b.generation(f.Context(), s)
	if err != nil {
		f.Fatal(err)
	}
	w := newWork(through{f.conn, func(statement string) error {
		if !strings.HasPrefix(statement, "INSERT INTO "+b.table("gpu_samples_1m")) {
			return nil
		}
		f.missed(b, s, generation+1, 8888)
		panic(killed{})
	}}, f.db.Name, f.config("").Limits)
	func() {
		defer func() {
			if r := recover(); r != (killed{}) {
				f.Errorf("ended with %v", r)
			}
		}()
		_, err := w.rebuild(f.Context(), s)
		f.Error(err)
	}()
	f.now += minute
	f.catchUp(b)
	f.wantRight()
}

// tellsThatTheRollupsHaveStopped: rows that are right prove nothing of the time after them.
func tellsThatTheRollupsHaveStopped(f *fleet, _ *Builder) {
	until := f.now - 2*minute
	for _, tt := range []struct {
		later int64
		to    int64
		want  Verdict
	}{
		{0, f.now, Right}, {9 * minute, 0, Right}, {15 * minute, until, Right}, {15 * minute, 0, Behind}, {15 * minute, f.now + 14*minute, Behind}, {3 * 24 * hour, f.now + 2*24*hour, Behind},
	} {
		late := *f
		late.now += tt.later
		r := Range{From: timeOf(f.begin)}
		if tt.to > 0 {
			r.To = timeOf(tt.to)
		}
		report := late.check(r)
		if report.Verdict != tt.want {
			f.Errorf("%+v: %s, rolled up until %s", tt, report.Verdict, report.RolledUpUntil)
		}
		var text strings.Builder
		if err := report.WriteText(&text); err != nil || strings.Contains(text.String(), "and no further") != (tt.want == Behind) {
			f.Errorf("%+v: %v: %s", tt, err, text.String())
		}
	}
}

// countsOnce compares a share whose differences cannot be listed at once.
func countsOnce(f *fleet, _ *Builder) {
	f.replace("gpu_samples_1m", 0, "quality_any + 1 AS quality_any")
	w := newWork(f.conn, f.db.Name, DefaultLimits())
	f.clockOf(w)
	refused := 0
	w.conn = through{f.conn, func(statement string) error {
		if strings.Contains(statement, "ARRAY JOIN") {
			if refused++; refused == 1 {
				return tooMuch()
			}
		}
		return nil
	}}
	report, err := w.check(f.Context(), Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: DefaultLimits()})
	want := f.query("SELECT count() FROM gpu_samples_1m FINAL WHERE ts < toDateTime(%d)", f.begin+hour)
	if err != nil || refused < 2 || strconv.FormatUint(report.Tables[0].Windows, 10) != want || report.Tables[0].Different != 1 || len(report.Differences) != 1 {
		f.Errorf("%v: refused %d times: %+v, want %s windows: %v", err, refused, report.Tables, want, report.Differences)
	}
	if _, err := Rebuild(f.Context(), f.conn, f.db.Name, Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: DefaultLimits()}, nil); err != nil {
		f.Error(err)
	}
	f.wantRight()
}

// TestJoin: of several shards the worst counts, and one that has samples and no rollups is not passed over.
func TestJoin(t *testing.T) {
	tables := func(windows, different uint64) []TableReport {
		return []TableReport{{Windows: windows, Different: different}}
	}
	right, wrong := Report{Tables: tables(9, 0), RolledUpUntil: timeOf(900)}, Report{Tables: tables(9, 1), RolledUpUntil: timeOf(900)}
	empty, unproved, stopped := Report{Tables: tables(0, 0), RolledUpUntil: timeOf(0)}, Report{Tables: tables(0, 0), unproved: true}, Report{Tables: tables(9, 0), stopped: true, RolledUpUntil: timeOf(600)}
	for _, tt := range []struct {
		shards []Report
		want   Verdict
	}{
		{[]Report{right}, Right},
		{[]Report{right, empty}, Right},
		{[]Report{empty, empty}, Nothing},
		{[]Report{right, unproved}, Nothing},
		{[]Report{unproved, right}, Nothing},
		{[]Report{right, stopped}, Behind},
		{[]Report{unproved, stopped, right}, Behind},
		{[]Report{stopped, wrong, unproved}, Wrong},
	} {
		if got := Join(tt.shards); got.Verdict != tt.want {
			t.Errorf("%+v: %s, want %s", tt.shards, got.Verdict, tt.want)
		}
	}
	if got := Join([]Report{right, stopped}); !got.RolledUpUntil.Equal(timeOf(600)) || right.Tables[0].Windows != 9 {
		t.Errorf("%+v, and of one shard %+v", got, right)
	}
}

// TestRollupsOfAClusterAreEachShards refuses a database that has no rows of its own.
func TestRollupsOfAClusterAreEachShards(t *testing.T) {
	c := clickhousetest.StartCluster(t)
	conn := clickhousetest.Open(t, c.Shards[0].Writer)
	for _, l := range []schema.Layout{schema.OfShard(c.Name, false), schema.OverShards(c.Named, c.Name, nil)} {
		if err := l.Migrate(t.Context(), conn, "test"); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := Check(t.Context(), conn, c.Name+"_local", Range{Limits: DefaultLimits()}); err != nil || r.Verdict != Nothing {
		t.Errorf("a shard: %+v, %v", r, err)
	}
	_, err := Check(t.Context(), conn, c.Name, Range{Limits: DefaultLimits()})
	if err == nil || !strings.Contains(err.Error(), "in database "+c.Name+"_local") {
		t.Errorf("error %v, want the name of the shard's database", err)
	}
}

// TestTooLongIsTooMuch: what does not end in time is parted, whoever gave it up first.
func TestTooLongIsTooMuch(t *testing.T) {
	f := newFleet(t)
	limits := DefaultLimits()
	limits.Timeout = 100 * time.Millisecond
	w := newWork(f.conn, f.db.Name, limits)
	if err := w.exec(t.Context(), "SELECT sleep(2)"); !isTooMuch(err) {
		t.Errorf("exec: %v", err)
	}
	if _, err := w.number(t.Context(), "SELECT toUInt64(sleep(2)) AS n"); !isTooMuch(err) {
		t.Errorf("number: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := w.exec(ended, "SELECT 1"); err == nil || isTooMuch(err) {
		t.Errorf("ended: %v", err)
	}
}
