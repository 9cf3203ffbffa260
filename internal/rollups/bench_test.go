// SPDX-License-Identifier: Apache-2.0

package rollups

import (
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
		f.exec(`INSERT INTO gpu_samples SELECT r.* EXCEPT (n) REPLACE (toDateTime64(%d + second, 3, 'UTC') AS ts, cityHash64(gpu) AS gpu_id, toUInt64(gpu / 8) AS node_id, toUInt64(1000) AS epoch, toUInt64(%[1]d) AS seq, toUInt32(0) AS counter_epoch)
FROM (SELECT number %% %[2]d AS gpu, intDiv(number, %[2]d) AS second, gpu %% 400 AS n FROM numbers(%[2]d * 60)) AS g JOIN readings AS r ON g.n = r.n SETTINGS max_insert_block_size = 1000000`, at, gpus)
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
