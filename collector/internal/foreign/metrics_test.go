// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// TestMetrics: of all that comes it is counted what became of it, once.
func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	r := start(t, func(c *Config) { c.Meter = provider.Meter("test") })
	kept := dcgm("DEV_GPU_TEMP", "GPU-a", 0, 60)
	said, err := r.push(kept, kept, dcgm("DEV_FB_FREE", "GPU-a", 0, 1), dcgm("DEV_GPU_UTIL", "GPU-a", 0, math.NaN()), dcgm("DEV_GPU_UTIL", "GPU-a", 0, 101), dcgm("NEW", "GPU-a", 0, 1))
	if err != nil || !strings.Contains(said, "1: DCGM_FI_DEV_GPU_UTIL with a value that its column cannot hold") || strings.Count(said, ";") != 1 {
		t.Errorf("push: %q, %v", said, err)
	}
	r.must(kept)
	want := map[string]int64{
		"readings protocol=otlp":                          2,
		"duplicate.readings":                              2,
		"refused.readings protocol=otlp,reason=no_column": 1,
		"refused.readings protocol=otlp,reason=no_value":  1,
		"refused.readings protocol=otlp,reason=refused":   1,
		"unknown.readings metric=DCGM_FI_NEW":             1,
	}
	if diff := cmp.Diff(want, counters(t, reader)); diff != "" {
		t.Error(diff)
	}
}

// counters are the sums that were counted, by name and attributes.
func counters(t *testing.T, reader metric.Reader) map[string]int64 {
	t.Helper()
	var read metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &read); err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, scope := range read.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok {
				t.Fatalf("%s is a %T", m.Name, m.Data)
			}
			for _, point := range sum.DataPoints {
				var of []string
				for _, kv := range point.Attributes.ToSlice() {
					of = append(of, string(kv.Key)+"="+kv.Value.AsString())
				}
				found[strings.TrimSpace(strings.TrimPrefix(m.Name, "gpufleet.collector.foreign.")+" "+strings.Join(of, ","))] = point.Value
			}
		}
	}
	return found
}
