// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Select scans the rows of a query into a slice of structs. It writes nothing, and ends within QueryTimeout.
func (s *Store) Select(ctx context.Context, into any, query string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithQueryID(s.queryID("ask")), clickhouse.WithSettings(clickhouse.Settings{"readonly": 2}))
	return s.cfg.Endpoint.explain(s.db.Conn.Select(ctx, into, query))
}
