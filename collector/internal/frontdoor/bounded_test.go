// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// sums reads all counters.
func sums(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok {
				continue
			}
			for _, point := range sum.DataPoints {
				name := m.Name
				if reason, ok := point.Attributes.Value("reason"); ok {
					name += " " + reason.AsString()
				}
				found[name] += point.Value
			}
		}
	}
	return found
}

// TestConnectionsAreBounded: of both listeners together, and one that is closed makes room.
func TestConnectionsAreBounded(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	conns, err := newConnections(2, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter(""))
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 8)
	dial := func(l net.Listener) net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	one, other := &bounded{listen(t), conns, "grpc"}, &bounded{listen(t), conns, "http"}
	done := make(chan error, 2)
	for _, l := range []*bounded{one, other} {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					done <- err
					return
				}
				accepted <- conn
			}
		}()
	}
	dial(one)
	dial(other)
	first, second := <-accepted, <-accepted
	for _, l := range []*bounded{one, other} {
		refused := dial(l)
		if err := refused.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection too many: %v", err)
		}
	}
	if got := sums(t, reader); got["gpufleet.collector.foreign.connections"] != 2 || got["gpufleet.collector.foreign.refused.connections too_many"] != 2 {
		t.Errorf("counted %v", got)
	}
	first.Close()
	first.Close() // twice counts once
	dial(one)
	third := <-accepted
	if got := sums(t, reader)["gpufleet.collector.foreign.connections"]; got != 2 {
		t.Errorf("%d are open, want 2", got)
	}
	second.Close()
	third.Close()
	one.Close()
	other.Close()
	for range 2 {
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if got := conns.open.Load(); got != 0 {
		t.Errorf("%d are open after the last has left", got)
	}
}
