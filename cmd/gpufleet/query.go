// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gpufleet/gpufleet/internal/query"
)

func newQuery() *cobra.Command {
	var format string
	var place placeFlags
	c := &cobra.Command{
		Use:   "query 'SQL'",
		Short: "Ask ClickHouse in SQL; `gpufleet schema` says what there is to ask",
		Long: "query runs one SQL query and writes the answer as it comes. It only reads. Without --clickhouse it asks\n" +
			"the `gpufleet up` of --data; where none runs it starts the embedded ClickHouse on that data for the query.",
		Example: "  gpufleet query 'SELECT * FROM fleet_now'\n" +
			"  gpufleet query 'SELECT ts, kind, message FROM fleet_events ORDER BY ts DESC LIMIT 20' --format JSONEachRow\n" +
			"  gpufleet query - < report.sql > report.tsv",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%d arguments: give one query, in quotes, or - for standard input", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			sql, err := statement(args[0], c.InOrStdin())
			if err != nil {
				return err
			}
			sql, clause := query.Split(sql)
			if clause != "" && c.Flags().Changed("format") {
				return errors.New("the format is given twice: by --format and in the query")
			}
			if clause != "" {
				format = clause
			}
			conn, err := place.connect(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			return conn.Endpoint.Explain(query.Run(c.Context(), conn, sql, format, c.OutOrStdout()))
		},
	}
	c.Flags().StringVar(&format, "format", defaultFormat(), "any output format of ClickHouse")
	place.add(c)
	return c
}

// statement is the argument, or what comes on standard input.
func statement(argument string, in io.Reader) (string, error) {
	if argument != "-" {
		return argument, nil
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return "", fmt.Errorf("read the query: %w", err)
	}
	return string(text), nil
}

func defaultFormat() string {
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return query.FormatTerminal
	}
	return query.FormatPipe
}
