// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"flag"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

var benchGPUs = flag.Int("audit-gpus", 4000, "GPUs, eight to a node, of whose day BenchmarkCount makes a ledger")

// BenchmarkCount counts a day of a fleet by the hour: batches of readings each five seconds, of health each minute, of both
// inventories each hour. It tells how many batches the ledger has, and how many rows and bytes of ingest_sequences they are
// once merged. A day of 100,000 GPUs, which takes some minutes to make:
//
//	go test ./internal/audit -run '^$' -bench Count -benchtime 5x -timeout 1h -args -audit-gpus 100000
func BenchmarkCount(b *testing.B) {
	f := &fleet{TB: b, db: clickhousetest.Start(b), now: time.Now().UTC()}
	for _, table := range schema.StoredTables() {
		f.exec("%s", table.CreateTable(f.db.Name))
	}
	for _, feed := range schema.Feeds() {
		f.exec("%s", feed.CreateFeed(f.db.Name))
	}
	began := f.now.Truncate(hour).Add(-24 * hour)
	want := uint64(0)
	for hours := range 24 {
		for table, batches := range map[string]int{"gpu_samples": 720, "gpu_health": 60, "gpu_inventory": 1, "node_inventory": 1} {
			want += uint64(f.recordHour(table, began, hours, batches))
		}
	}
	f.exec("OPTIMIZE TABLE ingest_sequences FINAL")
	conn := clickhousetest.Open(b, f.db.Reader)
	for b.Loop() {
		got, err := Count(b.Context(), conn, Options{Since: began}, ByHour)
		if err != nil {
			b.Fatal(err)
		}
		if got.Batches != want || got.Lost != 0 || got.Agents != uint64(*benchGPUs/8) {
			b.Fatalf("%d batches of %d agents, %d lost; want %d of %d, none lost", got.Batches, got.Agents, got.Lost, want, *benchGPUs/8)
		}
	}
	size := strings.Fields(clickhousetest.Query(b, f.db.Reader, "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND table = 'ingest_sequences' AND active"))
	for i, unit := range []string{"rows", "bytes"} {
		value, err := strconv.ParseFloat(size[i], 64)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(value, unit)
	}
	b.ReportMetric(float64(want), "batches")
}

// recordHour enters what all nodes sent of a table in one hour of the day, and returns how many batches that is. Their
// agents run since some time in the month before, each with numbers of its own.
func (f *fleet) recordHour(table string, began time.Time, hours, batches int) int {
	f.Helper()
	all := batches * (*benchGPUs / 8)
	f.exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, unit, collector)
SELECT fromUnixTimestamp64Milli(%[1]d + intDiv(3600000 * (number %% %[2]d), %[2]d)), '%[3]s', 1 + intDiv(number, %[2]d) AS node, %[4]d - 1000 * age, 1 + %[5]d + number %% %[2]d + intDiv(age * %[2]d, 3600), 80, '%[6]s', 'unit', 'one'
FROM (SELECT number, cityHash64(intDiv(number, %[2]d)) %% (30 * 86400) AS age FROM numbers(%[7]d))`,
		began.Add(time.Duration(hours)*hour).UnixMilli(), batches, table, began.UnixMilli(), hours*batches, schema.LedgerStored, all)
	return all
}
