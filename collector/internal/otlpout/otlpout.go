// SPDX-License-Identifier: Apache-2.0

// Package otlpout tells any backend that speaks OTLP how the fleet is: use, power, temperature margin, faults, what GPUs
// do and cost, by node, region, cloud and GPU model, and on demand by GPU. It asks the views of ClickHouse, and so tells
// of the whole fleet, whichever collector stored it: one collector does it, and needs nothing of the way that batches
// take. What cannot be exported is dropped, counted, and told anew at the next turn. Run has one goroutine, its caller's.
package otlpout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/grpc/credentials"

	"github.com/gpufleet/gpufleet/internal/loopback"
)

// Database answers questions about the fleet.
type Database interface {
	// Select scans the rows of a query into a slice of structs.
	Select(ctx context.Context, into any, query string) error
}

// Config is where to, and what.
type Config struct {
	URL string // grpc://, grpcs://, http:// or https:// with host and port
	TLS *tls.Config
	// Plaintext allows grpc:// and http:// to another machine: who listens learns what is in the headers.
	Plaintext bool
	Interval  time.Duration
	PerGPU    bool // also each GPU
	Name      string
	Version   string
	Database  Database
	Logger    *slog.Logger
	Meter     metric.Meter
}

// Intervals. Readings reach a backend within 120 s: one interval, the age of what is stored, and one export.
const (
	MinInterval     = 5 * time.Second
	MaxInterval     = 90 * time.Second
	DefaultInterval = 30 * time.Second
)

// CheckURL tells what cannot be honoured.
func (c Config) CheckURL() error {
	_, err := c.endpoint()
	return err
}

// endpoint is the URL, taken apart.
func (c Config) endpoint() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("--otlp-out: %w", err)
	}
	if u.User != nil {
		return nil, errors.New("--otlp-out: no password in the URL: OTEL_EXPORTER_OTLP_HEADERS takes headers, such as authorization=Bearer%20TOKEN")
	}
	host, _, err := net.SplitHostPort(u.Host)
	if err != nil {
		return nil, fmt.Errorf("--otlp-out %s: give host and port: %w", u.Redacted(), err)
	}
	switch u.Scheme {
	case "grpcs", "https":
		return u, nil
	case "grpc", "http":
		if !loopback.Is(host) && !c.Plaintext {
			return nil, fmt.Errorf("--otlp-out %s is on another machine, and would be told all in plain text: grpcs or https, or --otlp-out-plaintext if the network may know it", u.Redacted())
		}
		return u, nil
	default:
		return nil, fmt.Errorf("--otlp-out %s: the schemes are grpc, grpcs, http and https", u.Redacted())
	}
}

// Bounds of one turn.
const (
	exportTimeout = 10 * time.Second // of one try
	retryFor      = 15 * time.Second // then it is dropped
	maxPoints     = 4000             // of one export: a backend takes 4 MiB
)

// exporter is one of OpenTelemetry's own.
type exporter interface {
	Export(ctx context.Context, m *metricdata.ResourceMetrics) error
	Shutdown(ctx context.Context) error
}

func (c Config) exporter(ctx context.Context) (exporter, error) {
	u, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	if u.Scheme == "grpc" || u.Scheme == "grpcs" {
		options := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithEndpoint(u.Host), otlpmetricgrpc.WithTimeout(exportTimeout), otlpmetricgrpc.WithCompressor("gzip"),
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: retryFor}),
		}
		if u.Scheme == "grpc" {
			return otlpmetricgrpc.New(ctx, append(options, otlpmetricgrpc.WithInsecure())...)
		}
		return otlpmetricgrpc.New(ctx, append(options, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))...)
	}
	options := []otlpmetrichttp.Option{
		otlpmetrichttp.WithEndpoint(u.Host), otlpmetrichttp.WithTimeout(exportTimeout), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: retryFor}),
	}
	if u.Path != "" && u.Path != "/" {
		options = append(options, otlpmetrichttp.WithURLPath(u.Path))
	}
	if u.Scheme == "http" {
		return otlpmetrichttp.New(ctx, append(options, otlpmetrichttp.WithInsecure())...)
	}
	return otlpmetrichttp.New(ctx, append(options, otlpmetrichttp.WithTLSClientConfig(c.TLS))...)
}

// Run exports until the context ends.
func Run(ctx context.Context, cfg Config) error {
	out, err := cfg.exporter(ctx)
	if err != nil {
		return err
	}
	defer out.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // what is not sent by now is told by the next life
	exports, err := cfg.Meter.Int64Counter("gpufleet.collector.otlp.exports", metric.WithDescription("Exports of fleet metrics, by outcome: exported, failed (the backend did not take them, or not all), unasked (ClickHouse did not answer)."))
	if err != nil {
		return err
	}
	count := func(outcome string) {
		exports.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	}
	ticker := time.NewTicker(cfg.Interval)
	defer ticker.Stop()
	for {
		switch err := cfg.turn(ctx, out); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errUnasked):
			count("unasked")
			cfg.Logger.Warn("no fleet metrics to export", "error", err)
		case err != nil:
			count("failed")
			cfg.Logger.Warn("fleet metrics were not exported, or not all of them", "error", err)
		default:
			count("exported")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

var errUnasked = errors.New("ask ClickHouse for fleet metrics")

// turn asks, and exports what comes. That a backend does not take a part, or some points of it, is no reason to keep the
// rest from it.
func (c Config) turn(ctx context.Context, out exporter) error {
	at := time.Now()
	points, err := c.ask(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnasked, err)
	}
	of := resource.NewSchemaless(attribute.String("service.name", "gpufleet"), attribute.String("service.instance.id", c.Name), attribute.String("service.version", c.Version))
	var problems []error
	for len(points) > 0 && ctx.Err() == nil {
		n := min(len(points), maxPoints)
		scope := metricdata.ScopeMetrics{Metrics: metricsOf(points[:n], at)}
		scope.Scope.Name, scope.Scope.Version = "gpufleet", c.Version
		if err := out.Export(ctx, &metricdata.ResourceMetrics{Resource: of, ScopeMetrics: []metricdata.ScopeMetrics{scope}}); err != nil {
			problems = append(problems, err)
		}
		points = points[n:]
	}
	return errors.Join(problems...)
}
