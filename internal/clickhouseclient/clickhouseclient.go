// SPDX-License-Identifier: Apache-2.0

// Package clickhouseclient finds and opens the ClickHouse that an operator's command asks: one by its
// address, the one of a running `gpufleet up`, or, where none runs, an embedded one on the data that the
// last one left. It connects over HTTP, and unless it is told otherwise as a user who is not meant to write.
package clickhouseclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
	"github.com/gpufleet/gpufleet/internal/embedded"
)

// PasswordEnv is the variable that keeps the password of ClickHouse out of the process list.
const PasswordEnv = "GPUFLEET_CLICKHOUSE_PASSWORD" //nolint:gosec // the name of a variable, not a secret

// Endpoint is a ClickHouse's HTTP interface and whom to be there.
type Endpoint struct {
	Address  string // host:port
	User     string
	Password string
	Database string
	Secure   bool // HTTPS
}

// String names user, address and database, and never the password.
func (e Endpoint) String() string {
	scheme := "http://"
	if e.Secure {
		scheme = "https://"
	}
	return scheme + e.User + "@" + e.Address + "/" + e.Database
}

// GoString is String, so that %#v does not show the password either.
func (e Endpoint) GoString() string { return e.String() }

// LogValue is String as a log attribute.
func (e Endpoint) LogValue() slog.Value { return slog.StringValue(e.String()) }

// Embedded is the way into an embedded ClickHouse as one of its users.
func Embedded(e embedded.Endpoint) Endpoint {
	return Endpoint{Address: e.HTTPAddress(), User: e.User, Password: e.Password, Database: e.Database}
}

// ParseURL reads http://user:password@host:port/database, or https. What is left out is user default,
// database gpufleet, port 8123 or 8443; the password counts if the URL has none.
func ParseURL(text, password string) (Endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err // its text would show the password
		}
		return Endpoint{}, fmt.Errorf("address of ClickHouse: %w", err)
	}
	e := Endpoint{User: "default", Password: password, Database: embedded.Database, Secure: u.Scheme == "https"}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return Endpoint{}, fmt.Errorf("address of ClickHouse %q: want http://user@host:8123/database, or https", u.Redacted())
	}
	port := u.Port()
	switch {
	case port == "" && e.Secure:
		port = "8443"
	case port == "":
		port = "8123"
	}
	e.Address = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil && u.User.Username() != "" {
		e.User = u.User.Username()
	}
	if own, ok := u.User.Password(); ok {
		e.Password = own
	}
	if name := strings.Trim(u.Path, "/"); name != "" {
		e.Database = name
	}
	return e, nil
}

// Explain puts an error of a connection into one line that says what helps.
func (e Endpoint) Explain(err error) error {
	return clickhouseerror.Explain(err, clickhouseerror.Target{
		Name: e.String(), User: e.User, Database: e.Database, Secure: e.Secure,
		Advice: clickhouseerror.Advice{
			TLS: "name it as https://", NoTLS: "name it as http://, or name its port for TLS (8443)",
			Trust:    "SSL_CERT_FILE names a file with the authority that it comes from; ask it by a name that is in it",
			Login:    "the user stands in the address, the password in " + PasswordEnv,
			Database: "the address names one, as in http://user@host:8123/gpufleet; a collector needs one that was made for it",
			Rights:   "to read takes SELECT, to import INSERT too: grant it to this user, or be another one",
		},
	})
}

// Limits of a connection. A query may take long; a server that is asked for nothing answers at once.
const (
	dialTimeout  = 10 * time.Second
	greetTimeout = 15 * time.Second
	readTimeout  = 15 * time.Minute
)

// Open makes a connection. Nothing is sent before the first query.
func Open(e Endpoint) (driver.Conn, error) {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		ResponseHeaderTimeout: readTimeout, IdleConnTimeout: time.Hour, DisableCompression: true,
	}
	options := &clickhouse.Options{
		Addr: []string{e.Address}, Protocol: clickhouse.HTTP,
		Auth:        clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
		DialTimeout: dialTimeout, ReadTimeout: readTimeout,
		TransportFunc: func(*http.Transport) (http.RoundTripper, error) { return transport, nil },
	}
	if e.Secure { // else a proxy would be told the password
		transport.Proxy = http.ProxyFromEnvironment
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		options.TLS = transport.TLSClientConfig
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse %s: %w", e, err)
	}
	return &connection{conn, transport}, nil
}

