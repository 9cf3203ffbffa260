// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TraceConfig is where spans go.
type TraceConfig struct {
	Service  string
	Endpoint string              // http:// or https:// for OTLP over HTTP, grpc:// or grpcs:// over gRPC; "": what OTEL_EXPORTER_OTLP_* say
	Getenv   func(string) string // the environment, as os.Getenv
	IDs      sdktrace.IDGenerator
	Log      *slog.Logger
}

// Traces send spans to a receiver of OTLP. A nil one sends none.
type Traces struct{ provider *sdktrace.TracerProvider }

// NewTraces returns what sends spans; nil if neither the configuration nor the environment names a receiver. It does not
// wait for the receiver: spans that it does not take are dropped, after a while, and the log says so.
func NewTraces(ctx context.Context, cfg TraceConfig) (*Traces, error) {
	exporter, err := newExporter(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	if exporter == nil {
		return nil, nil //nolint:nilnil // that there is nowhere to send them is no error
	}
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", cfg.Service), attribute.String("service.version", Version())))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("send traces: %w", err), exporter.Shutdown(ctx))
	}
	return &Traces{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&telling{SpanExporter: exporter, log: cfg.Log}), sdktrace.WithIDGenerator(cfg.IDs),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // which batches are traced is decided before a span is made
		sdktrace.WithResource(res),
	)}, nil
}

// Provider is where spans are made; nil if none are sent.
func (t *Traces) Provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t.provider
}

// closeWait is how long the last spans may take.
const closeWait = 3 * time.Second

// Close sends what is left.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// newExporter is that of an endpoint, or of the environment; nil if nothing is said.
func newExporter(ctx context.Context, cfg TraceConfig) (sdktrace.SpanExporter, error) {
	endpoint := cfg.Endpoint
	if endpoint == "" {
		return exporterOfEnvironment(ctx, cfg.Getenv)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("receiver of OTLP %q: want http://host:4318, or https, grpc or grpcs", endpoint)
	}
	switch u.Scheme {
	case "http", "https":
		u.Path = cmp.Or(u.Path, "/v1/traces")
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	case "grpc":
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithInsecure())
	case "grpcs":
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(u.Host))
	default:
		return nil, fmt.Errorf("receiver of OTLP %q: scheme %q, want http, https, grpc or grpcs", endpoint, u.Scheme)
	}
}

// exporterOfEnvironment follows the variables that OpenTelemetry defines.
func exporterOfEnvironment(ctx context.Context, getenv func(string) string) (sdktrace.SpanExporter, error) {
	named := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if named == "" || getenv("OTEL_SDK_DISABLED") == "true" || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	switch protocol := cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), getenv("OTEL_EXPORTER_OTLP_PROTOCOL")); protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: want http/protobuf or grpc", protocol)
	}
}

// tellEvery is how often it is said that spans are not taken.
const tellEvery = time.Minute

// telling says that spans are not taken, instead of the SDK's own handler, which is one for all of the process.
type telling struct {
	sdktrace.SpanExporter
	log *slog.Logger

	mu   sync.Mutex // guards told
	told time.Time
}

// ExportSpans implements sdktrace.SpanExporter.
func (t *telling) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.told) >= tellEvery {
		t.told = now
		t.log.Warn("traces are not taken, and dropped", "spans", len(spans), "error", err)
	}
	return nil
}
