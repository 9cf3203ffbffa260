// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gpufleet/gpufleet/internal/audit"
	"github.com/gpufleet/gpufleet/internal/clickhouseclient"
	"github.com/gpufleet/gpufleet/internal/query"
)

func newAudit() *cobra.Command {
	var place placeFlags
	var asJSON, all bool
	var period time.Duration
	c := &cobra.Command{
		Use:   "audit",
		Short: "Prove that every batch is stored once: what was lost, what was stored twice",
		Long: "audit holds the collectors' ledger against the rows in the tables, for each agent: batches sent, stored,\n" +
			"quarantined, lost and duplicated, and the gaps in their numbers. What was recorded within the last minute is\n" +
			"left out, as more may be on its way. It ends with 3 if anything was lost or duplicated, and with 4 if there\n" +
			"was nothing to audit: then nothing is proved. In JSON \"verdict\" is \"clean\", \"found\" or \"nothing\";\n" +
			"\"agents\", \"batches\", \"since\" and \"until\" say what was looked at, \"on_their_way\" what was left out.",
		Example: "  gpufleet audit --since 168h\n  gpufleet audit --json | jq .lost",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if period <= 0 {
				return errors.New("--since: give a time that has passed, such as 24h")
			}
			report, err := runAudit(c.Context(), place.found(), audit.Options{Since: time.Now().Add(-period), All: all})
			if err != nil {
				return err
			}
			if err := writeReport(c, report, asJSON); err != nil {
				return err
			}
			switch report.Verdict {
			case audit.Found:
				return errFound
			case audit.Nothing:
				return errNothing
			default:
				return nil
			}
		},
	}
	f := c.Flags()
	f.DurationVar(&period, "since", audit.DefaultPeriod, "audit what was recorded in this time")
	f.BoolVar(&asJSON, "json", false, "print one line of JSON")
	f.BoolVar(&all, "all", false, "list the agents without findings, too")
	place.add(c)
	return c
}

func runAudit(ctx context.Context, place clickhouseclient.Place, opts audit.Options) (report audit.Report, err error) {
	conn, err := place.Connect(ctx)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if conn.Running {
		opts.Settle = audit.DefaultSettle
	}
	report, err = audit.Run(ctx, conn, opts)
	if err != nil {
		return report, query.Explain(conn.Endpoint.Explain(err), "")
	}
	return report, nil
}

// report is what a checking command found.
type report interface {
	WriteJSON(w io.Writer) error
	WriteText(w io.Writer) error
}

func writeReport(c *cobra.Command, r report, asJSON bool) error {
	if asJSON {
		return r.WriteJSON(c.OutOrStdout())
	}
	return writeProse(c, r.WriteText)
}