// connection closes what is below, too: the client drops a transport that it could not greet over.
type connection struct {
	driver.Conn
	transport *http.Transport
}

// Close implements driver.Conn.
func (c *connection) Close() error {
	defer c.transport.CloseIdleConnections()
	return c.Conn.Close()
}

// Dial opens a connection and makes sure that the server answers. An error says what helps.
func Dial(ctx context.Context, e Endpoint) (driver.Conn, error) {
	conn, err := Open(e)
	if err != nil {
		return nil, err
	}
	greeting, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	if err := conn.Ping(greeting); err != nil {
		return nil, errors.Join(e.Explain(err), conn.Close())
	}
	return conn, nil
}

// Place says which ClickHouse is meant.
type Place struct {
	URL      string // of one that runs; empty: the embedded one of DataDir
	Password string // for URL, if that has none
	DataDir  string // of `gpufleet up`
	Library  string // path of libchdb.so, for an embedded one that is started; empty: search
	Write    bool   // be a user who may write; of a URL it is whom the URL names
	// Shards are the HTTP addresses of the shards if URL is one of a cluster, in their order; none: the cluster's own hosts
	// with the port of URL.
	Shards []string
}

// EmbeddedDir is where the embedded ClickHouse of a data directory lies.
func EmbeddedDir(dataDir string) string { return filepath.Join(dataDir, "clickhouse") }

// Connection is an open ClickHouse. It must be closed.
type Connection struct {
	driver.Conn
	Endpoint Endpoint
	// Running tells that others may be writing: false if the ClickHouse was started for this connection.
	Running bool

	place   Place
	shards  []driver.Conn    // that were asked for
	servers *embedded.Shards // that were started; nil if none were
}

// Connect opens the ClickHouse that is meant, and starts it if it is an embedded one that does not run.
func (p Place) Connect(ctx context.Context) (*Connection, error) {
	c, err := p.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := Dial(ctx, c.Endpoint)
	if err != nil {
		return nil, errors.Join(err, c.closeServers())
	}
	c.Conn, c.Running = conn, c.servers == nil
	return c, nil
}

// turnWait is how long a command waits for its turn: without a pipeline that runs, one has the directory at a time.
const turnWait = time.Minute

// find is a connection that is not open yet.
func (p Place) find(ctx context.Context) (*Connection, error) {
	if p.URL != "" {
		e, err := ParseURL(p.URL, p.Password)
		return &Connection{Endpoint: e, place: p}, err
	}
	dir := EmbeddedDir(p.DataDir)
	switch _, err := os.ReadDir(dir); {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("look for a ClickHouse in %s: %w: it belongs to another user; be that one, or ask a ClickHouse with --clickhouse", p.DataDir, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no pipeline has run in %s: run `gpufleet up`, or name its directory with --data or a ClickHouse with --clickhouse", p.DataDir)
	}
	if writer, reader, notRunning := embedded.Attach(ctx, dir); notRunning == nil {
		return &Connection{Endpoint: Embedded(p.whom(writer, reader)), place: p}, nil
	}
	shards, err := embedded.ShardsIn(dir)
	if err != nil {
		return nil, err
	}
	// Reading needs no room on the disk; a full disk is a reason to ask.
	servers, err := embedded.StartShards(ctx, embedded.Config{Dir: dir, Library: p.Library, MinFreeBytes: 1, LockWait: turnWait, Private: true}, max(shards, 1))
	if err != nil {
		return nil, fmt.Errorf("start the embedded ClickHouse of %s: %w", p.DataDir, err)
	}
	return &Connection{Endpoint: Embedded(p.whom(servers.First().Writer(), servers.First().Reader())), place: p, servers: servers}, nil
}

func (p Place) whom(writer, reader embedded.Endpoint) embedded.Endpoint {
	if p.Write {
		return writer
	}
	return reader
}

// Close closes the connection, and stops the ClickHouse if it was started for it.
func (c *Connection) Close() error {
	problems := []error{c.Conn.Close()}
	for _, s := range c.shards {
		problems = append(problems, s.Close())
	}
	return errors.Join(append(problems, c.closeServers())...)
}

func (c *Connection) closeServers() error {
	if c.servers == nil {
		return nil
	}
	return c.servers.Close()
}
