// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// A materialized view on one of our tables is part of each insert, whoever made it. When it throws, ClickHouse answers
// with an error, and has most often committed the rows to the table already: they are settled, and missing in the view.
// When it cannot even begin (the view's own table is gone) nothing lands, and the unit is tried until somebody mends or
// detaches the view; the agents keep the batches until then. Other tables go on.

var (
	pushedTo   = regexp.MustCompile(`while pushing to view (\S+)`)
	targetGone = regexp.MustCompile(`Target table '([^']+)' of view '`)
)

// inView tells that a materialized view did not take the rows. ClickHouse has then often committed them to the table
// already.
func inView(err error) bool {
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	return ok && (pushedTo.MatchString(exception.Message) || targetGone.MatchString(exception.Message))
}

// viewOf names the view that did not take the rows. Where only its table is known, ClickHouse is asked whose that is.
func (l *lane) viewOf(ctx context.Context, err error) string {
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	if !ok {
		return ""
	}
	if found := pushedTo.FindStringSubmatch(exception.Message); found != nil {
		return strings.TrimSuffix(found[1], ".")
	}
	found := targetGone.FindStringSubmatch(exception.Message)
	if found == nil {
		return ""
	}
	view, err := l.viewInto(ctx, found[1])
	if err != nil || view == "" {
		return "one that writes into " + found[1]
	}
	return view
}

// viewInto finds the materialized views on our table that write into another one.
func (l *lane) viewInto(ctx context.Context, target string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.QueryTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"database": l.db.name, "table": l.table.Name, "target": target}))
	var views []struct {
		Name string `ch:"name"`
	}
	err := l.db.Select(ctx, &views, `SELECT concat(v.database, '.', v.name) AS name
FROM system.tables AS v
WHERE v.engine = 'MaterializedView' AND position(v.create_table_query, concat(' TO ', {target:String}, ' ')) > 0
  AND (v.database, v.name) IN (
    SELECT arrayJoin(arrayZip(dependencies_database, dependencies_table)) FROM system.tables WHERE database = {database:String} AND name = {table:String})
ORDER BY name`)
	names := make([]string, len(views))
	for i, v := range views {
		names[i] = v.Name
	}
	return strings.Join(names, ", "), err
}

// viewFailed tells of a view that did not take a unit's rows, in one line with what helps. landed is how many of its
// batches are in the table.
func (l *lane) viewFailed(ctx context.Context, u *unit, landed int, err error) {
	view := l.viewOf(ctx, err)
	l.metrics.viewFailed(ctx, l.table.Name, view)
	logger := l.cfg.Logger.With("view", view, "table", l.table.Name, "batches", len(u.items), "landed", landed, "error", err,
		"help", "mend the view, or DETACH VIEW "+view+"; docs/operations.md says how it is filled up")
	if landed == 0 {
		logger.Error("a materialized view keeps ClickHouse from taking the rows; trying again")
		return
	}
	logger.Error("a materialized view does not take the rows; they are in the table, and missing in the view")
}
