// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/encoding/protowire"

	client "github.com/prometheus/client_model/go"

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
	"github.com/gpufleet/gpufleet/schema/wire"
)

// doors is a collector that takes what other programs push.
type doors struct {
	clickhousetest.Database
	grpc, http string
}

// openDoors runs a collector until the end of the test.
func openDoors(t *testing.T, change func(*Config)) doors {
	t.Helper()
	db := clickhousetest.Start(t)
	return openDoorsOn(t, db, change)
}

func openDoorsOn(t *testing.T, db clickhousetest.Database, change func(*Config)) doors {
	t.Helper()
	d, stop := runDoors(t, db, change)
	t.Cleanup(stop)
	return d
}

// runDoors runs a collector until stop is called.
func runDoors(t *testing.T, db clickhousetest.Database, change func(*Config)) (doors, func()) {
	t.Helper()
	cfg := config(t, db)
	cfg.UnitWait = 20 * time.Millisecond
	cfg.Foreign.GRPC, cfg.Foreign.HTTP, cfg.Foreign.Gather = "127.0.0.1:0", "127.0.0.1:0", 20*time.Millisecond
	addresses := make(chan [2]string, 1)
	cfg.Foreign.OnListen = func(grpc, http net.Addr) { addresses <- [2]string{grpc.String(), http.String()} }
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	select {
	case at := <-addresses:
		return doors{db, at[0], at[1]}, stop
	case err := <-done:
		cancel()
		t.Fatalf("run: %v", err)
	}
	return doors{}, stop
}

// want polls until a question has its answer: what is durable is stored a moment later.
func (d doors) want(t *testing.T, sql, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(limitless); time.Now().Before(deadline); {
		if got = clickhousetest.Query(t, d.Reader, sql); got == want {
			return
		}
		wait := time.NewTimer(20 * time.Millisecond)
		<-wait.C
	}
	t.Errorf("%s\ngot  %q\nwant %q", sql, got, want)
}

// scrape is what an exporter showed, as the receiver of an OpenTelemetry Collector for Prometheus makes metrics of it:
// labels become attributes, a counter a cumulative sum, and what else the resource knows is the target.
func scrape(t *testing.T, path string, at time.Time, attributes ...attribute.KeyValue) *metricdata.ResourceMetrics {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var metrics []metricdata.Metrics
	for name, f := range families {
		var points []metricdata.DataPoint[float64]
		for _, m := range f.GetMetric() {
			var labels []attribute.KeyValue
			for _, l := range m.GetLabel() {
				labels = append(labels, attribute.String(l.GetName(), l.GetValue()))
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			points = append(points, metricdata.DataPoint[float64]{Attributes: attribute.NewSet(labels...), Time: at, Value: value})
		}
		var data metricdata.Aggregation = metricdata.Gauge[float64]{DataPoints: points}
		if f.GetType() == client.MetricType_COUNTER {
			data = metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		}
		metrics = append(metrics, metricdata.Metrics{Name: name, Data: data})
	}
	attributes = append(attributes, attribute.String("service.name", "dcgm-exporter"), attribute.String("service.instance.id", "10.0.0.9:9400"), attribute.String("server.address", "10.0.0.9"))
	return &metricdata.ResourceMetrics{
		Resource:     resource.NewSchemaless(attributes...),
		ScopeMetrics: []metricdata.ScopeMetrics{{Metrics: metrics}},
	}
}

// exporters are OpenTelemetry's own clients.
func (d doors) exporters(t *testing.T) map[string]sdkmetric.Exporter {
	t.Helper()
	overGRPC, err := otlpmetricgrpc.New(t.Context(), otlpmetricgrpc.WithEndpoint(d.grpc), otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithCompressor("gzip"))
	if err != nil {
		t.Fatal(err)
	}
	overHTTP, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpoint(d.http), otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, e := range []sdkmetric.Exporter{overGRPC, overHTTP} {
			if err := e.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return map[string]sdkmetric.Exporter{"gRPC": overGRPC, "HTTP": overHTTP}
}

func export(t *testing.T, e sdkmetric.Exporter, m *metricdata.ResourceMetrics) {
	t.Helper()
	if err := e.Export(t.Context(), m); err != nil && !strings.Contains(err.Error(), "partial success") {
		t.Fatal(err)
	}
}

// recorded is what gpufleet's agent shows of a recorded H100 under dcgm-exporter's names.
const recorded = "../agent/internal/exposition/testdata/dcgm.prom"

// TestDCGMByOTLP pushes what dcgm-exporter shows through OpenTelemetry's own clients, twice each, and looks at every
// table that it feeds.
func TestDCGMByOTLP(t *testing.T) {
	d := openDoors(t, nil)
	place := []attribute.KeyValue{attribute.String("cloud.provider", "oracle_cloud"), attribute.String("cloud.region", "eu-frankfurt-1")}
	at := time.Now().Truncate(time.Second).Add(-time.Minute)
	for _, e := range d.exporters(t) { // the same again is nothing new, whichever way it comes
		for range 2 {
			export(t, e, scrape(t, recorded, at, place...))
		}
	}
	for _, e := range d.exporters(t) {
		export(t, e, scrape(t, recorded, at.Add(30*time.Second), place...))
	}
	d.want(t, "SELECT count(), uniqExact(gpu_id, ts), min(quality), max(quality) FROM gpu_samples", "2\t2\t128\t128")
	d.want(t, "SELECT node_name, reading_source, provider, region, driver_version, kubernetes_node FROM node_inventory",
		"node-1@otlp\totlp\toci\teu-frankfurt-1\t590.48.01\t\\N")
	d.want(t, "SELECT gpu_uuid, gpu_index, model, pci_bus_id FROM gpu_inventory",
		"GPU-ac075b8f-90c8-31b3-d57b-50d584f19693\t0\tNVIDIA H100 80GB HBM3\t0000:53:00.0")
	// values of the page, in our units
	d.want(t, "SELECT interval_milliseconds, energy_millijoules_delta FROM gpu_samples ORDER BY ts", "\\N\t\\N\n30000\t0")
	d.want(t, "SELECT node_name, count() FROM fleet_now GROUP BY ALL", "node-1@otlp\t1")
	d.want(t, "SELECT count() FROM fleet_silent", "0")
}

// TestAgentsComeFirst: a GPU that an agent reads is left to it.
func TestAgentsComeFirst(t *testing.T) {
	d := openDoors(t, nil)
	at := time.Now().Add(-time.Minute)
	push := func() string {
		t.Helper()
		code, written := d.remoteWrite(t, remoteWriteBody(at, map[string]map[string]float64{"DCGM_FI_DEV_GPU_UTIL": {"GPU-a": 50, "GPU-b": 60}}, map[string]string{"Hostname": "node-1"}))
		if code != http.StatusNoContent {
			t.Fatalf("status %d", code)
		}
		return written
	}
	clickhousetest.Exec(t, d.Writer, fmt.Sprintf("INSERT INTO gpu_samples (ts, gpu_id, node_id, quality) VALUES (now64(3), %d, 1, 9)", wire.GPUID("GPU-a")))
	written := ""
	for deadline := time.Now().Add(limitless); written != "1" && time.Now().Before(deadline); {
		written = push()
	}
	if written != "1" {
		t.Errorf("%s readings of two GPUs were written, of which an agent reads one", written)
	}
}

// remoteWriteBody is a request of version 1.
func remoteWriteBody(at time.Time, series map[string]map[string]float64, labels map[string]string) []byte {
	label := func(name, value string) []byte {
		b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		return protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), value)
	}
	var request []byte
	for name, values := range series {
		for uuid, value := range values {
			var s []byte
			for _, l := range [][]byte{label("__name__", name), label("UUID", uuid)} {
				s = protowire.AppendBytes(protowire.AppendTag(s, 1, protowire.BytesType), l)
			}
			for k, v := range labels {
				s = protowire.AppendBytes(protowire.AppendTag(s, 1, protowire.BytesType), label(k, v))
			}
			sample := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), floatBits(value))
			sample = protowire.AppendVarint(protowire.AppendTag(sample, 2, protowire.VarintType), uint64(at.UnixMilli()))
			s = protowire.AppendBytes(protowire.AppendTag(s, 2, protowire.BytesType), sample)
			request = protowire.AppendBytes(protowire.AppendTag(request, 1, protowire.BytesType), s)
		}
	}
	return snappy.Encode(nil, request)
}

