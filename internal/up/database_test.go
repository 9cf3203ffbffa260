// SPDX-License-Identifier: Apache-2.0

package up

import (
	"fmt"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema"
)

// newDatabase has two nodes in one region and one without an inventory, two GPUs each, read at a time. A third GPU of
// the first node is silent, and so is a fourth node with its one GPU.
func newDatabase(t *testing.T, at time.Time) *database {
	t.Helper()
	db := clickhousetest.Start(t)
	writer := clickhousetest.Open(t, db.Writer)
	if err := schema.Migrate(t.Context(), writer, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	exec := func(format string, args ...any) {
		t.Helper()
		if err := writer.Exec(t.Context(), fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	ms := at.UnixMilli()
	for node := 1; node <= 3; node++ {
		for gpu := range 2 {
			exec(`INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, counter_epoch, quality, gpu_utilization_permille, power_average_watts, temperature_margin_celsius)
				VALUES (fromUnixTimestamp64Milli(%d), %d, %d, 1000, 1, 1, 0, %d, 500, %d)`, ms, 10*node+gpu, node, 400+200*gpu, 10*node+gpu)
		}
		exec(`INSERT INTO ingest_ledger (recorded_at, table_name, node_id, epoch, seq, rows, state, reason, unit, collector)
			VALUES (fromUnixTimestamp64Milli(%d), 'gpu_samples', %d, 1000, 1, 2, 'stored', '', 'u', 'c')`, ms+int64(node)*100, node)
	}
	for node := 1; node <= 2; node++ {
		exec(`INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, reading_source, provider, region)
			VALUES (fromUnixTimestamp64Milli(%d), %d, 1000, 1, 1, 'node-%d', 'simulator', 'aws', 'us-east-1')`, ms, node, node)
	}
	exec(`INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, reading_source, provider, region)
		VALUES (fromUnixTimestamp64Milli(%d), 4, 1000, 1, 1, 'node-4', 'simulator', 'gcp', 'us-central1')`, ms)
	exec(`INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq) SELECT fromUnixTimestamp64Milli(%d), arrayJoin([10, 11, 12]), 1, 1000, 1`, ms)
	exec(`INSERT INTO gpu_inventory (ts, gpu_id, node_id, epoch, seq) VALUES (fromUnixTimestamp64Milli(%d), 40, 4, 1000, 1)`, ms)
	exec(`INSERT INTO gpu_events (ts, node_id, epoch, seq, gpu_id, kind, source, count, message) VALUES (fromUnixTimestamp64Milli(%d), 1, 1000, 1, 10, 'xid', 'nvml', NULL, ''),
		(fromUnixTimestamp64Milli(%d), 1, 1000, 1, NULL, 'ticks_missed', 'agent', 3, '')`, ms, ms)
	conn, err := clickhouseclient.Open(clickhouseclient.Embedded(db.Reader))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &database{conn}
}

func TestViewCountsEveryGPUOnce(t *testing.T) {
	db := newDatabase(t, time.Now())
	places, err := db.view(t.Context(), time.UnixMilli(1000), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(places) != 3 {
		t.Fatalf("%d places, want aws, gcp and unknown: %+v", len(places), places)
	}
	aws, silent, unknown := places[0], places[1], places[2]
	if silent.Provider != "gcp" || silent.GPUs != 0 || silent.Silent != 1 || silent.Freshness != nil || silent.Busy != nil || silent.RowsPerSec != 0 {
		t.Errorf("a node that gives no rows: %+v", silent)
	}
	if aws.Provider != "aws" || aws.Silent != 1 || aws.Region != "us-east-1" || aws.GPUs != 4 || *aws.Busy != 0.5 || *aws.PowerWatts != 2000 || aws.Faults != 1 {
		t.Errorf("aws: %+v", aws)
	}
	if aws.Margin == nil || *aws.Margin != 10 {
		t.Errorf("hottest margin of aws %v, want 10", aws.Margin)
	}
	if aws.Freshness == nil || *aws.Freshness < 0 || *aws.Freshness > 60 {
		t.Errorf("freshness of aws %v s", aws.Freshness)
	}
	if unknown.Provider != "unknown" || unknown.GPUs != 2 || unknown.Silent != 0 || unknown.Faults != 0 {
		t.Errorf("node without inventory: %+v", unknown)
	}
}

func TestViewIsOfThisRun(t *testing.T) {
	db := newDatabase(t, time.Now())
	if places, err := db.view(t.Context(), time.UnixMilli(1001), time.Minute); err != nil || len(places) != 0 {
		t.Errorf("a later run shows what one before it left: %+v, %v", places, err)
	}
}

func TestResultCountsRowsOfThisRun(t *testing.T) {
	db := newDatabase(t, time.Now())
	var r Result
	if err := db.count(t.Context(), time.UnixMilli(1000), &r); err != nil {
		t.Fatal(err)
	}
	if r.Rows != 6 || r.GPUs != 6 || r.Clouds != 2 || r.MissedTicks != 3 || r.ClickHouse == "" {
		t.Errorf("rows %d, GPUs %d, clouds %d, missed ticks %d, version %q", r.Rows, r.GPUs, r.Clouds, r.MissedTicks, r.ClickHouse)
	}
	if err := db.freshness(t.Context(), time.UnixMilli(1000), &r); err != nil {
		t.Fatal(err)
	}
	if r.FreshnessP50Millis != 200 || r.FreshnessP99Millis < 290 || r.FreshnessP99Millis > 300 {
		t.Errorf("freshness %d and %d ms, want 200 and 300", r.FreshnessP50Millis, r.FreshnessP99Millis)
	}
	var later Result
	if err := db.count(t.Context(), time.UnixMilli(1001), &later); err != nil || later.Rows != 0 || later.MissedTicks != 0 {
		t.Errorf("a later run counts %d rows of this one, %v", later.Rows, err)
	}
	if err := db.freshness(t.Context(), time.UnixMilli(1001), &later); err != nil {
		t.Errorf("freshness of a run without rows: %v", err)
	}
}
