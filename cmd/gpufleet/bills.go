// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/bills"
	"github.com/gpufleet/gpufleet/internal/query"
)

func newBills() *cobra.Command {
	c := &cobra.Command{
		Use:   "bills",
		Short: "Import what providers charge, and see how far the live cost was off",
		Long: "bills reads exports in FOCUS 1.0 to 1.3, the format in which all great providers tell what they charge. What a\n" +
			"machine was charged is joined with its node by the id of the instance: the true-up of the live cost.",
		Example: "  gpufleet bills import focus-2026-10.csv\n  gpufleet bills drift\n  gpufleet query \"SELECT * FROM bill_machines\"",
	}
	c.AddCommand(newBillsImport(), newBillsDrift())
	return c
}

func newBillsImport() *cobra.Command {
	var place placeFlags
	var dryRun bool
	c := &cobra.Command{
		Use:   "import FILE...",
		Short: "Read bills in FOCUS, check each row, and store them",
		Long: "import reads bills: .csv, .csv.gz or .parquet, of one or several months, providers and accounts. All files of one\n" +
			"command are one import: name all parts of an export together. A month that was imported before is replaced; the\n" +
			"same rows again are not stored again. A row that cannot count is in bill_quarantine with its reasons; what is odd\n" +
			"about one that counts is noted by name. It ends with 4 if no row can count.",
		Example: "  gpufleet bills import focus-2026-10.csv\n  gpufleet bills import part-0.parquet part-1.parquet\n  gpufleet bills import export.csv.gz --dry-run",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) (err error) {
			progress := func(rows int) { fmt.Fprintf(c.ErrOrStderr(), "%d rows\n", rows) }
			if dryRun {
				summaries, err := bills.Scan(c.Context(), files, progress)
				if err != nil {
					return err
				}
				stored := make([]bills.Stored, len(summaries))
				for i, s := range summaries {
					stored[i].Summary = s
				}
				return writeBills(c.OutOrStdout(), stored, "not stored: a dry run")
			}
			to := place.found()
			to.Write = true
			conn, err := to.Connect(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			stored, err := bills.Import(c.Context(), conn, files, time.Now().UTC().Truncate(time.Millisecond), progress)
			if err != nil {
				return query.Explain(conn.Endpoint.Explain(err), "")
			}
			return writeBills(c.OutOrStdout(), stored, "stored")
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "check, and store nothing")
	place.add(c)
	return c
}

// writeBills says what came of each month.
func writeBills(w io.Writer, stored []bills.Stored, became string) error {
	var text strings.Builder
	usable := 0
	for _, s := range stored {
		usable += s.Rows
		if s.Unchanged {
			became = "known already, row by row"
		}
		fmt.Fprintf(&text, "%s: %d rows count (%s), %d of them of machines, %d in quarantine\n", s.Month, s.Rows, became, s.Machines, s.Quarantined)
		for _, currency := range s.Currencies() {
			fmt.Fprintf(&text, "  cost %s %s, invoiced %s\n", s.Cost[currency], currency, s.Billed[currency])
		}
		for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
			fmt.Fprintf(&text, "  quarantined %7d  %s\n", s.Reasons[reason], reason)
		}
		for _, note := range slices.Sorted(maps.Keys(s.Notes)) {
			fmt.Fprintf(&text, "  noted       %7d  %s\n", s.Notes[note], note)
		}
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	if usable == 0 {
		return errNothing
	}
	return nil
}

func newBillsDrift() *cobra.Command {
	var place placeFlags
	var format string
	var most float64
	c := &cobra.Command{
		Use:   "drift",
		Short: "Say by provider and month how far what was charged is from what it was thought to cost",
		Long: "drift compares what machines were charged with the prices that were known for them (bill_drift, and machine by\n" +
			"machine bill_machines). Above 0 the live cost was too low. With --most it ends with 3 if a drift is larger, and\n" +
			"with 4 if there is nothing to compare.",
		Example: "  gpufleet bills drift\n  gpufleet bills drift --most 5",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			conn, err := place.connect(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, conn.Close()) }()
			const sql = "SELECT * FROM bill_drift ORDER BY billing_period_start DESC, provider, currency"
			if err := query.Run(c.Context(), conn, sql, format, c.OutOrStdout()); err != nil || most <= 0 {
				return conn.Endpoint.Explain(err)
			}
			var compared, larger uint64
			err = conn.QueryRow(c.Context(), "SELECT countIf(drift_percent IS NOT NULL), countIf(abs(drift_percent) > ?) FROM bill_drift", most).Scan(&compared, &larger)
			switch {
			case err != nil:
				return conn.Endpoint.Explain(err)
			case compared == 0:
				return errNothing
			case larger > 0:
				return errFound
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", defaultFormat(), "any output format of ClickHouse")
	c.Flags().Float64Var(&most, "most", 0, "drift, in percent and in either direction, that is no finding; 0: none is")
	place.add(c)
	return c
}
