// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/gpufleet/gpufleet/internal/health"
)

const (
	// readTimeout bounds a slow client: a scrape's request is a few hundred bytes.
	readTimeout = 10 * time.Second
	// writeTimeout leaves room for a CPU profile, 30 seconds by default.
	writeTimeout = 2 * time.Minute
	// idleTimeout is longer than any usual scrape interval, so that Prometheus keeps its connection.
	idleTimeout = 2 * time.Minute
	// readyTimeout bounds Alive and Ready: a probe that hangs is a probe that says no.
	readyTimeout = 2 * time.Second
	// shutdownGrace is what answers in flight get when the program stops.
	shutdownGrace = 5 * time.Second
	// maxHeaderBytes is ample for a probe or a scrape with a bearer token.
	maxHeaderBytes = 16 << 10
)

// ServerConfig says where Serve listens and what it shows. Validate tells what cannot be honoured.
type ServerConfig struct {
	Addr string // host:port to listen on; port 0 takes a free one; an address beyond this machine needs TLS
	TLS  TLSFiles

	Metrics http.Handler                         // answers /metrics, required; see Telemetry.Handler
	Service string                               // named in answers
	Alive   func(context.Context) []health.Check // answers /healthz; called concurrently; nil means always alive
	Ready   func(context.Context) []health.Check // answers /readyz; called concurrently; nil means always ready
	Log     *slog.Logger                         // required

	OnListen func(net.Addr) // called once with the address taken, before the first request; nil is allowed
}

// Validate returns an error that names the first field that is missing or contradicts another.
func (c ServerConfig) Validate() error {
	switch {
	case c.Addr == "":
		return errors.New("operations server: no address to listen on")
	case c.Metrics == nil:
		return errors.New("operations server: no handler for /metrics")
	case c.Log == nil:
		return errors.New("operations server: no logger")
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("operations server: %w", err)
	}
	return nil
}

// Serve answers until ctx ends, then lets requests in flight finish for a short grace and returns nil:
//
//	/metrics       Prometheus
//	/healthz       200 unless a check of Alive fails, then 503: what a liveness probe asks
//	/readyz        200 unless a check of Ready fails, then 503: what a readiness probe asks
//	/debug/pprof/  profiles, only when the address is loopback: they show memory, and taking one costs CPU
//
// It refuses to listen beyond this machine without TLS.
func Serve(ctx context.Context, cfg ServerConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	tlsConfig, err := cfg.TLS.Server()
	if err != nil {
		return fmt.Errorf("operations server on %s: %w", cfg.Addr, err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("operations server: %w", err) // net names the operation and the address
	}
	local := isLoopback(listener.Addr())
	if !local && tlsConfig == nil {
		return errors.Join(
			fmt.Errorf("operations server on %s: without TLS it listens on loopback alone; "+
				"give it a certificate or an address such as 127.0.0.1", cfg.Addr),
			listener.Close(),
		)
	}
	server := &http.Server{
		Handler:        cfg.handler(local),
		TLSConfig:      tlsConfig,
		BaseContext:    func(net.Listener) context.Context { return ctx }, // so that stopping cancels a profile
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
	}
	cfg.Log.Info("operations server listens", "address", listener.Addr().String(), "tls", tlsConfig != nil, "pprof", local)
	if cfg.OnListen != nil {
		cfg.OnListen(listener.Addr())
	}
	return serveUntilDone(ctx, server, listener)
}

// serveUntilDone runs server on listener until ctx ends. It closes listener.
func serveUntilDone(ctx context.Context, server *http.Server, listener net.Listener) error {
	served := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			served <- server.ServeTLS(listener, "", "")
			return
		}
		served <- server.Serve(listener)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve operations on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the operations server on %s: %w", listener.Addr(), err), server.Close())
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// handler returns the routes; local adds the profiles.
func (c ServerConfig) handler(local bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.Metrics)
	mux.Handle("GET /healthz", c.probe(c.Alive, "alive"))
	mux.Handle("GET /readyz", c.probe(c.Ready, "ready"))
	if local { // pprof has also registered itself on http.DefaultServeMux, which nothing here serves
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// isLoopback reports whether only this machine can reach addr.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
