// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/health"
)

// parts is a pipeline with a log that holds one batch, and takes so many bytes.
func parts(t *testing.T, logBytes int64) *pipeline {
	t.Helper()
	dir := batchlog.Config{Dir: t.TempDir(), MaxBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler)}
	leave(t, dir)
	dir.MaxBytes = logBytes
	log, err := batchlog.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	kept, err := quarantine.Open(t.TempDir(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return &pipeline{cfg: DefaultConfig(), log: log, quarantine: kept, load: receiver.NewLoad()}
}

func TestChecksOfWhatFills(t *testing.T) {
	p := parts(t, 1<<30)
	if got := p.logCheck(); got.State != health.OK {
		t.Errorf("a log with room: %+v", got)
	}
	if got := parts(t, 1<<10).logCheck(); got.State != health.Failing || !strings.Contains(got.Reason, "accepted batches of gpu_events") {
		t.Errorf("a log that is full: %+v", got)
	}
	if got := (&pipeline{}).logCheck(); got.State != health.OK {
		t.Errorf("no log: %+v", got)
	}
	if got := p.quarantineCheck(); got.State != health.OK {
		t.Errorf("an empty quarantine: %+v", got)
	}
	var err error
	if p.quarantine, err = quarantine.Open(t.TempDir(), 4<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := p.quarantine.Put(quarantine.Entry{Table: "gpu_events", Sequence: 1}, quarantine.Data{}); err != nil {
		t.Fatal(err)
	}
	if got := p.quarantineCheck(); got.State != health.Warning || !strings.Contains(got.Reason, "quarantine") {
		t.Errorf("a full quarantine is no reason to take nothing: %+v", got)
	}
}

// TestNewerSchemaIsAWarning: the collector works with a database that a newer one has changed.
func TestNewerSchemaIsAWarning(t *testing.T) {
	db := clickhousetest.Start(t)
	cfg := config(t, db)
	ready := make(chan func(context.Context) []health.Check, 1)
	cfg.OnReady = func(checks func(context.Context) []health.Check) { ready <- checks }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	checks := <-ready
	clickhousetest.Exec(t, db.Writer, "INSERT INTO schema_versions (version, applied_at, applied_by) VALUES (99999, now64(3), 'a newer one')")
	got := checks(t.Context())
	if got[2].Name != "schema" || got[2].State != health.Warning || !strings.Contains(got[2].Reason, "version 99999") || health.AnyFailing(got) {
		t.Errorf("checks %+v", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGaugesShowWhatIsThere(t *testing.T) {
	reader := metric.NewManualReader()
	p := parts(t, 1<<30)
	p.cfg.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")
	unregister, err := p.register()
	if err != nil {
		t.Fatal(err)
	}
	var read metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &read); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range read.ScopeMetrics[0].Metrics {
		found[m.Name] = true
		if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == "gpufleet.collector.log.size" {
			var sum int64
			for _, point := range gauge.DataPoints {
				sum += point.Value
			}
			if sum != p.log.Bytes() || sum == 0 {
				t.Errorf("log of %d bytes, want %d", sum, p.log.Bytes())
			}
		}
	}
	for _, want := range []string{"log.size", "log.limit", "nodes", "oldest.age", "quarantine.size", "quarantine.limit"} {
		if !found["gpufleet.collector."+want] {
			t.Errorf("no gauge %s in %v", want, found)
		}
	}
	if err := unregister(); err != nil {
		t.Error(err)
	}
}
