// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"strings"
	"testing"

	"github.com/gpufleet/gpufleet/schema"
)

// ttl is what ClickHouse has as a table's TTL.
func (f fleet) ttl(t *testing.T, table string) string {
	t.Helper()
	return f.query(t, "SELECT extract(engine_full, ' TTL (.*) SETTINGS ') FROM system.tables WHERE database = '"+f.Name+"' AND name = '"+table+"' FORMAT TSVRaw")
}

func TestRetentionIsApplied(t *testing.T) {
	f := newFleet(t)
	for _, d := range schema.DefaultRetention() { // what tables are made with is not changed
		if err := schema.ApplyRetention(t.Context(), f.connection, f.Name, []schema.Retention{d}); err != nil {
			t.Fatal(err)
		}
	}
	f.want(t, "SELECT count() FROM system.tables WHERE database = '"+f.Name+"' AND position(engine_full, 'materialize_ttl_recalculate_only') > 0", "0")
	for _, tt := range []struct {
		want schema.Retention
		ttl  string
	}{
		{schema.Retention{Table: "gpu_samples", Days: 30}, "toDateTime(ts) + toIntervalDay(30)"},
		{schema.Retention{Table: "gpu_samples_1m", Days: 90, Cold: schema.Cold{Volume: "default", AfterDays: 7}}, "toDateTime(ts) + toIntervalDay(90), toDateTime(ts) + toIntervalDay(7) TO VOLUME 'default'"},
		{schema.Retention{Table: "gpu_samples_1h", Cold: schema.Cold{Volume: "default", AfterDays: 60}}, "toDateTime(ts) + toIntervalDay(60) TO VOLUME 'default'"},
		{schema.Retention{Table: "gpu_samples_1h"}, ""},
		{schema.Retention{Table: "ingest_ledger", Days: 40}, "toDateTime(recorded_at) + toIntervalDay(40)"},
	} {
		for range 2 { // twice is once
			if err := schema.ApplyRetention(t.Context(), f.connection, f.Name, []schema.Retention{tt.want}); err != nil {
				t.Fatal(err)
			}
			if got := f.ttl(t, tt.want.Table); got != tt.ttl {
				t.Errorf("%+v: TTL %q, want %q", tt.want, got, tt.ttl)
			}
		}
	}
	f.migrate(t) // leaves it
	if got := f.ttl(t, "gpu_samples"); !strings.Contains(got, "30") {
		t.Errorf("after another migration: TTL %q", got)
	}
}

func TestRetentionDropsWholeParts(t *testing.T) {
	f := newFleet(t)
	f.exec(t, "INSERT INTO gpu_samples_1m (ts, gpu_id, version, rows) VALUES (now() - toIntervalDay(10), 1, 1, 1)")
	f.exec(t, "INSERT INTO gpu_samples_1m (ts, gpu_id, version, rows) VALUES (now(), 1, 1, 1)")
	if err := schema.ApplyRetention(t.Context(), f.connection, f.Name, []schema.Retention{{Table: "gpu_samples_1m", Days: 5}}); err != nil {
		t.Fatal(err)
	}
	f.exec(t, "OPTIMIZE TABLE gpu_samples_1m FINAL SETTINGS mutations_sync = 1")
	f.want(t, "SELECT count() FROM gpu_samples_1m WHERE ts > now() - toIntervalDay(1)", "1")
	f.want(t, "SELECT count() FROM gpu_samples_1m", "1")
}

func TestRetentionThatCannotBeHonoured(t *testing.T) {
	f := newFleet(t)
	before := f.ttl(t, "gpu_health")
	for want, wanted := range map[string][]schema.Retention{
		"its storage policy \"default\" has the volumes default alone": {{Table: "gpu_health", Days: 9}, {Table: "gpu_samples", Days: 30, Cold: schema.Cold{Volume: "cold", AfterDays: 2}}},
		"no such table drops rows; these do: gpu_samples,":             {{Table: "gpu_health", Days: 9}, {Table: "samples", Days: 30}},
		"give both, or neither":                                        {{Table: "gpu_samples", Days: 30, Cold: schema.Cold{Volume: "default"}}},
		"move it earlier":                                              {{Table: "gpu_samples", Days: 30, Cold: schema.Cold{Volume: "default", AfterDays: 30}}},
		"1 to 36500, or 0 to keep all":                                 {{Table: "gpu_samples", Days: -1}},
	} {
		if err := schema.ApplyRetention(t.Context(), f.connection, f.Name, wanted); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", wanted, err, want)
		}
	}
	if got := f.ttl(t, "gpu_health"); got != before {
		t.Errorf("TTL of gpu_health is %q after all were refused, want %q", got, before)
	}
}
