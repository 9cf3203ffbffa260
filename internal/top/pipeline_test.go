// SPDX-License-Identifier: Apache-2.0

package top

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gpufleet/gpufleet/collector"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/ops"
)

// pipeline is a real collector with a real ClickHouse..
func pipeline(t *testing.T, db clickhousetest.Database) (metrics string) {
	t.Helper()
	telemetry, err := ops.NewTelemetry("gpufleet-collector")
	if err != nil {
		t.Fatal(err)
	}
	cfg := collector.DefaultConfig()
	cfg.Name, cfg.Listen, cfg.DataDir, cfg.UnitWait, cfg.Meter = "top", "127.0.0.1:0", t.TempDir(), 50*time.Millisecond, telemetry.MeterProvider().Meter("collector")
	cfg.Database = collector.Endpoint{Address: db.Writer.HTTPAddress(), User: db.Writer.User, Password: db.Writer.Password, Database: db.Name}
	listening := make(chan net.Addr, 2)
	cfg.OnListen = func(a net.Addr) { listening <- a }
	shown := make(chan net.Addr, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- collector.Run(ctx, cfg) }()
	go func() {
		ended <- ops.Serve(ctx, ops.ServerConfig{
			Addr: "127.0.0.1:0", Metrics: telemetry.Handler(), Service: "gpufleet-collector", Log: cfg.Logger, OnListen: func(a net.Addr) { shown <- a },
		})
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := telemetry.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	<-listening
	return "http://" + (<-shown).String() + "/metrics"
}

func TestOnceOfARealPipeline(t *testing.T) {
	db := clickhousetest.Start(t)
	metrics := pipeline(t, db)
	endpoint := clickhouseclient.Embedded(db.Reader)
	cfg := Config{
		Metrics: []string{metrics, "http://127.0.0.1:1/metrics"}, Interval: time.Second, AnswerWait: 20 * time.Second,
		Connect: func(ctx context.Context) (*clickhouseclient.Connection, error) {
			conn, err := clickhouseclient.Dial(ctx, endpoint)
			return &clickhouseclient.Connection{Conn: conn, Endpoint: endpoint}, err
		},
	}
	for range 2 {
		clickhousetest.Query(t, db.Writer, `INSERT INTO gpu_samples (ts, node_id, epoch, gpu_id, counter_epoch, quality)
SELECT now64(3) - toIntervalMillisecond(number * 1000), 7, 1, 1 + number % 3, 1, 0 FROM numbers(50)`)
	}
	clickhousetest.Query(t, db.Writer, `INSERT INTO gpu_current (ts, gpu_id, node_id, removed) VALUES (now64(3), 1, 7, NULL), (now64(3), 99, 7, NULL), (now64(3), 98, 7, 1)`)
	s, err := Once(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.Store == nil || s.Store.GPUs != 3 || s.Store.Nodes != 1 || s.Store.Silent != 1 || s.Store.RowsPerSecond <= 0 || s.Store.AgeSeconds == nil || *s.Store.AgeSeconds > 30 {
		t.Errorf("store %+v, %s", s.Store, s.StoreError)
	}
	c := s.Collectors[0]
	if c.Error != "" || !c.Answers || c.RowsPerSecond == nil || len(c.Lanes) < 5 || c.Memory.Limit == 0 || c.Quarantine.Limit == 0 || c.Log.Limit == 0 {
		t.Errorf("collector %+v", c)
	}
	if len(s.Wrong) != 2 || !strings.Contains(s.Wrong[0], "127.0.0.1:1 is not reached") || !strings.Contains(s.Wrong[1], "1 of 4 GPUs give no rows") {
		t.Errorf("wrong: %q", s.Wrong)
	}
	var text, line strings.Builder
	if err := s.WriteText(&text); err != nil || !strings.Contains(text.String(), "3 of 4 GPUs of 1 node give") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	var again Snapshot
	if err := s.WriteJSON(&line); err != nil || strings.Count(line.String(), "\n") != 1 || json.Unmarshal([]byte(line.String()), &again) != nil || again.Store.Silent != 1 {
		t.Errorf("%v: %s", err, line.String())
	}
}

// TestMetricsAreThere: names that the collector no longer has would be shown as nothing.
func TestMetricsAreThere(t *testing.T) {
	metrics := pipeline(t, clickhousetest.Start(t))
	w, err := New(Config{Metrics: []string{metrics}, Interval: time.Second, AnswerWait: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	missing := func() (names []string) {
		now, err := read(t.Context(), w.client, metrics)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{metricNodes, metricOldest, metricAnswers, metricLog, metricLogLimit, metricMemory, metricMemLimit, metricQuarantine, metricQuarLimit, metricStreams} {
			if now.families[name] == nil {
				names = append(names, name)
			}
		}
		return names
	}
	for end := time.Now().Add(20 * time.Second); len(missing()) > 0; <-time.After(50 * time.Millisecond) { // some come with the first stream that may
		if time.Now().After(end) {
			t.Fatalf("there is no %v", missing())
		}
	}
}
