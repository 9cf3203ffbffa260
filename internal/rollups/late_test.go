// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLateSamples has one fleet for all of them: each leaves it as it should be.
func TestLateSamples(t *testing.T) {
	f, b := built(t)
	for _, part := range []struct {
		name string
		test func(*fleet, *Builder)
	}{
		{"remake their minute", remakesTheirMinute},
		{"are not hidden by what was deleted", isNotHidden},
		{"are found though others fail", findsThoughOthersFail},
		{"are found though the sweep fails", goesOnThoughTheSweepFails},
	} {
		t.Run(part.name, func(t *testing.T) {
			in := f.within(t)
			part.test(in, b)
			f.now = in.now
		})
	}
}

// remakesTheirMinute: what comes late costs its minutes, and not its hour.
func remakesTheirMinute(f *fleet, b *Builder) {
	at := f.begin + 50*minute
	f.insert(batch{7000, 0, at, at + 10})
	s := span{f.begin, f.begin + hour}
	all, err := b.lacking(f.Context(), b.levels[0], s)
	if err != nil || len(all) != 1 || all[0].span != (span{at, at + minute}) {
		f.Fatalf("%v: behind is %+v, want one minute", err, all)
	}
	for _, list := range []string{all[0].windows, ""} { // few, or many
		all[0].windows = list
		plan := f.query("EXPLAIN indexes = 1 %s", strings.TrimSpace(b.levels[0].Query(b.lateSource(b.levels[0], s, all[0], everyGPU(), 0))))
		if !strings.Contains(plan, "(gpu_id in ") && !strings.Contains(plan, "in 1-element set") {
			f.Errorf("GPUs that are behind are not found by the index:\n%s", strings.ReplaceAll(plan, "\\n", "\n"))
		}
	}
	mended, err := b.settle(f.Context(), s, "c")
	if err != nil {
		f.Fatal(err)
	}
	f.want(strconv.FormatUint(mended, 10), "SELECT count() FROM gpu_samples WHERE toStartOfMinute(ts) = toDateTime(%d) AND (gpu_id, tenant) IN (SELECT gpu_id, tenant FROM gpu_samples WHERE seq = 7000)", at)
	f.wantRight()
}

// isNotHidden deletes samples of one tenant and of some minutes, and lets others come late.
func isNotHidden(f *fleet, b *Builder) {
	f.exec("ALTER TABLE gpu_samples DELETE WHERE toStartOfHour(ts) = toDateTime(%d) AND (tenant = 'globex' OR toMinute(ts) >= 55) SETTINGS mutations_sync = 1", f.begin)
	f.insert(batch{7001, 0, f.begin + 48*minute, f.begin + 48*minute + 5}, batch{7002, 1, f.begin + 49*minute, f.begin + 49*minute + 5}, batch{7003, 1, f.begin + 49*minute, f.begin + 49*minute + 5})
	f.exec(`INSERT INTO gpu_samples (ts, gpu_id, epoch, seq, tenant) VALUES (%d, 9, 1, 1, 'o\'neil\\ "(x)"')`, f.begin+7)
	if _, err := b.settle(f.Context(), span{f.begin, f.begin + hour}, "c"); err != nil {
		f.Fatal(err)
	}
	f.want("0", `SELECT count() FROM (SELECT gpu_id, tenant, toStartOfMinute(s.ts) AS w, count() AS n FROM gpu_samples AS s WHERE toStartOfHour(s.ts) = toDateTime(%d) GROUP BY gpu_id, tenant, w) AS s
LEFT JOIN (SELECT gpu_id, tenant, ts, rows FROM gpu_samples_1m FINAL) AS r ON s.gpu_id = r.gpu_id AND s.tenant = r.tenant AND s.w = r.ts WHERE s.n != r.rows`, f.begin)
	if _, err := Rebuild(f.Context(), f.conn, f.db.Name, Range{From: timeOf(f.begin), To: timeOf(f.begin + hour), Limits: DefaultLimits()}, nil); err != nil {
		f.Fatal(err)
	}
	f.now += minute
	f.catchUp(b)
	f.wantRight()
}

