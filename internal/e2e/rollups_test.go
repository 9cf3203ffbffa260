// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/rollups"
	"github.com/gpufleet/gpufleet/schema"
)

// TestCollectorMakesRollups lets a collector find samples of the last two hours and of a week ago, of which nothing is
// rolled up yet; and it gives a table the retention that it is told.
func TestCollectorMakesRollups(t *testing.T) {
	db := clickhousetest.Start(t)
	conn := clickhousetest.Open(t, db.Writer)
	if err := schema.Migrate(t.Context(), conn, db.Name, "test"); err != nil {
		t.Fatal(err)
	}
	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq, power_instant_watts) SELECT now64(3) - 7200 + number, 1, 1, 5, number, 300 FROM numbers(7000)")
	clickhousetest.Exec(t, db.Writer, "INSERT INTO gpu_samples (ts, gpu_id, node_id, epoch, seq) SELECT toStartOfHour(now64(3)) - 7 * 86400 + number, 1, 1, 4, number FROM numbers(1000)")
	cfg := collectorConfig(t, db.Writer)
	cfg.Retention = []schema.Retention{{Table: "gpu_samples_1m", Days: 90}}
	_, stop := startCollector(t, cfg)
	awaitAnswer(t, db.Reader, "SELECT sum(complete) >= 3 FROM rollup_status", "1") // a week ago, and two hours or three
	awaitAnswer(t, db.Reader, "SELECT sum(rows) FROM gpu_samples_1m FINAL WHERE ts < toStartOfHour(now())", clickhousetest.Query(t, db.Reader, "SELECT count() FROM gpu_samples WHERE ts < toStartOfHour(now())"))
	awaitAnswer(t, db.Reader, "SELECT position(engine_full, 'toIntervalDay(90)') > 0 FROM system.tables WHERE database = currentDatabase() AND name = 'gpu_samples_1m'", "1")
	stop()
	r, err := rollups.Check(t.Context(), conn, db.Name, rollups.Range{From: time.Now().Add(-8 * 24 * time.Hour), To: time.Now(), Limits: rollups.DefaultLimits()})
	if err != nil || r.Verdict != rollups.Right || r.Samples < 7000 {
		t.Errorf("%v: %+v", err, r)
	}
}
