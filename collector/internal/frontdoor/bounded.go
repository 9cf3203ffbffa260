// SPDX-License-Identifier: Apache-2.0

package frontdoor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// connections counts those of both protocols. They have one bound: a process has so many files.
type connections struct {
	most    int64
	open    atomic.Int64
	opened  metric.Int64UpDownCounter
	refused metric.Int64Counter
}

func newConnections(most int, m metric.Meter) (*connections, error) {
	opened, err := m.Int64UpDownCounter("gpufleet.collector.foreign.connections", metric.WithDescription("Connections of other programs that push, by door."))
	refused, errRefused := m.Int64Counter("gpufleet.collector.foreign.refused.connections",
		metric.WithDescription("Connections of other programs that were closed at once, by door and reason."))
	if err := errors.Join(err, errRefused); err != nil {
		return nil, fmt.Errorf("count connections: %w", err)
	}
	return &connections{most: int64(most), opened: opened, refused: refused}, nil
}

// bounded is a listener that closes at once what is more than the bound: whoever waits in the kernel's queue would be
// served as little, and not know.
type bounded struct {
	net.Listener
	*connections
	door string // which listener, for the metrics
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		door := attribute.String("door", b.door)
		if b.open.Add(1) > b.most {
			b.open.Add(-1)
			b.refused.Add(context.Background(), 1, metric.WithAttributes(door, attribute.String("reason", "too_many")))
			_ = conn.Close() // nothing was sent to it
			continue
		}
		b.opened.Add(context.Background(), 1, metric.WithAttributes(door))
		return &counted{Conn: conn, left: sync.OnceFunc(func() {
			b.open.Add(-1)
			b.opened.Add(context.Background(), -1, metric.WithAttributes(door))
		})}, nil
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	defer c.left()
	return c.Conn.Close()
}