// findsThoughOthersFail has two late hours, of which the newer one cannot be rolled up at first.
func findsThoughOthersFail(f *fleet, b *Builder) {
	newer := f.begin + hour
	f.insert(batch{7010, 0, f.begin + 51*minute, f.begin + 51*minute + 5}, batch{7011, 0, newer + minute, newer + minute + 5})
	f.now += 2 * minute
	b.conn = through{f.conn, func(statement string) error {
		if strings.HasPrefix(statement, "INSERT INTO "+b.table("gpu_samples_1m")) && strings.Contains(statement, fmt.Sprintf("toStartOfHour(ts) = toDateTime(%d", newer)) {
			return errors.New("not now")
		}
		return nil
	}}
	f.clockOf(b.work)
	_, err := b.Pass(f.Context())
	if err == nil || !strings.Contains(err.Error(), "not now") {
		f.Fatalf("first pass: %v", err)
	}
	f.clockOf(b.work)
	if more, err := b.Pass(f.Context()); err != nil || !more {
		f.Errorf("second pass: %t, %v; want the older hour to be rolled up", more, err)
	}
	if r := f.check(Range{From: timeOf(f.begin), To: timeOf(newer)}); r.Verdict != Right {
		f.Errorf("the older hour is %s", r.Verdict)
	}
	b.conn = f.conn
	f.catchUp(b)
	f.wantRight()
}

// goesOnThoughTheSweepFails: what is too much for ClickHouse is not tried at each look, and does not keep late hours from
// being rolled up.
func goesOnThoughTheSweepFails(f *fleet, b *Builder) {
	f.insert(batch{7020, 0, f.begin + 52*minute, f.begin + 52*minute + 5}, batch{7021, 0, f.begin + 2*hour, f.begin + 2*hour + 30})
	f.now = f.begin + 2*hour + 20*minute
	sweeps := 0
	b.conn = through{f.conn, func(statement string) error {
		if strings.Contains(statement, "made_at") && strings.Contains(statement, fmt.Sprintf("toStartOfHour(ts) = toDateTime(%d", f.begin+2*hour)) {
			sweeps++
			return errors.New("not now")
		}
		return nil
	}}
	f.clockOf(b.work)
	if _, err := b.Pass(f.Context()); err == nil || !strings.Contains(err.Error(), "not now") {
		f.Errorf("first pass: %v", err)
	}
	if r := f.check(Range{From: timeOf(f.begin), To: timeOf(f.begin + hour)}); r.Verdict != Right {
		f.Errorf("an hour that is over waits for one that is not: %s", r.Verdict)
	}
	f.now += minute
	f.clockOf(b.work)
	if _, err := b.Pass(f.Context()); err != nil || sweeps != 1 {
		f.Errorf("second pass: %v; swept %d times, want once in five minutes", err, sweeps)
	}
	b.conn = f.conn
	f.now += 2 * hour
	f.catchUp(b)
	f.wantRight()
}

// TestRetry: errors are tried again more and more seldom, up to a minute.
func TestRetry(t *testing.T) {
	cfg := DefaultConfig()
	var waits []time.Duration
	for _, failures := range []int{1, 2, 3, 4, 5, 1000} {
		waits = append(waits, cfg.retry(failures))
	}
	s := time.Second
	if want := []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 60 * s, 60 * s}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

