// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/trust"
	"github.com/gpufleet/gpufleet/internal/token"
)

// door sorts as the real one does, and answers what it is told to.
type door struct {
	*foreign.Door
	answer atomic.Pointer[func() error] // nil: all is well
	from   atomic.Pointer[foreign.Source]
	hold   atomic.Pointer[chan struct{}] // nothing is sorted before it is closed; nil: nothing is held
}

func (d *door) Sort(ctx context.Context, from foreign.Source, groups []foreign.Group) *foreign.Request {
	d.from.Store(&from)
	if hold := d.hold.Load(); hold != nil {
		<-*hold
	}
	return d.Door.Sort(ctx, from, groups)
}

func (d *door) Take(ctx context.Context, r *foreign.Request) (foreign.Outcome, error) {
	if answer := d.answer.Load(); answer != nil {
		if err := (*answer)(); err != nil {
			return foreign.Outcome{}, err
		}
	}
	return d.Door.Take(ctx, r) // of what is sent here it knows nothing, so that there is nothing to keep
}

func (d *door) answers(f func() error) { d.answer.Store(&f) }

// served is a front door that is open until the end of the test.
type served struct {
	*door
	grpc collectormetrics.MetricsServiceClient
	http string
	tls  *tls.Config // nil: none
	t    *testing.T
}

func serve(t *testing.T, keys ...token.Key) *served {
	t.Helper()
	return serveConfig(t, Config{Trust: trust.Static(keys)}, nil)
}

// serveTLS serves with TLS, if there is one, to a client with another one.
func serveTLS(t *testing.T, server, client *tls.Config, keys ...token.Key) *served {
	t.Helper()
	return serveConfig(t, Config{TLS: server, Trust: trust.Static(keys)}, client)
}

// serveConfig adds a door and listeners, and serves; a client with TLS, if there is one, connects.
func serveConfig(t *testing.T, cfg Config, client *tls.Config) *served {
	t.Helper()
	real, err := foreign.New(foreign.Config{Name: "c1", MaxGPUs: 1, MaxBytes: 1, MaxAge: time.Hour, MaxAhead: time.Hour, Meter: noop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Door: real}
	cfg.Door, cfg.Logger, cfg.GRPC, cfg.HTTP = d, slog.New(slog.DiscardHandler), listen(t), listen(t)
	cfg.Meter, cfg.MaxConns = noop.Meter{}, 100
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, cfg) }()
	secrecy, scheme := insecure.NewCredentials(), "http://"
	if client != nil {
		secrecy, scheme = credentials.NewTLS(client), "https://"
	}
	conn, err := grpc.NewClient("passthrough:///"+cfg.GRPC.Addr().String(), grpc.WithTransportCredentials(secrecy))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := errors.Join(<-done, real.Close()); err != nil {
			t.Error(err)
		}
	})
	return &served{door: d, grpc: collectormetrics.NewMetricsServiceClient(conn), http: scheme + cfg.HTTP.Addr().String(), tls: client, t: t}
}

// reply is what an HTTP request was answered with.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
}

// post sends a body and returns the answer and what was said.
func (s *served) post(path string, body []byte, headers ...string) (reply, string) {
	s.t.Helper()
	answer, err := s.send(path, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	said, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Status, answer.Header}, string(said)
}

func (s *served) send(path string, body []byte, headers ...string) (*http.Response, error) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.http+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.tls}
	return transport.RoundTrip(r)
}

// export calls by gRPC, and tells what it would be in HTTP.
func (s *served) export(r *collectormetrics.ExportMetricsServiceRequest) int {
	_, err := s.grpc.Export(s.t.Context(), r)
	switch status.Code(err) {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument:
		return http.StatusRequestEntityTooLarge
	case codes.ResourceExhausted:
		if d := status.Convert(err).Details(); len(d) == 1 {
			return http.StatusTooManyRequests
		}
	}
	s.t.Errorf("gRPC: %v", err)
	return 0
}

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// unknown is a request with two points of a metric that is not known.
func unknown() *collectormetrics.ExportMetricsServiceRequest {
	points := []*metrics.NumberDataPoint{{}, {}}
	return &collectormetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{ScopeMetrics: []*metrics.ScopeMetrics{{Metrics: []*metrics.Metric{
		{Name: "node.load", Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: points}}},
	}}}}}}
}

func unknownBody(t *testing.T) []byte {
	t.Helper()
	body, err := proto.Marshal(unknown())
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func zipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
