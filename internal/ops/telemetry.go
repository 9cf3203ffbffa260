// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Telemetry holds the metrics of one program: instruments of the OpenTelemetry API, read by Prometheus.
// Its registry is private, so two programs in one process (`gpufleet up` runs many) do not mix.
// All methods are safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
}

// NewTelemetry returns the metrics of the program called service, for example "gpufleet-agent".
// They carry target_info with the service's name and version, and the cost of the process itself:
// process_cpu_seconds_total, process_resident_memory_bytes, go_*.
// Close it when the program ends.
func NewTelemetry(service string) (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register process metrics: %w", err)
		}
	}
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		// Named, because the SDK is about to change its default: gpufleet.agent.batches becomes
		// gpufleet_agent_batches_total, whatever the version.
		otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		// The scope repeats what the gpufleet_<component>_ prefix says, as three more labels per series.
		otelprometheus.WithoutScopeInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("create the Prometheus exporter: %w", err)
	}
	res := resource.NewSchemaless(
		attribute.String("service.name", service),
		attribute.String("service.version", Version()),
	)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res))
	return &Telemetry{registry: registry, provider: provider}, nil
}

// MeterProvider returns where components get their instruments. An instrument is named in OpenTelemetry's
// way, "gpufleet.agent.batches.sent", and has a unit ("s", "By", "{batch}") and a description.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.provider }

// Register adds metrics that are made when they are asked for.
func (t *Telemetry) Register(c prometheus.Collector) error {
	if err := t.registry.Register(c); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Handler answers a Prometheus scrape with all metrics.
func (t *Telemetry) Handler() http.Handler { return t.handler(true) }

// TextHandler is Handler in the classical text format alone. OpenMetrics has no counters whose names do not
// end in _total, so those that others have named would be of an unknown type.
func (t *Telemetry) TextHandler() http.Handler { return t.handler(false) }

func (t *Telemetry) handler(openMetrics bool) http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: openMetrics,
		// One broken metric must not blind the operator to all others.
		ErrorHandling: promhttp.ContinueOnError,
		Registry:      t.registry,
	})
}

// Close stops the metrics. Instruments stay callable and count nothing from then on.
// Closing twice is harmless.
func (t *Telemetry) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, sdkmetric.ErrReaderShutdown) {
		return fmt.Errorf("stop the meter provider: %w", err)
	}
	return nil
}
