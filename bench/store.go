// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/embedded"
)

const samplesTable = "gpu_samples"

// store is a ClickHouse with nothing in it.
type store struct {
	server *embedded.Server
	db     driver.Conn
	client *http.Client // keeps its connection, as a dashboard does
}

func startStore(ctx context.Context, dir string) (*store, error) {
	server, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "clickhouse")})
	if err != nil {
		return nil, err
	}
	s := &store{server: server, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	if s.db, err = connect(server.Writer()); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return s, nil
}

func (s *store) close() {
	s.client.CloseIdleConnections()
	_ = s.db.Close()
	_ = s.server.Close() // its data goes with the directory
}

// ask has a query answered in a database, as ClickHouse answers anybody: as tab-separated lines, unless it names a format.
// It answers its Go client with more than it takes in an insert.
func (s *store) ask(ctx context.Context, database, query string) ([]byte, error) {
	e := s.server.Writer()
	target := "http://" + e.HTTPAddress() + "/?default_format=TSV&database=" + url.QueryEscape(database)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(query))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(e.User, e.Password)
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", response.Status, text)
	}
	return text, err
}

// merge merges a table as far as it goes: what it takes on disk in the end.
func (s *store) merge(ctx context.Context, database, table string) error {
	if err := s.db.Exec(ctx, "OPTIMIZE TABLE "+database+"."+table+" FINAL"); err != nil {
		return fmt.Errorf("merge %s: %w", table, err)
	}
	return nil
}

// weight is what the active parts of a table take, or of all tables.
type weight struct{ parts, bytes, rows uint64 }

// weigh weighs a table, or all of a database if none is named.
func (s *store) weigh(ctx context.Context, database, table string) (w weight, err error) {
	query := "SELECT count(), sum(bytes_on_disk), sum(rows) FROM system.parts WHERE active AND database = '" + database + "'"
	if table != "" {
		query += " AND table = '" + table + "'"
	}
	if err := s.db.QueryRow(ctx, query).Scan(&w.parts, &w.bytes, &w.rows); err != nil {
		return w, fmt.Errorf("weigh %s.%s: %w", database, table, err)
	}
	return w, nil
}
