// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric"
)

// newTelemetry returns telemetry that is closed when the test ends.
func newTelemetry(t *testing.T, service string) *Telemetry {
	t.Helper()
	tel, err := NewTelemetry(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

// count adds n to a counter of that name.
func count(t *testing.T, tel *Telemetry, name string, n int64) {
	t.Helper()
	counter, err := tel.MeterProvider().Meter("test").Int64Counter(name, metric.WithDescription("Test."))
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), n)
}

// scrape returns what Prometheus would read.
func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("scrape: status %d, body %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func TestScrapeNamesInstrumentsAsPrometheusDoes(t *testing.T) {
	tel := newTelemetry(t, "gpufleet-agent")
	count(t, tel, "gpufleet.agent.batches.sent", 3)
	tick, err := tel.MeterProvider().Meter("test").Float64Histogram("gpufleet.agent.tick.duration",
		metric.WithUnit("s"), metric.WithDescription("Time one tick took."))
	if err != nil {
		t.Fatal(err)
	}
	tick.Record(t.Context(), 0.25)

	body := scrape(t, tel.Handler())
	for _, want := range []string{
		"\ngpufleet_agent_batches_sent_total 3\n",
		"\ngpufleet_agent_tick_duration_seconds_sum 0.25\n",
		"# HELP gpufleet_agent_tick_duration_seconds Time one tick took.\n",
		`target_info{service_name="gpufleet-agent",service_version="` + Version() + `"} 1`,
		"\ngo_goroutines ",
		"\nprocess_cpu_seconds_total ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("scrape lacks %q in\n%s", want, body)
		}
	}
}

// TestForeignNamesStay: Prometheus prefers OpenMetrics, for which this is no counter.
func TestForeignNamesStay(t *testing.T) {
	tel := newTelemetry(t, "gpufleet-agent")
	foreign := prometheus.NewCounter(prometheus.CounterOpts{Name: "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Help: "Energy."}) //nolint:promlinter // the name is another's
	foreign.Add(5)
	if err := tel.Register(foreign); err != nil {
		t.Fatal(err)
	}
	if err := tel.Register(foreign); err == nil {
		t.Error("the same metrics were registered twice")
	}
	for name, tt := range map[string]struct {
		handler http.Handler
		want    string
	}{
		"text":        {tel.TextHandler(), " counter\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION 5\n"},
		"OpenMetrics": {tel.Handler(), " unknown\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION 5.0\n"},
	} {
		request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
		answer := httptest.NewRecorder()
		tt.handler.ServeHTTP(answer, request)
		if !strings.Contains(answer.Body.String(), tt.want) {
			t.Errorf("%s lacks %q:\n%s", name, tt.want, answer.Body)
		}
	}
}

func TestTwoProgramsInOneProcessDoNotMix(t *testing.T) {
	agent, collector := newTelemetry(t, "gpufleet-agent"), newTelemetry(t, "gpufleet-collector")
	count(t, agent, "gpufleet.agent.ticks", 1)
	count(t, collector, "gpufleet.collector.batches", 1)
	if body := scrape(t, collector.Handler()); strings.Contains(body, "gpufleet_agent_ticks") {
		t.Errorf("the collector's scrape shows the agent's metrics:\n%s", body)
	}
}

func TestCloseTwice(t *testing.T) {
	tel, err := NewTelemetry("gpufleet-agent")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := tel.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v, want nil", err)
		}
	}
}
