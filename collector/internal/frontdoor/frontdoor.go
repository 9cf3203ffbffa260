// SPDX-License-Identifier: Apache-2.0

// Package frontdoor serves the protocols that other programs speak: OTLP over gRPC and HTTP, and Prometheus remote write.
// It believes nothing: who pushes is proved before a byte of the body is read, bodies and what they become are bounded,
// and a request that makes a decoder panic ends that request alone. What it takes it hands to one foreign.Door, and it
// answers when that has it on disk. Its servers end before Serve returns.
package frontdoor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/gpufleet/gpufleet/collector/internal/admission"
	"github.com/gpufleet/gpufleet/collector/internal/foreign"
	"github.com/gpufleet/gpufleet/collector/internal/otlp"
	"github.com/gpufleet/gpufleet/collector/trust"
)

// Door takes readings.
type Door interface {
	// Sort finds the columns of readings. It keeps nothing of the groups.
	Sort(ctx context.Context, from foreign.Source, groups []foreign.Group) *foreign.Request
	// Take keeps what was sorted. An error means that the sender must push all of it again.
	Take(ctx context.Context, r *foreign.Request) (foreign.Outcome, error)
}

// Config is what is served. A listener that is nil is not served.
type Config struct {
	GRPC, HTTP net.Listener
	TLS        *tls.Config
	Trust      *trust.Trust     // by what senders are known: tokens are asked for if it has keys
	Admits     admission.Admits // whose rows may be stored
	Door       Door
	Logger     *slog.Logger
	Meter      metric.Meter
	MaxConns   int // of both listeners together; more are closed at once

	now func() time.Time
}

// Bounds of one request. maxBodyBytes is what OpenTelemetry's and Prometheus's senders stay below as they come.
const (
	maxBodyBytes = 4 << 20 // as it comes, and uncompressed
	maxDecoders  = 4       // bodies that are decoded at the same time: small messages become large in memory
	maxBodies    = 32      // bodies that are read, or wait to be decoded, at the same time
	maxCall      = 90 * time.Second
	stopGrace    = 5 * time.Second
	retryAfter   = 5 * time.Second // that senders are told to wait
)

// server is what both protocols share.
type server struct {
	cfg      Config
	conns    *connections
	decoders chan struct{} // holds one for each body that is being decoded
	bodies   chan struct{}
}

// idleConnection is after how long a connection without a request ends, so that none is held by who proves nothing.
const idleConnection = 2 * time.Minute

// Serve takes requests until the context ends.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	conns, err := newConnections(cfg.MaxConns, cfg.Meter)
	if err != nil {
		return err
	}
	s := &server{cfg: cfg, conns: conns, decoders: make(chan struct{}, maxDecoders), bodies: make(chan struct{}, maxBodies)}
	group, ctx := errgroup.WithContext(ctx)
	if cfg.GRPC != nil {
		group.Go(func() error { return s.serveGRPC(ctx) })
	}
	if cfg.HTTP != nil {
		group.Go(func() error { return s.serveHTTP(ctx) })
	}
	return group.Wait()
}

func (s *server) serveGRPC(ctx context.Context) error {
	server := grpc.NewServer(s.grpcOptions()...)
	s.register(server)
	if err := serveUntil(ctx, server, &bounded{s.cfg.GRPC, s.conns, "grpc"}); err != nil {
		return fmt.Errorf("serve OTLP on %s: %w", s.cfg.GRPC.Addr(), err)
	}
	return nil
}

// serveUntil serves until the context ends.
func serveUntil(ctx context.Context, server *grpc.Server, l net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		hard := time.AfterFunc(stopGrace, server.Stop)
		defer hard.Stop()
		server.GracefulStop()
	})
	err := server.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, grpc.ErrServerStopped) { // before it began
		return nil
	}
	return err
}

func (s *server) serveHTTP(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: maxCall,
		IdleTimeout: idleConnection, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	serve := server.Serve
	if s.cfg.TLS != nil {
		server.TLSConfig = s.cfg.TLS.Clone() // it adds protocols to it
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // what is still open was told to wait no longer
		}
	})
	err := serve(&bounded{s.cfg.HTTP, s.conns, "http"})
	if !stop() {
		<-stopped
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve OTLP and remote write on %s: %w", s.cfg.HTTP.Addr(), err)
	}
	return nil
}

// enter makes room for a body that is to be read. leave may be called more than once.
func (s *server) enter() (leave func(), err error) {
	select {
	case s.bodies <- struct{}{}:
		return sync.OnceFunc(func() { <-s.bodies }), nil
	default:
		return nil, fmt.Errorf("%d requests are being read: %w", maxBodies, foreign.ErrBusy)
	}
}

// decodeOTLP is for sort.
func decodeOTLP(body []byte, encoding otlp.Encoding) func() ([]foreign.Group, error) {
	return func() ([]foreign.Group, error) {
		request, err := otlp.Decode(body, encoding)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, errBody)
		}
		return otlp.Groups(request), nil
	}
}

// sort decodes a body and sorts what is in it, a few at a time.
func (s *server) sort(ctx context.Context, from foreign.Source, decode func() ([]foreign.Group, error)) (*foreign.Request, error) {
	select {
	case s.decoders <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.decoders }()
	groups, err := decode()
	if err != nil {
		return nil, err
	}
	return s.cfg.Door.Sort(ctx, from, groups), nil
}
