// SPDX-License-Identifier: Apache-2.0

package clickhousetest

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

// Options are those of a clickhouse-go connection over HTTP to an endpoint.
func Options(e embedded.Endpoint) *clickhouse.Options {
	return &clickhouse.Options{
		Protocol:    clickhouse.HTTP,
		Addr:        []string{e.HTTPAddress()},
		Auth:        clickhouse.Auth{Database: e.Database, Username: e.User, Password: e.Password},
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
		DialTimeout: 10 * time.Second,
		ReadTimeout: 5 * time.Minute,
		// Shorter than the server's keep-alive, so that it is always the client who closes an idle connection.
		ConnMaxLifetime: 10 * time.Minute,
	}
}

// Open connects clickhouse-go to an endpoint over HTTP, and closes the connection at the end of the test.
func Open(t testing.TB, e embedded.Endpoint) driver.Conn {
	t.Helper()
	return open(t, e, nil)
}

// OpenUncompiled is Open without compilation of expressions, which takes longer than a test's few rows.
func OpenUncompiled(t testing.TB, e embedded.Endpoint) driver.Conn {
	t.Helper()
	return open(t, e, clickhouse.Settings{"compile_expressions": 0, "compile_aggregate_expressions": 0})
}

func open(t testing.TB, e embedded.Endpoint, settings clickhouse.Settings) driver.Conn {
	t.Helper()
	options := Options(e)
	options.Settings = settings
	connection, err := clickhouse.Open(options)
	if err != nil {
		t.Fatalf("clickhousetest: connect to %v: %v", e, err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Errorf("clickhousetest: close connection to %v: %v", e, err)
		}
	})
	return connection
}
