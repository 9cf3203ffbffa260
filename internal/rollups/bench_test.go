// SPDX-License-Identifier: Apache-2.0

package rollups

import (
	"context"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkRollUp rolls up a minute of 10,000 GPUs, and then their hour; the figures are of ClickHouse's own CPU, beside
// what the insert of the samples took.
func BenchmarkRollUp(b *testing.B) {
	const gpus = 10_000
	f := newFleet(b)
	f.readings()
	w := newWork(f.conn, f.db.Name, DefaultLimits())
	var inserted, minutes, hours float64
	for n := range int64(b.N) {
		at := f.begin + n*minute
		before := f.cpuMicroseconds()
		f.sample(gpus, at, minute)
		inserted += f.cpuMicroseconds() - before

		before = f.cpuMicroseconds()
		if samples, err := w.buildMinutes(b.Context(), span{at, at + minute}); err != nil || samples != gpus*minute {
			b.Fatalf("%d samples: %v", samples, err)
		}
		minutes += f.cpuMicroseconds() - before
		before = f.cpuMicroseconds()
		if err := w.insert(b.Context(), w.levels[1], span{floor(at, hour), floor(at, hour) + hour}, "true", 0); err != nil {
			b.Fatal(err)
		}
		hours += f.cpuMicroseconds() - before
	}
	samples := float64(b.N) * gpus * minute
	read := gpus * float64(b.N) * float64(b.N+1) / 2 // rows of minutes: all of the hour so far, each time
	b.ReportMetric(inserted/samples, "cpu-µs/sample-inserted")
	b.ReportMetric(minutes/samples, "cpu-µs/sample-rolled-up")
	b.ReportMetric(hours/read, "cpu-µs/minute-into-hours")
	f.exec("OPTIMIZE TABLE gpu_samples_1m FINAL")
	bytes := strings.Fields(f.query("SELECT sum(data_compressed_bytes) / sum(rows) FROM system.parts WHERE database = '%s' AND table = 'gpu_samples_1m' AND active", f.db.Name))
	if each, err := strconv.ParseFloat(bytes[0], 64); err == nil {
		b.ReportMetric(each, "disk-B/minute")
	}
}

// sample stores samples of GPUs for some seconds.
func (f *fleet) sample(gpus int, from, seconds int64) {
	f.Helper()
	f.exec(`INSERT INTO gpu_samples SELECT r.* EXCEPT (n) REPLACE (toDateTime64(%d + second, 3, 'UTC') AS ts, cityHash64(gpu) AS gpu_id, toUInt64(gpu / 8) AS node_id, toUInt64(1000) AS epoch, toUInt64(%[1]d) AS seq, toUInt32(0) AS counter_epoch, 'acme' AS tenant, 'eu' AS residency)
FROM (SELECT number %% %[2]d AS gpu, intDiv(number, %[2]d) AS second, gpu %% 400 AS n FROM numbers(%[2]d * %[3]d)) AS g JOIN readings AS r ON g.n = r.n SETTINGS max_insert_block_size = 1000000, insert_deduplicate = 0`, from, gpus, seconds)
}

// BenchmarkLate is what a Builder has to do at minute 50 of an hour of 2,000 GPUs: a look for late samples that finds none, or
// one of each hundredth GPU, or of each, of three minutes ago; in parts as they come, and when all are merged into one. Then
// the next minute, and the end of the hour. The figures are ClickHouse's own CPU time for 100,000 GPUs.
func BenchmarkLate(b *testing.B) {
	const gpus = 2_000
	f := newFleet(b)
	f.readings()
	cfg := f.config("c")
	cfg.Limits = DefaultLimits()
	builder := f.builder(cfg)
	measure := func(what string, work func(context.Context) error) {
		b.Helper()
		before := f.cpuMicroseconds()
		if err := work(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((f.cpuMicroseconds()-before)/1e6*100_000/gpus, "cpu-s/"+what)
	}
	tables := []string{"gpu_samples", "gpu_samples_1m"}
	for range b.N {
		for n := range int64(50) {
			f.sample(gpus, f.begin+n*minute, minute)
		}
		f.now = f.begin + 50*minute + 20
		f.catchUp(builder)
		for _, parts := range []string{"parts", "merged"} {
			for _, table := range tables {
				if parts == "merged" {
					f.exec("SYSTEM START MERGES %s", table)
					f.exec("OPTIMIZE TABLE %s FINAL", table)
				}
				f.exec("SYSTEM STOP MERGES %s", table)
			}
			for f.query("SELECT count() + sleep(0.2) FROM system.merges WHERE database = '%s'", f.db.Name) != "0" {
				continue // what has begun would be in the figures
			}
			for _, late := range []struct {
				what string
				gpus int
			}{{"none", 0}, {"1%", gpus / 100}, {"all", gpus}} {
				if late.gpus > 0 {
					f.sample(late.gpus, f.begin+47*minute, 1)
				}
				builder.swept = 0
				measure(late.what+"-"+parts, builder.sweep)
			}
		}
		f.sample(gpus, f.begin+50*minute, minute)
		f.now += minute
		f.clockOf(builder.work)
		builder.at.now = f.now
		measure("minute-51", builder.advance)
		measure("end-of-hour", func(ctx context.Context) error {
			_, err := builder.settle(ctx, span{f.begin, f.begin + hour}, "c")
			return err
		})
	}
	for _, table := range []string{"gpu_samples_1m", "gpu_samples_1h"} {
		f.want(f.query("SELECT count() FROM gpu_samples"), "SELECT sum(rows) FROM %s FINAL", table)
	}
}

// cpuMicroseconds is what ClickHouse has used so far.
func (f *fleet) cpuMicroseconds() float64 {
	f.Helper()
	text := f.query("SELECT sum(value) FROM system.events WHERE event IN ('UserTimeMicroseconds', 'SystemTimeMicroseconds')")
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		f.Fatal(err)
	}
	return n
}
