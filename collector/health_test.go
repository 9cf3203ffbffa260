// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/gpufleet/gpufleet/collector/internal/batchlog"
	"github.com/gpufleet/gpufleet/collector/internal/batchtest"
	"github.com/gpufleet/gpufleet/collector/internal/receiver"
	"github.com/gpufleet/gpufleet/collector/internal/store"
	"github.com/gpufleet/gpufleet/collector/quarantine"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/internal/health"
	"github.com/gpufleet/gpufleet/schema"
	"github.com/gpufleet/gpufleet/schema/wire"
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
	return &pipeline{
		cfg: DefaultConfig(), store: &router{parts: []*shard{{log: log}}}, logs: []*batchlog.Log{log}, quarantine: kept, load: receiver.NewLoad(),
	}
}

func TestChecksOfWhatFills(t *testing.T) {
	p := parts(t, 1<<30)
	if got := p.logCheck(); got.State != health.OK {
		t.Errorf("a log with room: %+v", got)
	}
	if got := parts(t, 1<<10).logCheck(); got.State != health.Failing || !strings.Contains(got.Reason, "accepted batches of gpu_events") {
		t.Errorf("a log that is full: %+v", got)
	}
	if got := (&pipeline{store: &router{}}).logCheck(); got.State != health.OK {
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

// openStore opens a store that never runs.
func openStore(t *testing.T, cfg Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg.store(cfg.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestReadyWhileClickHouseIsAway: a collector whose ClickHouse is frozen accepts batches, and so it is ready; one without a
// log is not.
func TestReadyWhileClickHouseIsAway(t *testing.T) {
	server := clickhousetest.Dedicated(t)
	cfg := config(t, clickhousetest.Database{Name: server.Writer().Database, Writer: server.Writer()})
	address := make(chan net.Addr, 1)
	cfg.OnListen = func(a net.Addr) { address <- a }
	ready := make(chan func(context.Context) []health.Check, 1)
	cfg.OnReady = func(checks func(context.Context) []health.Check) { ready <- checks }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	a := openAgent(t, (<-address).String())
	a.send(1)
	a.await(wire.Stored, 1)
	checks, other := <-ready, cfg
	other.Name = "c2"
	without := &shard{store: openStore(t, other)}
	want := func(when string, state, bare health.State) {
		t.Helper()
		asking, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		got := checks(asking)
		if got[1].Name != "clickhouse" || got[1].State != state || health.AnyFailing(got) {
			t.Errorf("%s: %+v", when, got)
		}
		if got := without.clickhouseCheck(asking, "clickhouse"); got.State != bare {
			t.Errorf("%s, without a log: %+v", when, got)
		}
	}
	want("ClickHouse answers", health.OK, health.OK)
	if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// A signal takes a moment: what runs on another processor may still answer.
	awaitFrozen(t, without)
	a.send(2)
	a.await(wire.Accepted, 2)
	want("ClickHouse is frozen", health.Warning, health.Failing)
	if err := syscall.Kill(server.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.await(wire.Stored, 2)
	want("ClickHouse is back", health.OK, health.OK)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func awaitFrozen(t *testing.T, s *shard) {
	t.Helper()
	answers := func() bool {
		asking, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		return s.clickhouseCheck(asking, "clickhouse").State == health.OK
	}
	for deadline := time.Now().Add(limitless); answers(); {
		if time.Now().After(deadline) {
			t.Fatal("ClickHouse answers though it is stopped")
		}
	}
}

// agent is a stream of one, in gpu_events.
type agent struct {
	t     *testing.T
	table schema.Table
	put   flight.FlightService_DoPutClient
}

func openAgent(t *testing.T, address string) agent {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	streaming, leave := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), wire.NodeHeader, batchtest.Node), limitless)
	t.Cleanup(leave)
	put, err := flight.NewFlightServiceClient(conn).DoPut(streaming)
	if err != nil {
		t.Fatal(err)
	}
	a := agent{t: t, table: batchtest.Table(t, schema.EventsID), put: put}
	send(t, put, &flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{a.table.Name}},
		DataHeader:       a.table.SchemaMessage(), AppMetadata: wire.Hello{Table: a.table.ID, Epoch: 1, Oldest: 1, Name: batchtest.Node}.Append(nil),
	})
	return a
}

func (a agent) send(sequence uint64) {
	a.t.Helper()
	k := wire.Key{Table: a.table.ID, Node: wire.NodeID(batchtest.Node), Epoch: 1, Sequence: sequence}
	b := batchtest.Encode(a.t, batchtest.Record(a.table, sequence, 3, time.Now()), k)
	send(a.t, a.put, &flight.FlightData{AppMetadata: b.Metadata, DataBody: b.Body})
}

// await reads answers until this one comes.
func (a agent) await(kind wire.AnswerKind, sequence uint64) {
	a.t.Helper()
	for {
		result, err := a.put.Recv()
		if err != nil {
			a.t.Fatal(err)
		}
		answer, err := wire.ParseAnswer(result.GetAppMetadata())
		if err != nil {
			a.t.Fatal(err)
		}
		if answer.Kind == kind && answer.Sequence == sequence {
			return
		}
	}
}

func TestGaugesShowWhatIsThere(t *testing.T) {
	reader := metric.NewManualReader()
	p := parts(t, 1<<30)
	p.store.parts[0].store = openStore(t, config(t, clickhousetest.Start(t)))
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
			if sum != p.logs[0].Bytes() || sum == 0 {
				t.Errorf("log of %d bytes, want %d", sum, p.logs[0].Bytes())
			}
		}
		if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == "gpufleet.collector.clickhouse.answers" && gauge.DataPoints[0].Value != 1 {
			t.Error("ClickHouse answers, and the gauge says that it does not")
		}
	}
	for _, want := range []string{"log.size", "log.limit", "nodes", "oldest.age", "quarantine.size", "quarantine.limit", "clickhouse.answers"} {
		if !found["gpufleet.collector."+want] {
			t.Errorf("no gauge %s in %v", want, found)
		}
	}
	if err := unregister(); err != nil {
		t.Error(err)
	}
}
