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

// ask has a query answered as tab-separated lines, in a database.
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

// diskBytes merges a table as far as it goes and weighs it.
func (s *store) diskBytes(ctx context.Context, database, table string) (bytesOnDisk, rows uint64, err error) {
	if err := s.db.Exec(ctx, "OPTIMIZE TABLE "+database+"."+table+" FINAL"); err != nil {
		return 0, 0, fmt.Errorf("merge %s: %w", table, err)
	}
	query := fmt.Sprintf("SELECT sum(bytes_on_disk), sum(rows) FROM system.parts WHERE database = '%s' AND table = '%s' AND active", database, table)
	if err := s.db.QueryRow(ctx, query).Scan(&bytesOnDisk, &rows); err != nil {
		return 0, 0, fmt.Errorf("weigh %s: %w", table, err)
	}
	return bytesOnDisk, rows, nil
}
