// SPDX-License-Identifier: Apache-2.0

// Package query runs one SQL query for a person at a prompt: it only reads, hands the answer on as it
// comes, and says in one line what was wrong.
package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gpufleet/gpufleet/internal/clickhouseerror"
)

// Formats where none is asked for.
const (
	FormatTerminal = "PrettyCompactMonoBlock"
	FormatPipe     = "TSVWithNames"
)

// formatClause is a FORMAT clause at the end, as people are used to write it.
var formatClause = regexp.MustCompile(`(?is)\sFORMAT\s+([A-Za-z][A-Za-z0-9]*)$`)

// Split takes the semicolon and the FORMAT clause off the end of a query. The format is empty if there
// is none.
func Split(sql string) (text, format string) {
	text = strings.TrimRight(sql, "; \t\r\n")
	match := formatClause.FindStringSubmatchIndex(text)
	if match == nil {
		return text, ""
	}
	format = text[match[2]:match[3]]
	if word := strings.ToLower(format); word == "asc" || word == "desc" {
		return text, "" // ORDER BY format DESC
	}
	return strings.TrimSpace(text[:match[0]]), format
}

// Run asks and writes the answer in the format, as it comes. Nothing can be written with it, whoever the
// user is. An error of the query is one line for a person, one of the connection is for its owner to explain; what came
// before it has been written.
func Run(ctx context.Context, conn driver.Conn, sql, format string, w io.Writer) error {
	if sql == "" {
		return errors.New("the query is empty")
	}
	var mode string
	if err := conn.QueryRow(ctx, "SELECT toString(getSetting('readonly'))").Scan(&mode); err != nil {
		return Explain(err, "")
	}
	if mode == "0" {
		// 2: it may change settings, but neither data nor this one.
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"readonly": 2}))
	}
	answer, err := conn.QueryFormat(ctx, format, sql)
	if err != nil {
		return Explain(err, sql)
	}
	defer answer.Close()
	if _, err := io.Copy(w, answer); err != nil {
		return Explain(err, sql)
	}
	return nil
}

func explained(cause error, format string, args ...any) error {
	return &clickhouseerror.Error{What: fmt.Sprintf(format, args...), Cause: cause}
}