// remoteWrite pushes a body, and returns the status and how many samples were written.
func (d doors) remoteWrite(t *testing.T, body []byte) (code int, written string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.http+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("Content-Encoding", "snappy")
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("X-Prometheus-Remote-Write-Samples-Written")
}

func floatBits(f float64) uint64 { return math.Float64bits(f) }

// TestRemoteWrite pushes pieces of one scrape in requests of their own, as Prometheus does, and one of them twice.
func TestRemoteWrite(t *testing.T) {
	d := openDoors(t, func(c *Config) { c.Foreign.Gather = 300 * time.Millisecond })
	labels := map[string]string{"Hostname": "node-2", "gpu": "3", "exported_pod": "trainer-0", "exported_namespace": "ml", "pod": "nvidia-dcgm-exporter-x"}
	at := time.Now().Add(-time.Minute)
	pieces := [][]byte{
		remoteWriteBody(at, map[string]map[string]float64{"DCGM_FI_DEV_GPU_UTIL": {"GPU-a": 97, "GPU-b": 3}}, labels),
		remoteWriteBody(at, map[string]map[string]float64{"DCGM_FI_DEV_POWER_USAGE": {"GPU-a": 412.6, "GPU-b": 9223372036854775794}, "node_load1": {"": 1}}, labels),
		remoteWriteBody(at, map[string]map[string]float64{"DCGM_FI_DEV_GPU_UTIL": {"GPU-a": 97, "GPU-b": 3}}, labels),
	}
	var group sync.WaitGroup
	for i, body := range pieces {
		group.Go(func() {
			if code, written := d.remoteWrite(t, body); code != http.StatusNoContent || written != "2" {
				t.Errorf("piece %d: %d, %q samples written, want 2", i, code, written)
			}
		})
	}
	group.Wait()
	d.want(t, "SELECT gpu_uuid, gpu_utilization_ratio, power_average_watts FROM fleet_samples ORDER BY gpu_uuid", "GPU-a\t0.97\t413\nGPU-b\t0.03\t\\N")
	d.want(t, "SELECT node_name, reading_source FROM node_inventory", "node-2@prometheus\tprometheus")
	d.want(t, "SELECT uniqExact(gpu_id), any(namespace), any(pod), any(owner_kind) FROM fleet_workload", "2\tml\ttrainer-0\tkubernetes")
}
