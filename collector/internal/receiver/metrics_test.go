// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc/codes"

	"github.com/gpufleet/gpufleet/schema/wire"
)

// TestMetrics sends some of everything and reads what was counted.
func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	f := serve(t, func(cfg *Config) { cfg.Meter = provider.Meter("test") })
	a := f.agent(t, nil)
	sent := a.batch(1)
	for range 3 {
		a.send(sent)
		a.want(wire.Stored, 1)
	}
	a.send(a.batchAt(2, time.Unix(1, 0)))
	a.want(wire.Rejected, 2)
	stranger := f.newAgent(t, f.dial(t), wire.NodeHeader, "node-2")
	stranger.hello()
	stranger.wantEnd(codes.PermissionDenied)

	got := counters(t, reader)
	want := map[string]int64{
		"gpufleet.collector.received.rows[table=gpu_events]":                                5,
		"gpufleet.collector.received.bytes[table=gpu_events]":                               int64(len(sent.AppMetadata) + len(sent.DataBody)),
		"gpufleet.collector.received.batches[table=gpu_events]":                             1,
		"gpufleet.collector.duplicate.batches[table=gpu_events]":                            2,
		"gpufleet.collector.quarantined.batches[reason=time table=gpu_events]":              1,
		"gpufleet.collector.refused.streams[code=PermissionDenied reason=hello_of_another]": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
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
			if _, histogram := m.Data.(metricdata.Histogram[float64]); histogram {
				continue
			}
			if !ok {
				t.Fatalf("%s is a %T", m.Name, m.Data)
			}
			for _, point := range sum.DataPoints {
				found[m.Name+"["+text(point.Attributes)+"]"] = point.Value
			}
		}
	}
	return found
}

// text is attributes as name=value, in order of their names.
func text(attributes attribute.Set) string {
	joined := ""
	for _, kv := range attributes.ToSlice() {
		if joined != "" {
			joined += " "
		}
		joined += string(kv.Key) + "=" + kv.Value.AsString()
	}
	return joined
}
