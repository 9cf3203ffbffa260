// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// fixedIDs are ids that a test knows.
type fixedIDs struct{}

func (fixedIDs) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	return trace.TraceID{1}, trace.SpanID{2}
}

func (fixedIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return trace.SpanID{2} }

var _ sdktrace.IDGenerator = fixedIDs{}

// otlp receives spans over HTTP and gRPC, and keeps their names with that of their service.
type otlp struct {
	collectortrace.UnimplementedTraceServiceServer
	mu    sync.Mutex // guards names
	names []string
}

func (o *otlp) Export(_ context.Context, r *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, of := range r.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				o.names = append(o.names, service+"/"+s.GetName())
			}
		}
	}
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

func (o *otlp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collectortrace.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		http.Error(w, "not a request of OTLP", http.StatusBadRequest)
		return
	}
	_, _ = o.Export(r.Context(), &request)
}

// serveGRPC returns the address.
func (o *otlp) serveGRPC(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectortrace.RegisterTraceServiceServer(server, o)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // that it never began is none either
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// environment is the real one: the exporters read it, too.
func environment(name string) string {
	return os.Getenv(name) //nolint:forbidigo // the same
}

func TestTracesReachTheirReceiver(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoint func(http, grpc string) string
		env      func(http, grpc string) map[string]string
		want     bool
	}{
		"over HTTP": {endpoint: func(http, _ string) string { return "http://" + http }, want: true},
		"over gRPC": {endpoint: func(_, grpc string) string { return "grpc://" + grpc }, want: true},
		"the environment's": {env: func(http, _ string) map[string]string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + http}
		}, want: true},
		"the environment's over gRPC": {env: func(_, grpc string) map[string]string {
			return map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://" + grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
		}, want: true},
		"switched off": {env: func(http, _ string) map[string]string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + http, "OTEL_SDK_DISABLED": "true"}
		}},
		"not said": {},
	} {
		t.Run(name, func(t *testing.T) {
			o := &otlp{}
			web := httptest.NewServer(o)
			defer web.Close()
			address, remote := strings.TrimPrefix(web.URL, "http://"), o.serveGRPC(t)
			cfg := TraceConfig{Service: "gpufleet-test", Getenv: environment, IDs: fixedIDs{}, Log: slog.New(slog.DiscardHandler)}
			if tt.endpoint != nil {
				cfg.Endpoint = tt.endpoint(address, remote)
			}
			if tt.env != nil {
				for key, value := range tt.env(address, remote) {
					t.Setenv(key, value)
				}
			}
			traces, err := NewTraces(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if (traces.Provider() != nil) != tt.want {
				t.Fatalf("provider %v", traces.Provider())
			}
			if tt.want {
				_, span := traces.Provider().Tracer("test").Start(t.Context(), "tick")
				span.End()
			}
			if err := traces.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got := strings.Join(o.names, " "); (got == "gpufleet-test/tick") != tt.want {
				t.Errorf("received %q", got)
			}
		})
	}
}

func TestReceiversThatCannotBe(t *testing.T) {
	for _, endpoint := range []string{"collector:4318", "ftp://collector:21", "http://", "://"} {
		if traces, err := NewTraces(t.Context(), TraceConfig{Endpoint: endpoint}); err == nil || traces != nil {
			t.Errorf("%s: %v, %v", endpoint, traces, err)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	if _, err := NewTraces(t.Context(), TraceConfig{Getenv: environment}); err == nil || !strings.Contains(err.Error(), "http/protobuf or grpc") {
		t.Errorf("an unknown protocol: %v", err)
	}
}

// TestNobodyTakesTraces: the log says so once, and the program goes on and ends.
func TestNobodyTakesTraces(t *testing.T) {
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	var text strings.Builder
	traces, err := NewTraces(t.Context(), TraceConfig{Endpoint: refusing.URL, IDs: fixedIDs{}, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, span := traces.Provider().Tracer("test").Start(t.Context(), "tick")
		span.End()
		if err := traces.provider.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := traces.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(text.String(), "traces are not taken"); n != 1 {
		t.Errorf("said %d times: %s", n, text.String())
	}
}
