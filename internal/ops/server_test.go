// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gpufleet/gpufleet/internal/health"
)

// metricsText stands for a scrape's answer.
var metricsText = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "up 1") })

// config returns what Serve needs at least, on a free port of loopback.
func config() ServerConfig {
	return ServerConfig{Addr: "127.0.0.1:0", Metrics: metricsText, Log: slog.New(slog.DiscardHandler)}
}

// serve runs Serve until the test ends or stop is called, and returns the address. stop returns Serve's answer.
func serve(t *testing.T, cfg ServerConfig) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	listening, done := make(chan string, 1), make(chan error, 1)
	cfg.OnListen = func(a net.Addr) { listening <- a.String() }
	go func() {
		done <- Serve(ctx, cfg)
		close(done)
	}()
	stop = func() error {
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case addr = <-listening:
	case err := <-done:
		t.Fatalf("Serve() = %v before it listened", err)
	}
	return addr, stop
}

// serveInVain returns why Serve refuses to start. Should it start after all, it stops at once.
func serveInVain(t *testing.T, cfg ServerConfig) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg.OnListen = func(net.Addr) { cancel() }
	return Serve(ctx, cfg)
}

// get asks url through a client that trusts conf and leaves no connection behind.
func get(t *testing.T, url string, conf *tls.Config) (status int, body string, err error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func TestServeOnLoopback(t *testing.T) {
	cfg := config()
	cfg.Service = "gpufleet-test"
	cfg.Ready = func(context.Context) []health.Check {
		return []health.Check{health.Warn("log", "it fills"), health.Of("store", errors.New("it has not answered yet"))}
	}
	addr, stop := serve(t, cfg)
	tests := []struct {
		path   string
		status int
		body   string
	}{
		{"/metrics", http.StatusOK, "up 1\n"},
		{"/healthz", http.StatusOK, `{"status":"alive","service":"gpufleet-test","version":"` + Version() + `","checks":[]}`},
		{"/readyz", http.StatusServiceUnavailable, `{"status":"not ready","service":"gpufleet-test","version":"` + Version() +
			`","degraded":["log"],"checks":[{"check":"log","state":"warning","reason":"it fills"},{"check":"store","state":"failing","reason":"it has not answered yet"}]}`},
		{"/debug/pprof/", http.StatusOK, "heap"},
		{"/", http.StatusNotFound, "not found"},
	}
	for _, tt := range tests {
		status, body, err := get(t, "http://"+addr+tt.path, nil)
		if err != nil || status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("GET %s = %d, %.100q, %v; want %d with %q", tt.path, status, body, err, tt.status, tt.body)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Serve() = %v after a clean stop, want nil", err)
	}
}

func TestReadyIsAskedEachTimeAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer func(context.Context) error
		cfg := config()
		cfg.Ready = func(ctx context.Context) []health.Check { return []health.Check{health.Of("it", answer(ctx))} }
		handler := cfg.handler(false)
		for _, tt := range []struct {
			name   string
			ready  func(context.Context) error
			status int
		}{
			{"ready", func(context.Context) error { return nil }, http.StatusOK},
			{"not ready", func(context.Context) error { return errors.New("no") }, http.StatusServiceUnavailable},
			{"hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, http.StatusServiceUnavailable},
			{"ready again", func(context.Context) error { return nil }, http.StatusOK},
		} {
			answer = tt.ready
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if w.Code != tt.status {
				t.Errorf("%s: /readyz = %d %q, want %d", tt.name, w.Code, w.Body, tt.status)
			}
		}
	})
}

// TestNotAlive: a probe that says so has the program started again; a warning is no reason to.
func TestNotAlive(t *testing.T) {
	cfg := config()
	for state, want := range map[health.State]int{health.OK: 200, health.Warning: 200, health.Failing: 503} {
		cfg.Alive = func(context.Context) []health.Check {
			return []health.Check{{Name: "ticks", State: state, Reason: "r"}}
		}
		w := httptest.NewRecorder()
		cfg.handler(false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		if w.Code != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", state, w.Code, w.Body)
		}
	}
}

