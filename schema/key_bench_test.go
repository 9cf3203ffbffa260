// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

const (
	keyGPUs  = 4000
	keyHours = 3
)

// BenchmarkLayoutKey fills a narrow table of as many GPUs and hours under each sorting key, and reports
// how many rows two questions read for each that they need, and how long they take: the last quarter of
// an hour of the fleet, and all of one GPU.
func BenchmarkLayoutKey(b *testing.B) {
	f := newFleet(b)
	keys := []struct{ name, order string }{
		{"hour-gpu-index-of-two", "(toStartOfHour(ts), gpu_id, ts) PRIMARY KEY (toStartOfHour(ts), gpu_id)"},
		{"hour-gpu-ts", "(toStartOfHour(ts), gpu_id, ts)"},
		{"gpu-ts", "(gpu_id, ts)"},
		{"ts-gpu", "(ts, gpu_id)"},
	}
	for _, key := range keys {
		for _, granularity := range []int{2048, 8192} {
			b.Run(key.name+"/"+strconv.Itoa(granularity), func(b *testing.B) {
				f.fillKeyed(b, key.order, granularity)
				fleet := "FROM keyed WHERE ts >= (SELECT max(ts) FROM keyed) - 899"
				one := fmt.Sprintf("FROM keyed WHERE gpu_id = cityHash64(%d)", keyGPUs/2)
				for b.Loop() {
					b.ReportMetric(f.rowsRead(b, fleet)/(keyGPUs*900), "fleet-read/needed")
					b.ReportMetric(f.rowsRead(b, one)/(keyHours*3600), "gpu-read/needed")
					b.ReportMetric(f.milliseconds(b, "SELECT avg(value) "+fleet), "fleet-ms")
					b.ReportMetric(f.milliseconds(b, "SELECT avg(value) "+one), "gpu-ms")
				}
				b.ReportMetric(float64(f.diskBytes(b, "keyed"))/(keyGPUs*keyHours*3600), "disk-B/row")
			})
		}
	}
}

// fillKeyed inserts the rows by the minute, as they would come, and merges them.
func (f fleet) fillKeyed(b *testing.B, key string, granularity int) {
	b.Helper()
	f.exec(b, "DROP TABLE IF EXISTS keyed SYNC")
	f.exec(b, fmt.Sprintf("CREATE TABLE keyed (ts DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)), gpu_id UInt64 CODEC(Delta, ZSTD(1)), value UInt16 CODEC(T64, ZSTD(1))) ENGINE = MergeTree ORDER BY %s SETTINGS index_granularity = %d", key, granularity))
	const minutes = 10
	for at := 0; at < keyHours*3600; at += minutes * 60 {
		f.exec(b, fmt.Sprintf(`INSERT INTO keyed SELECT toDateTime64('2026-09-21 12:00:00', 3, 'UTC') + %d + intDiv(number, %d) AS ts, cityHash64(number %% %[2]d) AS gpu_id, rand() %% 1000 AS value
FROM numbers(%d) SETTINGS max_insert_threads = 1, async_insert = 0`, at, keyGPUs, keyGPUs*minutes*60))
	}
	f.exec(b, "OPTIMIZE TABLE keyed FINAL")
}

// rowsRead is how many rows the index leaves to be read.
func (f fleet) rowsRead(b testing.TB, from string) float64 {
	b.Helper()
	return float64(f.number(b, "SELECT sum(rows) FROM (EXPLAIN ESTIMATE SELECT ts "+from+")"))
}

// milliseconds is the shortest of three runs.
func (f fleet) milliseconds(b testing.TB, sql string) float64 {
	b.Helper()
	best := time.Hour
	for range 3 {
		start := time.Now()
		if _, err := f.Writer.Ask(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Microseconds()) / 1000
}
