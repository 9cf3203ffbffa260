// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // the exporter compresses with it

	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

// backend is an OTLP receiver that keeps the last value of each point, as text.
type backend struct {
	collectormetrics.UnimplementedMetricsServiceServer
	mu     sync.Mutex // guards points
	points map[string]float64
}

// Export implements MetricsServiceServer.
func (b *backend) Export(_ context.Context, r *collectormetrics.ExportMetricsServiceRequest) (*collectormetrics.ExportMetricsServiceResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rm := range r.GetResourceMetrics() {
		for _, scope := range rm.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				for _, p := range m.GetGauge().GetDataPoints() {
					var labels []string
					for _, a := range p.GetAttributes() {
						labels = append(labels, a.GetKey()+"="+a.GetValue().GetStringValue())
					}
					slices.Sort(labels)
					b.points[m.GetName()+" "+m.GetUnit()+" "+strings.Join(labels, " ")] = p.GetAsDouble()
				}
			}
		}
	}
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

// startBackend listens until the end of the test.
func startBackend(t *testing.T) (*backend, string) {
	t.Helper()
	b := &backend{points: make(map[string]float64)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectormetrics.RegisterMetricsServiceServer(server, b)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b, listener.Addr().String()
}

// want polls until a point has come with the value that SQL has.
func (b *backend) want(t *testing.T, key string, want float64) {
	t.Helper()
	for deadline := time.Now().Add(limitless); time.Now().Before(deadline); {
		b.mu.Lock()
		got, ok := b.points[key]
		b.mu.Unlock()
		if ok && got == want {
			return
		}
		wait := time.NewTimer(20 * time.Millisecond)
		<-wait.C
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Errorf("%s: want %v among\n%s", key, want, strings.Join(slices.Sorted(maps.Keys(b.points)), "\n"))
}

// TestExport pushes readings in by remote write, and compares what comes out by OTLP with what SQL says.
func TestExport(t *testing.T) {
	b, address := startBackend(t)
	d := openDoors(t, func(c *Config) {
		c.Export.URL, c.Export.PerGPU, c.Export.Interval = "grpc://"+address, true, 5*time.Second
	})
	at := time.Now()
	code, written := d.remoteWrite(t, remoteWriteBody(at, map[string]map[string]float64{
		"DCGM_FI_DEV_GPU_UTIL":       {"GPU-a": 97, "GPU-b": 3},
		"DCGM_FI_DEV_POWER_USAGE":    {"GPU-a": 412, "GPU-b": 71},
		"DCGM_FI_DEV_GPU_TEMP_LIMIT": {"GPU-a": 11, "GPU-b": 40},
		"DCGM_FI_DEV_FB_USED":        {"GPU-a": 70_000},
	}, map[string]string{"Hostname": "node-3", "modelName": "NVIDIA H100 80GB HBM3"}))
	if code != http.StatusNoContent || written != "7" {
		t.Fatalf("remote write: %d, %q samples", code, written)
	}
	d.want(t, "SELECT count() FROM fleet_now", "2")
	clickhousetest.Exec(t, d.Writer, `INSERT INTO node_inventory (ts, node_id, epoch, seq, content_hash, node_name, reading_source, provider, region, instance_type)
		SELECT ts + 1, node_id, epoch, 2, 7, node_name, reading_source, 'aws', 'us-east-1', 'p5.48xlarge' FROM node_inventory`)
	clickhousetest.Exec(t, d.Writer, priceRow)
	node := "cloud.provider=aws cloud.region=us-east-1 host.name=node-3@prometheus hw.model=NVIDIA H100 80GB HBM3"
	b.want(t, "gpufleet.node.gpus {gpu} "+node, 2)
	b.want(t, "gpufleet.node.gpu.utilization 1 "+node, 0.5)
	b.want(t, "gpufleet.node.gpu.power W "+node, 483)
	b.want(t, "gpufleet.node.gpu.temperature_margin Cel "+node, 11)
	b.want(t, "gpufleet.node.gpu.memory.usage By "+node, 70_000<<20)
	b.want(t, "gpufleet.gpus {gpu} cloud.provider=aws cloud.region=us-east-1 gpufleet.state=unknown hw.model=NVIDIA H100 80GB HBM3", 2)
	gpu := func(metric, uuid string) string {
		return fmt.Sprintf("%s cloud.provider=aws cloud.region=us-east-1 host.name=node-3@prometheus hw.id=%s hw.model=NVIDIA H100 80GB HBM3 hw.type=gpu", metric, uuid)
	}
	b.want(t, gpu("hw.power W", "GPU-a"), 412)
	b.want(t, gpu("hw.gpu.utilization 1", "GPU-b"), 0.03)
	b.want(t, gpu("hw.gpu.memory.usage By", "GPU-a"), 70_000<<20)
	b.want(t, "gpufleet.cost {currency}/h cloud.provider=aws cloud.region=us-east-1 gpufleet.basis=list gpufleet.currency=USD gpufleet.state=unknown hw.model=NVIDIA H100 80GB HBM3", 12.25)
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.points[gpu("hw.gpu.memory.usage By", "GPU-b")]; ok {
		t.Error("a reading that is NULL was exported")
	}
}

const priceRow = `INSERT INTO prices (provider, instance_type, life_cycle, basis, currency, valid_from, price_per_hour, price_per_gpu_hour, gpus)
	VALUES ('aws', 'p5.48xlarge', 'on_demand', 'list', 'USD', '2026-01-01 00:00:00', 49, 6.125, 8)`

func TestForeignConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"outside in plain text":    {func(c *Config) { c.Foreign.GRPC = "0.0.0.0:4317" }, "--otlp-listen 0.0.0.0:4317 is reachable from outside: give a TLS certificate"},
		"outside without proof":    {func(c *Config) { c.Foreign.HTTP, c.TLS = ":4318", &tls.Config{MinVersion: tls.VersionTLS13} }, "--otlp-http-listen :4318 is reachable from outside: give fleet keys"},
		"without a log":            {func(c *Config) { c.Foreign.HTTP, c.MaxLogBytes = "localhost:0", 0 }, "--log-bytes"},
		"no port":                  {func(c *Config) { c.Foreign.HTTP = "localhost" }, "--otlp-http-listen"},
		"no GPUs":                  {func(c *Config) { c.Foreign.HTTP, c.Foreign.GPUs = "localhost:0", 0 }, "--foreign-gpus"},
		"gathered for long":        {func(c *Config) { c.Foreign.HTTP, c.Foreign.Gather = "localhost:0", time.Minute }, "0 to 5s"},
		"exported in plain text":   {func(c *Config) { c.Export.URL = "grpc://otel.example:4317" }, "--otlp-out-plaintext"},
		"exported with a password": {func(c *Config) { c.Export.URL = "https://me:secret@otel.example:4318" }, "OTEL_EXPORTER_OTLP_HEADERS"},
		"exported without a port":  {func(c *Config) { c.Export.URL = "https://otel.example" }, "host and port"},
		"exported otherwise":       {func(c *Config) { c.Export.URL = "ftp://otel.example:21" }, "the schemes are"},
		"exported too seldom":      {func(c *Config) { c.Export.URL, c.Export.Interval = "https://otel.example:4318", time.Hour }, "--otlp-out-interval"},
		"all well": {func(c *Config) {
			c.Foreign.GRPC, c.Foreign.HTTP, c.Export.URL = "127.0.0.1:4317", "[::1]:4318", "grpcs://otel.example:4317"
		}, ""},
	} {
		cfg := DefaultConfig()
		cfg.Name = "c1"
		c.change(&cfg)
		err := cfg.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the message tells the password: %v", name, err)
		}
	}
}