// TestWorkThatTakesLongIsNotDoneTwice: each share of an hour takes a minute, all of it longer than TakeOver. The other
// collector sees that somebody is at work, and new minutes do not wait.
func TestWorkThatTakesLongIsNotDoneTwice(t *testing.T) {
	f := newFleet(t)
	f.readings()
	f.insert(history(rand.New(rand.NewPCG(6, 9)), f.begin+20*minute, 2, 30*minute)...)
	f.now = f.begin + 3*hour + 5*minute
	cfg := f.config("a")
	cfg.Limits.SliceSamples = 400
	watcher := f.builder(f.config("b"))
	var worker *Builder
	var steps []string
	cfg.OnStep = func(step string) {
		if len(steps) > 0 {
			f.clockOf(watcher.work)
			if _, err := watcher.Pass(context.Background()); err != nil || watcher.leading {
				t.Errorf("after %v another one works too: %v", steps, err)
			}
		}
		steps = append(steps, step)
		f.now += minute
		f.clockOf(worker.work)
		worker.recorded = time.Time{} // as if a minute had gone by here, too
	}
	worker = f.builder(cfg)
	f.catchUp(worker)
	mended := slices.Index(steps, StepMended)
	if len(steps) < 6 || mended < 0 || !slices.Contains(steps[mended:slices.Index(steps, StepHours)], StepMoved) {
		t.Errorf("steps %v: want some minutes of work, in which the boundary moves", steps)
	}
	f.catchUp(worker)
	f.wantRight()
}

// TestSharesAreOfRowsToo: of GPUs that are read seldom, as many samples make more rows.
func TestSharesAreOfRowsToo(t *testing.T) {
	for _, tt := range []struct{ samples, rows, want uint64 }{{1, 1, 1}, {1_000_000, 16_666, 1}, {6_000_000, 100_000, 7}, {1_000_000, 1_000_000, 61}} {
		if got := DefaultLimits().slices(tt.samples, tt.rows); got != tt.want {
			t.Errorf("%d samples in %d rows: %d slices, want %d", tt.samples, tt.rows, got, tt.want)
		}
	}
	f := newFleet(t)
	f.exec("INSERT INTO gpu_samples (ts, gpu_id, epoch, seq) SELECT toDateTime64(%d, 3, 'UTC') + 60 * (number %% 5), cityHash64(intDiv(number, 5)), 1, number FROM numbers(1000)", f.begin)
	inserts := 0
	w := newWork(through{f.conn, func(statement string) error {
		if strings.HasPrefix(statement, "INSERT") {
			inserts++
		}
		return nil
	}}, f.db.Name, f.config("").Limits) // 3000 samples, or the 50 rows that these make at 1 Hz
	if samples, err := w.buildMinutes(t.Context(), span{f.begin, f.begin + 5*minute}); err != nil || samples != 1000 || inserts != 20 {
		t.Errorf("%d samples in %d statements, want 1000 in 20: %v", samples, inserts, err)
	}
}

// TestProgressIsNotReadWhole: of 400 days of records a look reads those that it needs.
func TestProgressIsNotReadWhole(t *testing.T) {
	f := newFleet(t)
	f.exec("INSERT INTO rollup_progress (ts, built_until, recorded_at) SELECT toDateTime(%d, 'UTC') - 3600 * number AS t, t + 3600, now64(3) FROM numbers(1, 300)", f.begin)
	f.now = f.begin + 30*minute
	b := f.builder(f.config("c"))
	b.conn = through{f.conn, func(statement string) error {
		if strings.Contains(statement, "`rollup_progress`") && strings.Contains(statement, "SELECT") && !strings.Contains(statement, " ts >= toDateTime(") && !strings.Contains(statement, " ts = toDateTime(") && !strings.HasPrefix(statement, "INSERT") {
			t.Errorf("reads all of it: %.200s", statement)
		}
		return nil
	}}
	f.catchUp(b)
	p, err := b.progress(t.Context(), "c", time.Minute)
	if err != nil || p.boundary != f.begin+29*minute {
		t.Errorf("boundary %s: %v", timeOf(p.boundary), err)
	}
	f.now += 9 * 24 * hour // nothing was recorded for more than a week
	f.clockOf(b.work)
	if p, err = b.progress(t.Context(), "c", time.Minute); err != nil || p.boundary != f.begin+29*minute {
		t.Errorf("boundary %s after a long time: %v", timeOf(p.boundary), err)
	}
}
