// SPDX-License-Identifier: Apache-2.0

package otlpout

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// fleet answers with nodes, of which each gives one point.
type fleet int

func (f fleet) Select(_ context.Context, into any, _ string) error {
	if rows, ok := into.(*[]nodeRow); ok {
		*rows = make([]nodeRow, f)
	}
	return nil
}

// backend counts points, and takes all but one of each export.
type backend struct{ points, exports atomic.Int64 }

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	points, err := pointsIn(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.points.Add(int64(points))
	b.exports.Add(1)
	answer, err := proto.Marshal(&collectormetrics.ExportMetricsServiceResponse{
		PartialSuccess: &collectormetrics.ExportMetricsPartialSuccess{RejectedDataPoints: 1, ErrorMessage: fmt.Sprintf("export %d", b.exports.Load())},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func pointsIn(r *http.Request) (points int, err error) {
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(z)
	if err != nil {
		return 0, err
	}
	var request collectormetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return 0, err
	}
	for _, rm := range request.GetResourceMetrics() {
		for _, scope := range rm.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				points += len(m.GetGauge().GetDataPoints())
			}
		}
	}
	return points, nil
}

// TestPartialSuccess: a backend that refuses a point of each export gets all exports, and we are told of all.
func TestPartialSuccess(t *testing.T) {
	b := &backend{}
	server := httptest.NewServer(b)
	defer server.Close()
	cfg := Config{URL: server.URL, Name: "c1", Database: fleet(2*maxPoints + 1), Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{}}
	out, err := cfg.exporter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Shutdown(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is left to send
	err = cfg.turn(t.Context(), out)
	for n := range 3 {
		if says := fmt.Sprintf("export %d", n+1); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if points, exports := b.points.Load(), b.exports.Load(); points != 2*maxPoints+1 || exports != 3 {
		t.Errorf("%d points in %d exports", points, exports)
	}
}

// TestEnd: once the context has ended nothing more is tried.
func TestEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &backend{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.ServeHTTP(w, r)
		cancel()
	}))
	defer server.Close()
	cfg := Config{URL: server.URL, Interval: MinInterval, Name: "c1", Database: fleet(2*maxPoints + 1), Logger: slog.New(slog.DiscardHandler), Meter: noop.Meter{}}
	if err := Run(ctx, cfg); err != nil || b.exports.Load() != 1 {
		t.Errorf("%v, after %d exports", err, b.exports.Load())
	}
}
