// SPDX-License-Identifier: Apache-2.0

// Package clickhouseclient finds and opens the ClickHouse that an operator's command asks: one by its
// address, the one of a running `gpufleet up`, or, where none runs, an embedded one on the data that the
// last one left. It connects over HTTP, as a user who is not meant to write.
package clickhouseclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

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

// Open makes a connection. Nothing is sent before the first query.
func Open(e Endpoint) (driver.Conn, error) {
	options := &clickhouse.Options{
		Addr: []string{e.Address}, Protocol: clickhouse.HTTP,
		Auth:        clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
		DialTimeout: 10 * time.Second,
		ReadTimeout: 15 * time.Minute, // longer than a query may take
	}
	if e.Secure {
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse %s: %w", e, err)
	}
	return conn, nil
}

// Place says which ClickHouse is meant.
type Place struct {
	URL      string // of one that runs; empty: the embedded one of DataDir
	Password string // for URL, if that has none
	DataDir  string // of `gpufleet up`
	Library  string // path of libchdb.so, for an embedded one that is started; empty: search
}

// EmbeddedDir is where the embedded ClickHouse of a data directory lies.
func EmbeddedDir(dataDir string) string { return filepath.Join(dataDir, "clickhouse") }

// Connection is an open ClickHouse. It must be closed.
type Connection struct {
	driver.Conn
	Endpoint Endpoint
	// Running tells that others may be writing: false if the ClickHouse was started for this connection.
	Running bool

	server *embedded.Server // that was started; nil if none was
}

// Connect opens the ClickHouse that is meant, and starts it if it is an embedded one that does not run.
func (p Place) Connect(ctx context.Context) (*Connection, error) {
	e, server, err := p.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := Open(e)
	if err != nil {
		return nil, errors.Join(err, closeServer(server))
	}
	return &Connection{Conn: conn, Endpoint: e, Running: server == nil, server: server}, nil
}

func (p Place) find(ctx context.Context) (Endpoint, *embedded.Server, error) {
	if p.URL != "" {
		e, err := ParseURL(p.URL, p.Password)
		return e, nil, err
	}
	dir := EmbeddedDir(p.DataDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Endpoint{}, nil, fmt.Errorf("no pipeline has run in %s: run `gpufleet up`, or name its directory with --data or a ClickHouse with --clickhouse", p.DataDir)
	}
	_, reader, notRunning := embedded.Attach(ctx, dir)
	if notRunning == nil {
		return Embedded(reader), nil, nil
	}
	// Reading needs no room on the disk; a full disk is a reason to ask.
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir, Library: p.Library, MinFreeBytes: 1})
	if err != nil {
		return Endpoint{}, nil, fmt.Errorf("start the embedded ClickHouse of %s: %w", p.DataDir, err)
	}
	return Embedded(server.Reader()), server, nil
}

// Close closes the connection, and stops the ClickHouse if it was started for it.
func (c *Connection) Close() error {
	return errors.Join(c.Conn.Close(), closeServer(c.server))
}

func closeServer(server *embedded.Server) error {
	if server == nil {
		return nil
	}
	return server.Close()
}
