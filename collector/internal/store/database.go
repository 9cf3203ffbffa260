// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// strict are the settings of every insert: wait for the insert itself, and refuse what does not fit
// instead of filling it in.
var strict = clickhouse.Settings{
	"async_insert":                             0,
	"wait_end_of_query":                        1,
	"insert_deduplicate":                       1,
	"input_format_null_as_default":             0,
	"input_format_skip_unknown_fields":         0,
	"input_format_arrow_allow_missing_columns": 0,
	"max_insert_block_size":                    4 << 20,
	"min_insert_block_size_rows":               4 << 20, // one block, whatever the record batches are
	"min_insert_block_size_bytes":              1 << 30,
	"max_partitions_per_insert_block":          1, // more would not be atomic
	"max_query_size":                           64 << 20,
	// a view knows the source's tokens: what is sent again with the same one reaches it once
	"deduplicate_blocks_in_dependent_materialized_views": 1,
}

// database is a connection that can tell how many rows an insert wrote.
type database struct {
	driver.Conn
	name      string
	transport *http.Transport
}

const dialTimeout = 5 * time.Second

// open prepares a connection. All of the client's are made over one transport: it drops one that it could
// not greet without closing what is below, and by and by a ClickHouse that answers every greeting with an
// error would use up our sockets. There is no proxy: one from the environment would be told the password.
func open(e Endpoint, connections int) (*database, error) {
	d := &database{name: e.Database, transport: &http.Transport{
		DialContext:  (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConns: connections, MaxIdleConnsPerHost: connections, WriteBufferSize: pieceBytes,
		IdleConnTimeout:       10 * time.Second, // before ClickHouse closes it, or a request may be lost on the way
		ResponseHeaderTimeout: 5 * time.Minute, DisableCompression: true,
	}}
	options := &clickhouse.Options{
		Addr: []string{e.Address}, Protocol: clickhouse.HTTP,
		Auth:         clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
		DialTimeout:  dialTimeout,
		MaxOpenConns: connections, MaxIdleConns: connections,
		TransportFunc: func(*http.Transport) (http.RoundTripper, error) { return summaryReader{d.transport}, nil },
	}
	if e.Secure {
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: e.Authorities}
		d.transport.TLSClientConfig = options.TLS
	}
	var err error
	if d.Conn, err = clickhouse.Open(options); err != nil {
		return nil, fmt.Errorf("connect to ClickHouse %s: %w", e.Address, err)
	}
	return d, nil
}

// Close ends the connection.
func (d *database) Close() error {
	defer d.transport.CloseIdleConnections()
	return d.Conn.Close()
}

// Connect prepares a connection for what is not an insert of batches.
func Connect(e Endpoint, connections int) (driver.Conn, error) {
	d, err := open(e, connections)
	if err != nil {
		return nil, err // not d: an interface that holds nil is not nil
	}
	return d, nil
}

type summaryKey struct{}

type statementKey struct{}

// restated puts the statement of an insert in the place of the client's, which knows of none with a SELECT. The client may
// greet ClickHouse by the same context: that stays as it is.
func restated(r *http.Request) *http.Request {
	statement, ok := r.Context().Value(statementKey{}).(string)
	query := r.URL.Query()
	if !ok || !strings.HasPrefix(query.Get("query"), "INSERT INTO ") {
		return r
	}
	r = r.Clone(r.Context())
	query.Set("query", statement)
	r.URL.RawQuery = query.Encode()
	return r
}

// summaryReader keeps ClickHouse's own count of what a query wrote, which the client does not hand
// on: the header X-ClickHouse-Summary.
type summaryReader struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (s summaryReader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = restated(r)
	response, err := s.next.RoundTrip(withTrace(r))
	if err != nil {
		return nil, err
	}
	if written, ok := r.Context().Value(summaryKey{}).(*int64); ok {
		*written = writtenRows(response.Header.Get("X-ClickHouse-Summary"))
	}
	return response, nil
}

// writtenRows is the count in the header; -1 if it is not there.
func writtenRows(header string) int64 {
	var summary struct {
		WrittenRows string `json:"written_rows"`
	}
	if json.Unmarshal([]byte(header), &summary) != nil {
		return -1
	}
	n, err := strconv.ParseInt(summary.WrittenRows, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// insertBy is insert with a statement of its own in the place of the one for the table, and its FORMAT.
func (d *database) insertBy(ctx context.Context, statement, table, format, queryID, token string, body io.Reader) (written int64, err error) {
	return d.insert(context.WithValue(ctx, statementKey{}, statement), table, format, queryID, token, body)
}

// insert sends one body of a format and returns how many rows ClickHouse says it wrote.
func (d *database) insert(ctx context.Context, statement, format, queryID, token string, body io.Reader) (written int64, err error) {
	written = -1
	settings := clickhouse.Settings{"insert_deduplication_token": token}
	maps.Copy(settings, strict)
	ctx = context.WithValue(ctx, summaryKey{}, &written)
	ctx = clickhouse.Context(ctx, clickhouse.WithQueryID(queryID), clickhouse.WithSettings(settings))
	err = d.InsertFormat(ctx, format, statement, body)
	return written, err
}

// refused are the codes by which ClickHouse says that the data does not fit: trying again is useless.
var refused = map[int32]bool{
	6: true, 27: true, 33: true, 44: true, 47: true, 50: true, 53: true, 69: true, 70: true, 72: true, 117: true,
	131: true, 321: true, 349: true, 469: true, 636: true,
}

// isRefusal tells that the server looked at the data and will not have it.
func isRefusal(err error) bool {
	var exception *clickhouse.Exception
	return errors.As(err, &exception) && refused[exception.Code]
}

// refusesRows tells that the table itself will not have the rows.
func refusesRows(err error) bool { return isRefusal(err) && !inView(err) }

// isTooMuch tells that ClickHouse had to give up on the amount: memory, time, rows or bytes.
func isTooMuch(err error) bool {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	switch exception.Code {
	case 158, 159, 160, 173, 241, 290, 307, 396:
		return true
	default:
		return false
	}
}

// final tells that ClickHouse answered and waiting will not help: wrong password, missing rights, no
// such database.
func final(err error) bool {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	switch exception.Code {
	case 81, 192, 193, 194, 497, 516:
		return true
	default:
		return false
	}
}