func TestServeRefusesToBeOpenWithoutTLS(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0"} {
		cfg := config()
		cfg.Addr = addr
		err := serveInVain(t, cfg)
		if err == nil || !strings.Contains(err.Error(), "loopback alone") {
			t.Errorf("Serve() on %s = %v, want a refusal", addr, err)
		}
	}
}

func TestServeWithTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	cfg := config()
	cfg.Addr = ":0"
	cfg.TLS = ca.files(t, dir)
	addr, stop := serve(t, cfg)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	url := "https://127.0.0.1:" + port

	if _, body, err := get(t, url+"/healthz", ca.client(t)); err != nil || !strings.HasPrefix(body, `{"status":"alive"`) {
		t.Errorf("/healthz for a client of the authority = %q, %v", body, err)
	}
	if status, body, err := get(t, url+"/healthz", &tls.Config{RootCAs: ca.pool()}); err == nil {
		t.Errorf("/healthz without a client certificate = %d %q, want a refused handshake", status, body)
	}
	if status, _, err := get(t, url+"/debug/pprof/", ca.client(t)); err != nil || status != http.StatusNotFound {
		t.Errorf("/debug/pprof/ beyond loopback = %d, %v; want 404", status, err)
	}

	// A new authority takes over while the server runs.
	next := newAuthority(t)
	next.files(t, dir)
	if _, body, err := get(t, url+"/healthz", next.client(t)); err != nil || !strings.HasPrefix(body, `{"status":"alive"`) {
		t.Errorf("/healthz after the rotation = %q, %v", body, err)
	}
	if _, _, err := get(t, url+"/healthz", ca.client(t)); err == nil {
		t.Error("the old authority is still trusted after the rotation")
	}
	if err := stop(); err != nil {
		t.Errorf("Serve() = %v after a clean stop, want nil", err)
	}
}

func TestServeStartErrors(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	good := newAuthority(t).files(t, dir)
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*ServerConfig)
		want   string
	}{
		{"no address", func(c *ServerConfig) { c.Addr = "" }, "no address"},
		{"no metrics", func(c *ServerConfig) { c.Metrics = nil }, "no handler for /metrics"},
		{"no logger", func(c *ServerConfig) { c.Log = nil }, "no logger"},
		{"port taken", func(c *ServerConfig) { c.Addr = taken.Addr().String() }, "address already in use"},
		{"key missing", func(c *ServerConfig) { c.TLS = TLSFiles{Cert: good.Cert} }, "go together"},
		{"certificate missing", func(c *ServerConfig) { c.TLS = TLSFiles{ClientCA: good.ClientCA} }, "without a certificate"},
		{"no such file", func(c *ServerConfig) { c.TLS = TLSFiles{Cert: "gone.pem", Key: "gone.pem"} }, "gone.pem"},
		{"no such authority", func(c *ServerConfig) {
			c.TLS = good
			c.TLS.ClientCA = "gone.pem"
		}, "gone.pem"},
		{"empty authority", func(c *ServerConfig) {
			c.TLS = good
			c.TLS.ClientCA = empty
		}, "no certificate in it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config()
			tt.change(&cfg)
			if err := serveInVain(t, cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Serve() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestStopCancelsRequestsInFlight(t *testing.T) {
	entered := make(chan struct{})
	cfg := config()
	cfg.Metrics = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	addr, stop := serve(t, cfg)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _, _ = get(t, "http://"+addr+"/metrics", nil) // what it answers is the next test's business
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Serve() = %v, want nil: the request ended with the context", err)
	}
	<-asked
}

func TestStopGivesUpOnAStuckRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		entered, release := make(chan struct{}), make(chan struct{})
		server := &http.Server{ReadHeaderTimeout: readTimeout, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(entered)
			<-release
		})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serveUntilDone(ctx, server, listener) }()
		client := listener.dial()
		if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-entered
		cancel()
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("serveUntilDone() = %v, want the grace to run out", err)
		}
		close(release)
		client.Close()
	})
}
