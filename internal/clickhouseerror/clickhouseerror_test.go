// SPDX-License-Identifier: Apache-2.0

package clickhouseerror_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
	"github.com/gpufleet/gpufleet/internal/clickhousetest"
)

func TestMain(m *testing.M) { clickhousetest.Main(m) }

// ask asks a ClickHouse and explains why it could not.
func ask(ctx context.Context, t *testing.T, options *clickhouse.Options, sql string) error {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: options.TLS, DisableCompression: true}
	options.TransportFunc = func(*http.Transport) (http.RoundTripper, error) { return transport, nil }
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = run(ctx, conn, sql)
	if err == nil {
		t.Error("asked without an error")
		return errors.New("none")
	}
	t.Log(err)
	return clickhouseerror.Explain(err, clickhouseerror.Target{
		Name: "http://anna@db", User: options.Auth.Username, Database: options.Auth.Database, Secure: options.TLS != nil,
		Advice: clickhouseerror.Advice{Login: "mind the password", TLS: "name it as https://", NoTLS: "name it as http://"},
	})
}

// run reads the whole answer: the client ignores that one ends in the middle if nobody reads it.
func run(ctx context.Context, conn driver.Conn, sql string) error {
	if !strings.HasPrefix(sql, "SELECT") {
		return conn.Exec(ctx, sql)
	}
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

// TestReal asks a real ClickHouse in all ways that do not work.
func TestReal(t *testing.T) {
	db := clickhousetest.Start(t)
	trusting := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // the test's own server
	strict := &tls.Config{MinVersion: tls.VersionTLS12}
	secure := before(t, db.Reader.HTTPAddress())
	secure.StartTLS()
	lonely := before(t, "127.0.0.1:1")
	lonely.Start()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	tests := []struct {
		name   string
		change func(o *clickhouse.Options)
		sql    string
		want   string
	}{
		{"refused", to("127.0.0.1:1"), "", "nothing listens there (connection refused): check host and port of its HTTP interface (8123, or 8443 with TLS), and that it runs"},
		{"no such host", to("db.invalid:8123"), "", "there is no host db.invalid: check host and port of its HTTP interface (8123, or 8443 with TLS), and that it runs"},
		{"wrong password", func(o *clickhouse.Options) { o.Auth.Password = "secret" }, "", "it refuses the user gpufleet_reader or the password: mind the password"},
		{"no such user", func(o *clickhouse.Options) { o.Auth.Username = "ben" }, "", "it refuses the user ben or the password: mind the password"},
		{"no such database", func(o *clickhouse.Options) { o.Auth.Database = "nothing" }, "", "it has no database nothing: check the name, or create it"},
		{"TLS to plain", func(o *clickhouse.Options) { o.TLS = trusting }, "", "TLS is not spoken there: name it as http://"},
		{"plain to TLS", to(secure.Listener.Addr().String()), "", "TLS is expected there: name it as https://"},
		{
			"certificate of nobody", func(o *clickhouse.Options) { to(secure.Listener.Addr().String())(o); o.TLS = strict }, "",
			"its certificate is not trusted (certificate signed by unknown authority): trust the authority that its certificate comes from, and ask it by a name that is in the certificate",
		},
		{"native port", to(db.Reader.TCPAddress()), "", "this is its port of the native protocol: its HTTP interface has port " + port(t, db.Reader.HTTPAddress())},
		{"nothing behind a proxy", to(lonely.Listener.Addr().String()), "", "a proxy or balancer before it answered with HTTP 502: see that ClickHouse runs behind it: try again in a moment"},
		{"something else", to(other.Listener.Addr().String()), "", "what answers there is not ClickHouse (HTTP 404): check host and port of its HTTP interface (8123, or 8443 with TLS), and that it runs"},
		{"writes", to(""), "CREATE TABLE t (a Int8) ENGINE = Memory", "the user gpufleet_reader may not do this (gpufleet_reader: Not enough privileges. To execute this query, it's necessary to have the grant CREATE TABLE ON " + db.Name + ".t. (ACCESS_DENIED)): grant it, or be another user"},
		{"too slow", func(*clickhouse.Options) {}, "SELECT sleep(3)", "it did not answer in time: it is overloaded, or a firewall drops what is sent there: check host and port of its HTTP interface (8123, or 8443 with TLS), and that it runs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			options := clickhousetest.Options(db.Reader)
			tt.change(options)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if tt.sql == "SELECT sleep(3)" {
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
			}
			sql := tt.sql
			if sql == "" {
				sql = "SELECT 1"
			}
			err := ask(ctx, t, options, sql)
			if want := "ask ClickHouse http://anna@db: " + tt.want; err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if strings.Contains(err.Error(), options.Auth.Password) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}

// before is a proxy before an address, not started.
func before(t *testing.T, address string) *httptest.Server {
	t.Helper()
	silent := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.ErrorLog = silent
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ErrorLog = silent
	t.Cleanup(server.Close)
	return server
}

// to has another address asked; empty: the one that is right.
func to(address string) func(*clickhouse.Options) {
	return func(o *clickhouse.Options) {
		if address != "" {
			o.Addr = []string{address}
		}
	}
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// answering listens, and answers whoever comes with some bytes, or with silence, and an end.
func answering(t *testing.T, bytes []byte) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_, _ = conn.Write(bytes)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// TestOnTheWire: what no server that a test has says by itself.
func TestOnTheWire(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	strict := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, tt := range []struct {
		name, address string
		tls           *tls.Config
		want          string
	}{
		{"silence", silent.Addr().String(), nil, "it did not answer in time: "},
		{"silence, TLS", silent.Addr().String(), strict, "it did not answer in time: "},
		{"hangs up", answering(t, nil), nil, "it closed the connection without an answer: it was stopped or is shutting down: try again in a moment; or TLS is expected there: name it as https://"},
		{"hangs up, TLS", answering(t, nil), strict, "it closed the connection without an answer: it was stopped or is shutting down: try again in a moment"},
		{"an alert", answering(t, []byte("\x15\x03\x03\x00\x02\x02\x46")), nil, "TLS is expected there: name it as https://"},
		{"an alert, TLS", answering(t, []byte("\x15\x03\x03\x00\x02\x02\x46")), strict, "it ended the TLS handshake (tls: protocol version not supported): it may want a client certificate"},
		{"SSH", answering(t, []byte("SSH-2.0-OpenSSH_9.6\r\n")), nil, "what answers there is not ClickHouse (no HTTP): "},
		{"SSH, TLS", answering(t, []byte("SSH-2.0-OpenSSH_9.6\r\n")), strict, "TLS is not spoken there: name it as http://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := ask(ctx, t, &clickhouse.Options{Addr: []string{tt.address}, Protocol: clickhouse.HTTP, TLS: tt.tls}, "SELECT 1")
			if !strings.HasPrefix(err.Error(), "ask ClickHouse http://anna@db: "+tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestServerEnds: a query is under way when its server is killed.
func TestServerEnds(t *testing.T) {
	server := clickhousetest.Dedicated(t)
	options := clickhousetest.Options(server.Writer())
	ended := make(chan error, 1)
	go func() {
		ended <- ask(t.Context(), t, options, "SELECT sleepEachRow(0.5) FROM numbers(1000) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0")
	}()
	for running := ""; running != "1"; { // that it runs is seen by asking
		running = clickhousetest.Query(t, server.Writer(), "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow%'")
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !strings.Contains(err.Error(), "it closed the connection without an answer: it was stopped") && !strings.Contains(err.Error(), "it ended the query") {
		t.Error(err)
	}
}

func TestOtherErrors(t *testing.T) {
	for _, err := range []error{
		nil, errors.New("something"), context.Canceled, &clickhouse.Exception{Code: 60, Message: "Table t does not exist"},
	} {
		if got := clickhouseerror.Explain(err, clickhouseerror.Target{}); got != err { //nolint:errorlint // the same value
			t.Errorf("%v became %v", err, got)
		}
	}
	cause := &clickhouse.Exception{Code: 516, Message: "no"}
	once := clickhouseerror.Explain(cause, clickhouseerror.Target{})
	if twice := clickhouseerror.Explain(once, clickhouseerror.Target{Name: "other"}); twice != once { //nolint:errorlint // the same value
		t.Errorf("explained twice: %v", twice)
	}
	if once.Error() != "ask ClickHouse: it refuses the user or the password: check both" || !errors.Is(once, cause) {
		t.Errorf("%v", once)
	}
	for code, want := range map[int32]string{202: "busy", 236: "shutting down", 394: "shutting down", 192: "refuses the user", 164: "may not do this"} {
		if got := clickhouseerror.Explain(&clickhouse.Exception{Code: code}, clickhouseerror.Target{}); !strings.Contains(got.Error(), want) {
			t.Errorf("code %d: %v", code, got)
		}
	}
}
