// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/catalog"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/embedded"
	"github.com/gpufleet/gpufleet/internal/query"
	"github.com/gpufleet/gpufleet/schema"
)

func newSchema() *cobra.Command {
	var place placeFlags
	var format, database string
	var check bool
	c := &cobra.Command{
		Use:   "schema [TABLE]",
		Short: "List the tables and views, the columns of one, or compare a database with them",
		Long: "schema shows the tables and views of this version: columns, types, units, meanings. With --check it\n" +
			"compares a database with them, changes nothing, and ends with 3 if they differ.",
		Example: "  gpufleet schema\n  gpufleet schema fleet_samples\n  gpufleet schema --format sql > gpufleet.sql\n" +
			"  gpufleet schema --check --clickhouse https://reader@ch.example:8443/gpufleet",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if check {
				if len(args) > 0 {
					return errors.New("--check compares the whole database: leave the table out")
				}
				return checkSchema(c.Context(), c.OutOrStdout(), place.found())
			}
			write := func(w io.Writer) error {
				return catalog.WriteList(w, catalog.Objects(), catalog.Format(format), database)
			}
			if len(args) > 0 {
				object, err := catalog.Find(args[0])
				if err != nil {
					return err
				}
				write = func(w io.Writer) error { return object.Write(w, catalog.Format(format), database) }
			}
			if catalog.Format(format) != catalog.Text {
				return write(c.OutOrStdout())
			}
			return writeProse(c, write)
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", string(catalog.Text), "table, sql (statements that make them) or md")
	f.StringVar(&database, "database", embedded.Database, "name of the database in the statements")
	f.BoolVar(&check, "check", false, "compare a database with this version")
	place.add(c)
	c.AddCommand(newSchemaApply())
	return c
}

func checkSchema(ctx context.Context, w io.Writer, place clickhouseclient.Place) (err error) {
	conn, err := place.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	differences, err := catalog.Compare(ctx, conn, conn.Endpoint.Database)
	if err != nil {
		return query.Explain(conn.Endpoint.Explain(err), "")
	}
	if len(differences) == 0 {
		_, err := fmt.Fprintf(w, "%s agrees with schema version %d\n", conn.Endpoint, schema.Version)
		return err
	}
	for _, d := range differences {
		fmt.Fprintln(w, d)
	}
	if _, err := fmt.Fprintf(w, "%d differences; a collector of this version makes what is missing when it starts\n", len(differences)); err != nil {
		return err
	}
	return errFound
}
